"""A compactor that is stopped between two of its steps, while others write and rotate; then it goes on, or dies later on.

Holds "writers never wait for compaction" of the README for the worst compactor that there is, and the table of
`docs/FORMAT.md`, section 9, with writers between the steps: what stands there of a crash after a step also holds when
segments came and went since the step before.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from manifestlog.engines.filelog.canonical import files as base
from manifestlog.engines.filelog.compaction import steps as compactor
from support.faults import before, die
from support.integrity import load_canonical, segments, temporaries
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Child, Link, Start

SMALL = replace(QUICK, segment_bytes_max=2_000)
"""A few records fill a segment."""

OLD = range(10)
MERGED = range(10, 20)
MEANWHILE = range(20, 40)
FORGOTTEN = (3, 13, 23)
EXPECTED = {checksum(n) for n in (*OLD, *MERGED, *MEANWHILE) if n not in FORGOTTEN}


def _tell(kind: str, act: Callable[[], None]) -> None:
    before(compactor, "_log_base", lambda _, said, *__: act() if said == kind else None)


STEPS: dict[str, Callable[[Callable[[], None]], None]] = {
    "2, the seal": lambda act: before(compactor, "_seal_for_merge", lambda *_: act()),
    "3, reading": lambda act: before(compactor._Compaction, "_read", lambda *_, **__: act()),
    "4, merging": lambda act: before(compactor._Compaction, "_write", lambda *_: act()),
    "4, the announcement": lambda act: _tell("compacting", act),
    "5, the rename": lambda act: before(compactor._Compaction, "_publish", lambda *_: act()),
    "6, the index": lambda act: before(base, "write_index", lambda *_: act()),
    "7, saying so": lambda act: _tell("compacted", act),
    "8, moving": lambda act: before(compactor._Compaction, "_keep", lambda *_: act()),
    "the end": lambda act: before(compactor._Compaction, "_report", lambda *_, **__: act()),
}
"""How to do something right before a step of the compaction."""


def prepare(path: Path) -> None:
    """A manifest that was compacted before: the lines that say so lie in a segment of their own behind the canonical."""
    with DownloadManifestManager(path, metadata(), options=SMALL) as manifest:
        manifest.add_many([make_record(n) for n in OLD])
        manifest.compact()
        for number in MERGED:
            manifest.add(make_record(number))


def compact(link: Link, path: Path, stops_at: str, dies_at: str | None) -> str:
    def stop() -> None:
        link.send("stopping")
        signal.raise_signal(signal.SIGSTOP)

    STEPS[stops_at](stop)
    if dies_at is not None:
        STEPS[dies_at](die)
    with DownloadManifestManager(path, options=SMALL) as manifest:
        return manifest.compact().outcome


def write(_link: Link, path: Path) -> str:
    """A process that knows nothing of the compaction: it opens, forgets, adds, and fills segments."""
    with DownloadManifestManager(path, options=SMALL) as manifest:
        for number in MEANWHILE:
            manifest.add(make_record(number))
        for number in FORGOTTEN:
            assert manifest.forget(checksum(number))
        assert set(manifest) == EXPECTED
        return manifest.compact().outcome


def stop_and_write(path: Path, start: Start, stops_at: str, dies_at: str | None) -> Child:
    prepare(path)
    child = start(compact, path, stops_at, dies_at)
    assert child.receive() == "stopping"
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    last = max(segments(path))
    assert start(write, path).result() == "already_running"
    assert max(segments(path)) >= last + 2
    child.kill(signal.SIGCONT)
    return child


def stored(path: Path) -> set[str]:
    with DownloadManifestManager(path, read_only=True) as manifest:
        return set(manifest)


def check_the_end(path: Path) -> None:
    """A save later, everything is in the plain file, and nothing is left over."""
    with DownloadManifestManager(path, options=SMALL) as manifest:
        manifest.save()
    assert set(load_canonical(path)["records"]) == EXPECTED
    assert (len(segments(path)), temporaries(path.parent)) == (1, [])


@pytest.mark.parametrize("stops_at", STEPS)
def test_a_compactor_continues_after_a_stop(path: Path, start: Start, stops_at: str) -> None:
    """It succeeds, and what was written and forgotten meanwhile stays so."""
    assert stop_and_write(path, start, stops_at, None).result() == "compacted"
    assert stored(path) == EXPECTED
    check_the_end(path)


@pytest.mark.parametrize(("stops_at", "dies_at"), list(combinations(STEPS, 2)))
def test_a_compactor_dies_some_steps_after_a_stop(path: Path, start: Start, stops_at: str, dies_at: str) -> None:
    """Whatever came between its steps, the manifest opens, is complete, and compacts again."""
    assert stop_and_write(path, start, stops_at, dies_at).join() == -signal.SIGKILL
    assert stored(path) == EXPECTED
    check_the_end(path)
