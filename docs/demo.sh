#!/bin/sh
# The demo: four processes fetch 200 files from a server on this machine, three times. `make demo` runs it.
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
short() { sed "s|$start/.demo/||g" "$1" | cut -c1-150; }
run() {
    show "$@"
    "$@" >output
    short output
}

# A terminal shows the live display. Elsewhere, print three of the 200 lines, or all of them if the run fails.
extract() {
    if [ -t 2 ]; then
        run manifestlog extract etl.config.json
        return
    fi
    show manifestlog extract etl.config.json
    manifestlog extract etl.config.json >output 2>lines || { cat lines >&2 && exit 1; }
    { grep -v ': unchanged$' lines || cat lines; } | head -n 3 >some
    short some
    echo "… one line per source, $(wc -l <lines | tr -d ' ') in total, then the summary:"
    cat output
}

say "A server publishes 200 files about a galaxy: systems, bodies, stations, prices. Twenty are copies of others."
python "$programs/dumps.py" make site
mkfifo url
python "$programs/serve.py" site >url 2>served &
server=$!
read -r url <url

say "The configuration names the directories, the manifest and the sources (the first of 200)."
python "$programs/dumps.py" config site --url "$url" --file etl.config.json --manifests manifests --data data/raw
run head -n 12 etl.config.json

say "First run: four processes share the list and one manifest. A copy is stored once, as an alias."
extract

say "Second run: the server is asked for changes of each source. There are none, so it sends no file."
extract

say "The publisher replaces three files."
python "$programs/dumps.py" change site

say "Third run: these three are fetched. The old files stay beside the new ones."
extract

say "Merge the log into the canonical file. (The last process has done so on closing; nothing is left to merge.)"
run manifestlog compact
run manifestlog status

say "The canonical file is JSON, one record per line, sorted by checksum."
run head -n 11 manifests/galaxy_download.manifest.json

say "Get the latest record of one source."
run manifestlog get galaxy_download --source bodies-001 --dataset bodies

say "Get one content: a file that two sources deliver is stored once."
checksum=$(manifestlog list galaxy_download --source bodies-009 | cut -f1)
run manifestlog get galaxy_download --checksum "$checksum"

say "Trace a file back to its address: what it is, and when it came from where."
run manifestlog trace --source bodies-001 --dataset bodies --up

say "The log has the three runs: when each began and ended, and what came of it."
run manifestlog log galaxy_download --kind begun --kind ended

kill "$server"
wait "$server"
server=
say "The server counted 3 × 200 requests, and sent 200 + 0 + 3 files."
cat served
if [ -n "${KEEP:-}" ]; then say "All files are in .demo."; else say "The files of the demo in .demo are deleted."; fi
