"""What the first look of a stage takes of memory and time, by what makes an input pending again (`rerun`).

Everything is done. A record says what it was made of and by which version, but not by which code: with `rerun = "code"`,
the history is asked for each of them. Each look is a process of its own.

    python -m benchmarks.bench_first_look [--records 300000]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import harness, peers, step

_LEAVES = {"judged": "a record", "nothing": "an event"}
_RERUN = ("version", "code")


def measured(folder: Path, kind: str, count: int, rounds: int) -> None:
    """Let a stage do everything, and say what a look takes then."""
    place: dict[str, Any] = {"directory": folder / "manifests", "kind": kind, "output_dir": folder / "out"}
    step.run("stage_inputs", directory=folder, count=count)
    done = step.run("stage", **place, durability=peers.PROCESS_KILL, rerun="code")
    step.run("stage_saved", directory=place["directory"])
    assert done["done"] == count
    for rerun in _RERUN:
        found = [step.run("pending", **place, rerun=rerun) for _ in range(rounds)]
        assert not any(one["pending"] for one in found)
        peak, before = (max(one[name] for one in found) for name in ("peak_mb", "before_mb"))
        seconds = median(one["seconds"] for one in found)
        harness.say(
            f"{count:,} inputs, {_LEAVES[kind]} each, rerun {rerun:8} peak RSS {peak:6.1f} MB, {before:.1f} before;"
            f" {seconds:5.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for kind in _LEAVES:
        with tempfile.TemporaryDirectory(prefix="manifestlog-bench-") as folder:
            measured(Path(folder), kind, given.records, given.rounds)


if __name__ == "__main__":
    main()
