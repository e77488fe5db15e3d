#!/bin/sh
# The demo: four processes fill one manifest with the real files of Python's standard library.
set -eu
bin=${BIN:-.venv/bin}
manifest=stdlib_download
library=$("$bin/python" -c 'import json, os; print(os.path.dirname(json.__path__[0]))')

say() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
run() { say "\$ manifestlog $*"; "$bin/manifestlog" "$@"; }

rm -f manifests/$manifest.manifest.*
# Files of no bytes are no records: they are reported, and the exit code says so.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find "$library" -name site-packages -prune -o -name __pycache__ -prune -o -type f -size +0c -print | sed "s|^$library/||" \
    | (cd "$library" && cpio --quiet -pdl "$work/stdlib" 2>/dev/null || true)
