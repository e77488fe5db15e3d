#!/bin/sh
# The demo of many hosts: a PostgreSQL server and an S3 server on this machine, and three "hosts", which are processes
# with a directory each. They share 200 sources; one is killed, one is stopped and continued; at the end everything is
# there once, which is proved. It takes two minutes. `make demo-hosts` runs it.
# It works in a temporary directory and deletes it at the end; `KEEP=1 make demo-hosts` keeps it.
set -eu
programs=$(cd "$(dirname "$0")/demo" && pwd)
bin=$(cd "${BIN:-.venv/bin}" && pwd)

PATH=$bin:$PATH
no_proxy=127.0.0.1
NO_PROXY=$no_proxy
AWS_ACCESS_KEY_ID=demo
AWS_SECRET_ACCESS_KEY=only-for-the-demo
AWS_DEFAULT_REGION=us-east-1
AWS_CONFIG_FILE=/dev/null
AWS_SHARED_CREDENTIALS_FILE=/dev/null
export PATH no_proxy NO_PROXY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION
export AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE
unset MANIFESTLOG_DIR

work=$(mktemp -d "${TMPDIR:-/tmp}/manifestlog-hosts.XXXXXX")
chmod 711 "$work" # if this is root, the database server runs as another user, who must be able to enter it
servers=
clean_up() {
    trap '' HUP INT TERM # a second Ctrl-C must not interrupt the clean-up
    for server in $servers; do kill "$server" 2>/dev/null || true; done
    for server in $servers; do wait "$server" || true; done
    cd /
    if [ -z "${KEEP:-}" ]; then rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"

say() { printf '\n# %s\n' "$@"; }
short() { sed "s|$work/|…/|g" "$@" | cut -c1-100; }
# The first line that a server prints: its URL.
url_of() {
    read -r url <"$1"
    echo "$url"
}

say "A server publishes 200 files; twenty are copies of others. Each takes 0.3 s."
python "$programs/dumps.py" make site
mkfifo site.url store.url database.url
python "$programs/serve.py" site --body-s 0.3 >site.url 2>served &
servers="$servers $!"
site=$(url_of site.url)

say "An object store (SeaweedFS, which speaks S3) has the bucket galaxy."
mkdir store
python "$programs/store.py" store >store.url &
servers="$servers $!"
AWS_ENDPOINT_URL_S3=$(url_of store.url)
export AWS_ENDPOINT_URL_S3
echo "$AWS_ENDPOINT_URL_S3"

say "A PostgreSQL server for development holds the manifest."
echo "\$ manifestlog serve --dev database"
manifestlog serve --dev --quiet database >database.url &
servers="$servers $!"
database=$(url_of database.url)
echo "$database" | short

say "All hosts have one configuration (the first of its 200 sources)."
python "$programs/hosts.py" config site --url "$site" --database "$database" --data s3://galaxy/raw \
    --file etl.config.json
head -n 15 etl.config.json | short

python "$programs/hosts.py" share etl.config.json

say "What one source came to, as any host sees it."
echo "\$ manifestlog get galaxy_download --source bodies-001"
manifestlog --dir "$database" get galaxy_download --source bodies-001

say "Everything is there, once:"
python "$programs/hosts.py" prove etl.config.json

if [ -n "${KEEP:-}" ]; then say "All files are in $work."; else say "The files of the demo are deleted."; fi
