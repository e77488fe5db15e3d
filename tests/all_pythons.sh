#!/bin/sh
# Runs the test suite under every Python from 3.11 on that this machine has; `make test-all`.
set -eu
cd "$(dirname "$0")/.."
found=$( {
    for name in python3.11 python3.12 python3.13 python3.14 python3.15; do
        command -v $name 2>/dev/null && true
        for home in "$HOME"/.pyenv/versions/*/bin /usr/local/bin /usr/bin /opt/python/*/bin; do
            if [ -x "$home/$name" ]; then echo "$home/$name"; fi
        done
    done
} )
seen=
failed=
for python in $found; do
    version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue
    case " $seen " in *" $version "*) continue ;; esac
    "$python" -c 'import venv, ensurepip' 2>/dev/null || continue
    seen="$seen $version"
    echo "== Python $version"
    make --no-print-directory test PYTHON="$python" VENV=".venv-$version" || failed="$failed $version"
done
[ -n "$seen" ] || { echo "no Python 3.11 or newer found"; exit 1; }
[ -z "$failed" ] || { echo "failed under:$failed"; exit 1; }
echo "passed under:$seen"
