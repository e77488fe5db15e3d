#!/bin/sh
# The demo: 200 files from a server on this machine are downloaded, validated, transformed by four processes, one of which
# is killed, and loaded into DuckDB and SQLite; then again, when nothing and little has changed. `make demo` runs it.
# It works in .demo and deletes it at the end; `KEEP=1 make demo` keeps it.
set -eu
programs=$(cd "$(dirname "$0")/demo" && pwd)
bin=$(cd "${BIN:-.venv/bin}" && pwd)

PATH=$bin:$PATH
no_proxy=127.0.0.1
NO_PROXY=$no_proxy
export PATH no_proxy NO_PROXY
unset MANIFESTLOG_DIR

start=$(pwd)
server=
clean_up() {
    trap '' HUP INT TERM # a second Ctrl-C must not interrupt the clean-up
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    cd "$start"
    if [ -z "${KEEP:-}" ]; then rm -rf .demo; fi
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
rm -rf .demo
mkdir .demo
cd .demo

say() { printf '\n# %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; }
short() { sed "s|$start/.demo/||g" "$1" | cut -c1-190; }
run() {
    show "$@"
    "$@" >output
    short output
}

# A terminal shows the live display. Elsewhere, print the first line of each step, or all of them if the run fails.
pipeline() {
    if [ -t 2 ]; then
        run manifestlog run etl.config.json
        return
    fi
    show manifestlog run etl.config.json
    manifestlog run etl.config.json >output 2>lines || { cat lines >&2 && exit 1; }
    { grep -v ': unchanged$' lines || cat lines; } | awk -F': ' '{ step = NF > 3 ? $2 : "" } !seen[step]++' >some
    short some
    echo "… one line per source and file, $(wc -l <lines | tr -d ' ') in total, then the summary:"
    short output
}

say "A server publishes 200 files about a galaxy: systems, bodies, stations, prices. Twenty are copies of others."
python "$programs/dumps.py" make site
mkfifo url
python "$programs/serve.py" site >url 2>served &
server=$!
read -r url <url

say "The configuration names the stages, and the sources (the first of 200). The programs are yours."
cp "$programs/checks.py" "$programs/flatten.py" "$programs/warehouse.py" .
python "$programs/dumps.py" config site --url "$url" --file etl.config.json --manifests manifests --data data/raw \
    --stages "$programs/stages.json"
run head -n 14 etl.config.json

say "First run: download, validate, transform, load into DuckDB and SQLite. In the middle, a process is killed (kill -9)."
echo prices-143 >kill-a-worker
pipeline
[ -e kill-a-worker ] || echo "(a worker was killed, and its file was done by another one)"
run python warehouse.py count

say "Second run: nothing has changed, so nothing is done."
pipeline

say "The publisher replaces three files. Third run: these three are done all the way, and replace their rows."
python "$programs/dumps.py" change site
pipeline
run python warehouse.py count

say "The state of each step."
run manifestlog status --config etl.config.json

say "Which row is this, and where does it come from?"
run python warehouse.py row bodies-001
checksum=$(cut -f4 output)
run manifestlog trace "$checksum" --up

kill "$server"
wait "$server"
server=
say "The server counted 3 × 200 requests, and sent 200 + 0 + 3 files."
cat served
if [ -n "${KEEP:-}" ]; then say "All files are in .demo."; else say "The files of the demo in .demo are deleted."; fi
