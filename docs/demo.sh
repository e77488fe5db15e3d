#!/bin/sh
# The demo: four processes fill one manifest with the real files of Python's standard library. Run by `make demo`.
set -eu
bin=${BIN:-.venv/bin}
name=stdlib_download

say() { printf '\n# %s\n' "$*"; }
run() { printf '$ manifestlog %s\n' "$(echo "$*" | sed "s|$library|…|g" | cut -c1-150)"; "$bin/manifestlog" "$@"; }

library=$("$bin/python" -c 'import json, os; print(os.path.dirname(os.path.dirname(json.__file__)))')
folders=
for folder in asyncio collections concurrent ctypes email encodings html http importlib json lib-dynload logging \
    multiprocessing re sqlite3 tkinter unittest urllib xml; do
    if [ -d "$library/$folder" ]; then folders="$folders $library/$folder"; fi
done
rm -f manifests/$name.manifest.*

say "Four processes share one manifest: each opens it, hashes files and adds for itself."
say "(Files without a byte are no content: they are named, the rest goes on, and the exit code is 1.)"
# shellcheck disable=SC2086
run add $name $folders --jobs 4 || [ $? -eq 1 ]

say "The same again: everything is known, nothing is written."
# shellcheck disable=SC2086
run add $name $folders --jobs 4 --quiet --json || [ $? -eq 1 ]

say "Compact (there is nothing left to merge: the last writer to close has done it) and look."
run compact $name
run status

say "The canonical file: plain JSON, one record a line, sorted by checksum."
head -n 14 manifests/$name.manifest.json | cut -c1-150

say "Ask for one source."
run get $name --source decoder.py --dataset json

say "Ask for one content."
checksum=$("$bin/manifestlog" --json get $name --source decoder.py --dataset json | "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)["checksum"])')
run has $name "$checksum" && echo "known (exit 0)"
