"""What a copy of a manifest costs, between files and PostgreSQL, and how fast a mirror follows.

Wall time, and the processor time of this process and of the server, since both share the machine. Each copy carries every
event; the last row is a second copy, which compares the events of both and finds nothing to do.

    PYTHONPATH=tests python -m benchmarks.bench_copies [--records 1000000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import harness
from benchmarks.bench_postgres import METADATA, NAME
from manifestlog import DownloadManifestManager, Durability, ManifestOptions, Mirror, copy_manifest
from support.postgres import DURABLE, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable

MUST_S = 60.0
"""For a million records."""
_TICKS = os.sysconf("SC_CLK_TCK")
_EVENTS = 1000


class Took(NamedTuple):
    """What one step took, in seconds."""

    wall_s: float
    ours_s: float
    server_s: float


def server_s(server: Server) -> float:
    """The processor time of the server, with all of its processes that have ended."""
    postmaster = int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            numbers = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(numbers[1]) == postmaster:  # one of its processes
            total += int(numbers[11]) + int(numbers[12])
        if status.parent.name == str(postmaster):  # itself, and those that have ended
            total += sum(map(int, numbers[11:15]))
    return total / _TICKS


def took(server: Server, work: Callable[[], object]) -> Took:
    began, ours, theirs = time.perf_counter(), time.process_time(), server_s(server)
    work()
    return Took(time.perf_counter() - began, time.process_time() - ours, server_s(server) - theirs)


def fill(path: Path, count: int) -> None:
    options = ManifestOptions(durability=Durability.PROCESS_KILL, lock_timeout_s=600.0)
    with DownloadManifestManager(path, METADATA, options=options) as manifest:
        manifest.add_many(harness.make_records(0, count))
        manifest.save()


def followed(place: str, replica: Path, count: int) -> None:
    """Apply events that a source has had since."""
    with Mirror(place, replica) as mirror:
        with DownloadManifestManager(place) as manifest:
            manifest.add_many(harness.make_records(count, _EVENTS))
        assert mirror.update() == _EVENTS


def measured(server: Server, folder: Path, count: int) -> None:
    """Measure each step, and say at once what it took."""
    source, back, twin = (folder / name / f"{NAME}.manifest.json" for name in ("source", "back", "twin"))
    fill(source, count)
    place = server.url(NAME)
    steps: dict[str, Callable[[], object]] = {
        "files to PostgreSQL": lambda: copy_manifest(source, place),
        "PostgreSQL to files": lambda: copy_manifest(place, back),
        "files to files": lambda: copy_manifest(source, twin),
        "files to PostgreSQL, again": lambda: copy_manifest(source, place),
    }
    steps["a replica of PostgreSQL"] = lambda: Mirror(place, folder / "replica").close()
    steps[f"{_EVENTS:,} events to it"] = lambda: followed(place, folder / "replica", count)
    for name, work in steps.items():
        one = took(server, work)
        harness.say(
            f"{name:30} {one.wall_s:7.1f} s   processor: {one.ours_s:6.1f} s here, {one.server_s:6.1f} s the server"
        )
    assert back.read_bytes() == source.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    count = parser.parse_args().records
    with serving(DURABLE) as server, tempfile.TemporaryDirectory() as folder:
        measured(server, Path(folder), count)
    harness.say(f"records: {count:,}; must be at most {MUST_S * count / 1e6:.0f} s a copy")


if __name__ == "__main__":
    main()
