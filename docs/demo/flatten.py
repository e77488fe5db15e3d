"""The second stage of the demo, a script as it may have been before: one dump in, one CSV file out.

flatten.py INPUT OUTPUT
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import sys

KEYS = (("id64", "id", "stationId"), ("name", "primaryEconomy"), ("date", "updateTime"))


def main(source: str, target: str) -> None:
    crash_once(source)
    with gzip.open(source) as dump:
        rows = [[next((row[key] for key in keys if key in row), "") for keys in KEYS] for row in json.load(dump)]
    with open(target, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("id", "name", "updated"), *rows])


def crash_once(source: str) -> None:
    """Kill the process that runs this script, because the demo wants to see that: once, at the file that it names."""
    if not os.path.exists("kill-a-worker"):
        return
    with open("kill-a-worker", encoding="utf-8") as wanted:
        is_wanted = wanted.read().strip() in source
    if is_wanted:
        os.unlink("kill-a-worker")
        os.kill(os.getppid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
