#!/bin/sh
# Fuzzes each target named for SECONDS_EACH, beginning with its kept corpus, and keeps what reaches further; `make fuzz`.
# What was found beyond the corpus stays in .fuzz/TARGET/; the kept corpus is the smallest set with the same coverage.
set -eu
here=$(dirname "$0")
for name in "$@"; do
    work=.fuzz/$name
    kept=$here/corpus/$name
    mkdir -p "$work/corpus" "$work/found" "$kept"
    echo "== $name, $SECONDS_EACH s"
    "$PYTHON" "$here/run.py" "$name" -max_total_time="$SECONDS_EACH" -max_len=6000 -timeout=10 -rss_limit_mb=1024 \
        -dict="$here/words.dict" -artifact_prefix="$work/found/" -print_final_stats=1 -verbosity=1 \
        "$work/corpus" "$kept" >"$work/log" 2>&1 || { tail -n 30 "$work/log"; exit 1; }
    grep -E '^#.*DONE|stat::(number_of_executed_units|peak_rss_mb)' "$work/log"
    rm -rf "$work/small"
    mkdir "$work/small"
    "$PYTHON" "$here/run.py" "$name" -merge=1 -use_counters=0 -max_len=2000 "$work/small" "$kept" "$work/corpus" >"$work/merge.log" 2>&1
    echo "   smallest set with the same coverage: $work/small, $(ls "$work/small" | wc -l) files"
done
