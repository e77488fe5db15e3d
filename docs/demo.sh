#!/bin/sh
# The demo: four processes fetch 200 dump files from a server on this machine, three times. Run by `make demo`.
# Everything lies in .demo, which is gone at the end; `KEEP=1 make demo` leaves it to look at.
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
    trap '' HUP INT TERM # a second Ctrl-C leaves nothing behind either
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
short() { sed "s|$start/.demo/||g" "$1" | cut -c1-150; }
run() {
    show "$@"
    "$@" >output
    short output
}

# On a terminal there is the live display. Elsewhere there would be 200 lines: three of them will do, unless it fails.
extract() {
    if [ -t 2 ]; then
        run manifestlog extract etl.config.json
        return
    fi
    show manifestlog extract etl.config.json
    manifestlog extract etl.config.json >output 2>lines || { cat lines >&2 && exit 1; }
    { grep -v ': unchanged$' lines || cat lines; } | head -n 3 >some
    short some
    echo "… one line a source, $(wc -l <lines | tr -d ' ') in all, and the sum:"
    cat output
}

say "A server with 200 dump files of a galaxy: systems, bodies, stations, prices. Twenty are copies of others."
python "$programs/dumps.py" make site
mkfifo url
python "$programs/serve.py" site >url 2>served &
server=$!
read -r url <url

say "The job: where files and manifest go, and what to fetch (the first source of 200)."
python "$programs/dumps.py" config site --url "$url" --file etl.config.json --manifests manifests --data data/raw
run head -n 14 etl.config.json

say "First run: four processes share the list and one manifest. A copy is not kept twice: it is an alias."
extract

say "Second run: each source is asked whether it has changed. None has, so no file is sent."
extract

say "The publisher brings out three of them anew."
python "$programs/dumps.py" change site

say "Third run: these three are fetched. What was there before stays beside them."
extract

say "The log goes into the canonical file. (The last process that closed has done it: nothing is left to merge.)"
run manifestlog compact
run manifestlog status

say "That file is plain JSON, one record a line, sorted by checksum."
run head -n 13 manifests/galaxy_download.manifest.json

say "Ask for one source: the latest of it."
run manifestlog get galaxy_download --source bodies-001 --dataset bodies

say "Ask for one content: a file that two sources have is kept once."
checksum=$(manifestlog list galaxy_download --source bodies-009 | cut -f1)
run manifestlog get galaxy_download --checksum "$checksum"

kill "$server"
wait "$server"
server=
say "What the server counted in the three runs: 3 × 200 requests, and 200 + 0 + 3 files that it sent."
cat served
if [ -n "${KEEP:-}" ]; then say "Everything is left in .demo."; else say "Everything lay in .demo, and is gone now."; fi
