"""How long the sources of fast hosts wait when sources of a slow one come before them: `manifestlog extract`.

100 sources lie on a host that answers after 50 ms, as `distant_server` has it. In every other run, 16 sources of a host
that takes 2 s for each response come first. What counts is when the last source of the fast host is there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from benchmarks import harness, peers
from benchmarks.distant_server import SLOW_HOST
from benchmarks.fetching import Extraction, at_a_distance, site_for
from benchmarks.harness import Context, Measurement

_FAST, _SLOW = 100, 16
_SIZE_BYTES = 20_000
_ALONE, _BEHIND = peers.REFERENCE, f"{peers.REFERENCE}, behind {_SLOW} sources of a slow host"


def _last_fast(job: Extraction, began: float) -> float:
    """Return the seconds until the last source of the fast host was downloaded."""
    command = [sys.executable, "-m", "manifestlog", "list", "files_download", "--jsonl"]
    listed = subprocess.check_output(command, cwd=job.directory, env=job.environment, text=True)
    rows = [json.loads(line) for line in listed.splitlines()]
    times = [row["ts_downloaded"] for row in rows if row["source_id"].startswith("fast")]
    assert len(times) == _FAST
    return max(map(datetime.fromisoformat, times)).timestamp() - began


def run(context: Context) -> Iterator[Measurement]:
    """Both in turns."""
    if (site := site_for(context)) is None:
        return
    for name in (*(f"fast{n}" for n in range(_FAST)), *(f"slow{n}" for n in range(_SLOW))):
        (site / name).write_bytes(name.encode() * (_SIZE_BYTES // 5))
    found: dict[str, list[float]] = {_ALONE: [], _BEHIND: []}
    with at_a_distance(site, "--slow") as port:
        fast = [f"http://127.0.0.1:{port}/fast{n}" for n in range(_FAST)]
        slow = [f"http://{SLOW_HOST}:{port}/slow{n}" for n in range(_SLOW)]
        for turn in range(context.rounds_or(3)):
            for peer in harness.rotated([_ALONE, _BEHIND], turn):
                folder: Path = context.directory / "behind"
                folder.mkdir()
                job = Extraction.of(folder, context.child_environment(), fast if peer == _ALONE else slow + fast)
                began = time.time()
                job.run()
                found[peer].append(_last_fast(job, began))
                shutil.rmtree(folder)
    for peer, samples in found.items():
        yield Measurement(
            table="extract: until the last of 100 sources of a fast host is there",
            case={"sources": _FAST},
            peer=peer,
            unit="s",
            more_is_better=False,
            samples=samples,
            extra={"rounds": len(samples)},
            digest="",
            headline=True,
        )


WORKLOAD = harness.Workload("extract: a slow host before a fast one", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
