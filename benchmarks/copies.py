"""Manifests to begin from: built once for a run, begun from as often as a benchmark wants.

A beginning has the same main files by hard links: nobody writes into those, they are only ever replaced by rename. The
log is written into, so it is copied. (A copy of the canonical would have another inode, and the index would not fit it.)
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks import harness, peers
from benchmarks.writers import Writers


def built(context: harness.Context, size: int, names: tuple[str, ...]) -> dict[str, Path]:
    """Manifests of `size` records for these peers: those of `writers.built`, where it has made them."""
    numbers = {name: number for number, name in enumerate(peers.PEERS)}
    places = {name: context.directory / f"{size}-{numbers[name]}" for name in names}
    missing = [(name, place, size) for name, place in places.items() if not place.exists()]
    if missing:
        with Writers(len(missing)) as writers:
            seconds = writers.fill(missing)
        took = ", ".join(f"{job[0]} {s:.1f} s" for job, s in zip(missing, seconds, strict=True))
        harness.progress(f"built manifests of {size:,} records: {took}")
    return places


def begin(place: Path, target: Path) -> None:
    """A manifest like that of `place`, in a new directory on the same disk."""
    target.mkdir()
    for path in place.iterdir():
        if ".wal-" in path.name:
            shutil.copy2(path, target)
        elif path.suffix != ".lock":
            os.link(path, target / path.name)
