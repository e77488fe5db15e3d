"""How far the plain JSON file may be behind the log."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.files import disk
from support.faults import before
from support.integrity import active_segment, load_canonical
from support.records import checksum, make_record, metadata

if TYPE_CHECKING:
    from pathlib import Path

    from support.children import Link, Start

EAGER = ManifestOptions(compact_interval_s=1.0)
AT_CLOSE = ManifestOptions(auto_compact=False)


def canonical(path: Path) -> set[str]:
    return set(load_canonical(path)["records"])


def add_steadily(link: Link, path: Path, options: ManifestOptions, pause_s: float, seconds: float) -> None:
    """Add a record every `pause_s`, and send (number, time of its acknowledgement)."""
    with DownloadManifestManager(path, metadata(), options=options) as manifest:
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            manifest.add(make_record(number))
            link.send((number, time.monotonic()))
            number += 1
            time.sleep(pause_s)
        link.send(None)
        link.recv()


def worst_age(path: Path, start: Start, options: ManifestOptions, pause_s: float, seconds: float) -> float:
    """For how long an acknowledged record was missing from the canonical while the writer went on, at worst."""
    writer = start(add_steadily, path, options, pause_s, seconds)
    missing: dict[str, float] = {}
    worst = 0.0
    running = True
    while running:
        while writer.link.poll(pause_s / 2):
            told = writer.receive()
            if told is None:
                running = False
                break
            missing[checksum(told[0])] = told[1]
        now = time.monotonic()
        there = canonical(path) if path.exists() else set()
        missing = {key: since for key, since in missing.items() if key not in there}
        worst = max([worst, *[now - since for since in missing.values()]])
    writer.send("close")
    writer.join()
    return worst


def test_the_canonical_is_never_far_behind_a_steady_writer(path: Path, start: Start) -> None:
    """With an interval of one second, no record is missing for much longer than that."""
    assert worst_age(path, start, EAGER, pause_s=0.02, seconds=5.0) < 5.0


@pytest.mark.slow
def test_the_canonical_is_about_a_minute_behind_at_most(path: Path, start: Start) -> None:
    """With the default options and a record a second for three minutes."""
    assert worst_age(path, start, ManifestOptions(), pause_s=1.0, seconds=180.0) < 80.0


def add_some(_link: Link, path: Path, first: int) -> None:
    with DownloadManifestManager(path, metadata(), options=ManifestOptions()) as manifest:
        for number in range(first, first + 10):
            manifest.add(make_record(number))


def test_the_canonical_holds_everything_after_the_last_close(path: Path, start: Start) -> None:
    """One short script after the other leaves nothing in the log."""
    for first in (0, 10):
        start(add_some, path, first).result()
    assert canonical(path) == {checksum(n) for n in range(20)}


def add_then_close(link: Link, path: Path, first: int) -> None:
    with DownloadManifestManager(path, options=ManifestOptions()) as manifest:
        for number in range(first, first + 10):
            manifest.add(make_record(number))
        link.send("added")
        link.recv()


def close_together(path: Path, start: Start) -> None:
    DownloadManifestManager(path, metadata()).close()
    writers = [start(add_then_close, path, 10 * number) for number in range(8)]
    for writer in writers:
        writer.receive()
    for writer in writers:
        writer.send("close")
    for writer in writers:
        assert writer.join() == 0


def test_eight_writers_that_close_together_leave_nothing_in_the_log(path: Path, start: Start) -> None:
    """The last of them compacts."""
    close_together(path, start)
    assert canonical(path) == {checksum(n) for n in range(80)}


def test_eight_writers_that_close_together_do_not_compact_eight_times(path: Path, start: Start) -> None:
    """Each compaction begins a segment, so their number tells."""
    close_together(path, start)
    assert int(active_segment(path).stem.rpartition("-")[2]) - 1 in (1, 2)


def close_slowly(link: Link, path: Path) -> None:
    """Add a record and close, stopping right before the compaction's new canonical takes its place."""
    with DownloadManifestManager(path, options=AT_CLOSE) as manifest:
        manifest.add(make_record(1))

        def stop(_source: str, target: str) -> None:
            if target.endswith(".json"):
                link.send("compacting")
                link.recv()

        before(disk, "replace", stop)


def test_a_writer_that_closes_during_anothers_last_compaction_leaves_nothing_in_the_log(
    path: Path, start: Start
) -> None:
    """It opens and closes while the compaction at the other's close is under way: both records reach the canonical."""
    DownloadManifestManager(path, metadata(), options=AT_CLOSE).close()
    slow = start(close_slowly, path)
    assert slow.receive() == "compacting"
    quick = start(add_one, path, AT_CLOSE, 2)
    quick.link.poll(1.0)  # it may wait for the other, or leave its record to it
    slow.link.send("go on")
    while slow.link.poll(5.0) and slow.link.recv() is not None:
        slow.link.send("go on")
    assert (slow.join(), quick.join()) == (0, 0)
    assert canonical(path) == {checksum(1), checksum(2)}


def add_one(_link: Link, path: Path, options: ManifestOptions, number: int) -> None:
    with DownloadManifestManager(path, options=options) as manifest:
        manifest.add(make_record(number))


def test_a_log_past_its_limit_is_compacted_at_once(path: Path, start: Start) -> None:
    """The limit on bytes does not wait for the interval: a writer that goes on sees its log merged."""
    options = replace(ManifestOptions(), compact_log_bytes_min=10_000, compact_log_bytes_max=20_000)
    assert worst_age(path, start, options, pause_s=0.001, seconds=3.0) < 5.0
