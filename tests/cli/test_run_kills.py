"""`kill -9` of `run`, of its workers, and of both at once, at random moments: every file goes all the way exactly once.

The command writes other bytes each time and holds a lock, so work that was done twice shows, and so do two commands at one
input.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, children_of, wait_until
from manifestlog import ProcessedManifestManager

if TYPE_CHECKING:
    from support.counts import Count

ITEMS, JOBS = 10, 3
KILLS_MAX = 3
PAUSE_MAX_S = 0.5
CONFIG = "etl.config.json"
SCRIPT = """
exec 9>>"locks/$(basename "$1")"
flock -n 9 || echo "both work on $1" >>both
cat "$1" >"$2"
echo $$ >>"$2"
"""
STAGES = {"one": "files_raw", "two": "one"}


def pipeline(home: Path) -> Program:
    """Files that are registered, and two stages for them."""
    run = Program(home)
    (home / "raw").mkdir(parents=True)
    (home / "locks").mkdir()
    for number in range(ITEMS):
        (home / "raw" / f"{number}.txt").write_text(f"file {number}\n")
    assert run.here("add", "files_raw", "raw", "--quiet").code == 0
    (home / "step.sh").write_text(SCRIPT)
    command = ["sh", "step.sh", "{input}", "{output}"]
    stages = [
        {"name": name, "from": upstream, "manifest": f"files_{name}", "command": command, "jobs": JOBS}
        for name, upstream in STAGES.items()
    ]
    head = {"etl_version": "1", "manifests_dir": "manifests", "data_dir": "data"}
    (home / CONFIG).write_text(json.dumps(head | {"stages": stages}))
    return run


def killed_somewhere(run: subprocess.Popen[str], chance: random.Random) -> str | None:
    """Kill a worker, the run, or all of them, a random pause after it has workers; return what, or None if it has ended."""
    wait_until(lambda: run.poll() is not None or children_of(run.pid))
    with suppress(subprocess.TimeoutExpired):
        run.wait(chance.uniform(0, PAUSE_MAX_S))
        return None
    workers = children_of(run.pid)
    what = chance.choice(["worker", "run", "all"])
    hit = {"worker": workers[:1], "run": [run.pid], "all": [run.pid, *workers]}[what]
    for pid in hit:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return what


def round_of_kills(home: Path, chance: random.Random, count: Count) -> None:
    run = pipeline(home)
    for _ in range(chance.randint(1, KILLS_MAX)):
        process = run.start("run", CONFIG, "--quiet")
        while (what := killed_somewhere(process, chance)) == "worker":
            count("workers of runs killed", 1)
        process.communicate()
        if what is None:
            break
        count("runs killed", 1)
    while any(one["items"] for one in run.here("run", CONFIG, "--quiet", "--json").json["stages"]):
        pass  # a command that has just lost its run may hold its claim for a moment
    check(home)


def check(home: Path) -> None:
    """Every input has one output, every record its file, every file a record, and nothing else is left."""
    for name in STAGES:
        with ProcessedManifestManager(home / f"manifests/files_{name}.manifest.json", read_only=True) as made:
            records = list(made.records.values())
            found = {made.locate(one): one.checksum for one in records}
        inputs = [digest for one in records for digest in one.derived_from]
        assert len(inputs) == len(set(inputs)) == ITEMS
        assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in found} == found
        assert {path for path in (home / "data" / name).rglob("*") if path.is_file()} == set(found)
    assert not (home / "both").exists()


def test_runs_of_commands_that_are_killed_cost_nothing(tmp_path: Path, count: Count) -> None:
    round_of_kills(tmp_path, random.Random(5), count)


@pytest.mark.slow
def test_fifty_rounds_of_kills(tmp_path: Path, count: Count) -> None:
    for number in range(50):
        round_of_kills(tmp_path / str(number), random.Random(number), count)


def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    run = pipeline(tmp_path)
    both = [run.start("run", CONFIG, "one", "--quiet", "--json") for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=60)[0])["stages"][0] for process in both]
    assert sum(report["made"] for report in reports) == ITEMS
