"""Two compactors at once, and one beside a writer that never stops."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, LockTimeoutError
from manifestlog.files import disk
from support.faults import before
from support.integrity import load_canonical
from support.records import MANUAL, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from pathlib import Path

    from support.children import Child, Link, Start


def create(path: Path, count: int = 20) -> None:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in range(count)])


def compact_slowly(link: Link, path: Path) -> str:
    """Compact, waiting for a word before the rename."""

    def wait(_source: str, target: str) -> None:
        if target.endswith(".json"):
            link.send("in the middle")
            link.recv()

    before(disk, "replace", wait)
    with DownloadManifestManager(path, options=QUICK) as manifest:
        return manifest.compact().outcome


@pytest.fixture
def busy(path: Path, start: Start) -> Child:
    """A compactor in the middle of its work."""
    create(path)
    child = start(compact_slowly, path)
    assert child.receive() == "in the middle"
    return child


def test_a_second_compactor_returns_at_once(path: Path, busy: Child) -> None:
    """It says that a compaction is running already."""
    with DownloadManifestManager(path, options=QUICK) as manifest:
        assert manifest.compact().outcome == "already_running"
    busy.send("go on")
    assert busy.result() == "compacted"


def test_writing_continues_during_a_compaction(path: Path, busy: Child) -> None:
    """What is added in its middle is there afterwards, in the log and in the next canonical."""
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.add(make_record(100))
        busy.send("go on")
        busy.result()
        assert len(manifest) == 21
        manifest.save()
    assert len(load_canonical(path)["records"]) == 21


def test_a_forget_during_a_compaction_is_kept(path: Path, busy: Child) -> None:
    """A record forgotten while it is being merged does not come back."""
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.forget(checksum(5))
        busy.send("go on")
        busy.result()
        assert not manifest.has_checksum(checksum(5))
        manifest.save()
    assert checksum(5) not in load_canonical(path)["records"]


def save(link: Link, path: Path) -> str:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        link.send("saving")
        return manifest.save().outcome


def test_save_waits_for_the_compaction_that_runs(path: Path, busy: Child, start: Start) -> None:
    """It returns when the other is done, not before."""
    other = start(save, path)
    assert other.receive() == "saving"
    waited = not other.link.poll(0.2)
    busy.send("go on")
    assert (waited, other.result()) == (True, "nothing_to_do")


def test_save_gives_up_in_time(path: Path, busy: Child) -> None:
    """When the other takes too long, the error says so."""
    with (
        DownloadManifestManager(path, options=replace(QUICK, lock_timeout_s=0.2)) as manifest,
        pytest.raises(LockTimeoutError, match=r"compact\.lock"),
    ):
        manifest.save()
    busy.send("go on")
    busy.result()


def compact_often(link: Link, path: Path) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    with DownloadManifestManager(path, options=QUICK) as manifest:
        link.send("ready")
        link.recv()
        for number in range(50):
            manifest.add(make_record(1_000 + number % 25))
            outcomes[manifest.compact().outcome] += 1
    return outcomes


def test_two_compactors_all_the_time_lose_nothing(path: Path, start: Start) -> None:
    """Fifty compactions each, with something to merge: everything is there in the end."""
    create(path)
    both = [start(compact_often, path), start(compact_often, path)]
    for child in both:
        child.receive()
    for child in both:
        child.send("go")
    for child in both:
        child.result()
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.save()
    expected = {checksum(n) for n in (*range(20), *range(1_000, 1_025))}
    assert set(load_canonical(path)["records"]) == expected


def write_on(link: Link, path: Path) -> int:
    """Add until told to stop, durably, so that the disk sets the pace; gives how many."""
    number = 0
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send("ready")
        while not (number % 10 == 0 and link.poll()):
            manifest.add(make_record(number))
            number += 1
    return number


def test_compactions_end_beside_a_writer_that_does_not(path: Path, start: Start) -> None:
    """Each of five ends although more is written all the while, and merges what was there when it began."""
    create(path, 1)
    writer = start(write_on, path)
    writer.receive()
    outcomes = []
    with DownloadManifestManager(path, options=QUICK) as manifest:
        known: set[str] = set()
        for _ in range(5):
            while known == set(manifest):  # the disk sets the writer's pace: let there be something to merge
                pass
            known = set(manifest)
            outcomes.append((manifest.compact().outcome, known - set(load_canonical(path)["records"])))
        writer.send("stop")
        total = writer.result()
        complete = len(manifest) == total
    assert (outcomes, complete) == ([("compacted", set())] * 5, True)
