"""A file system with no room left, at every byte of a line and at every page of a file.

Holds what `DiskFullError` promises (nothing was written, everything earlier is kept, retry when there is room), "never
half" and "acknowledged means kept" of the README, and that a compaction, a rotation or a creation that finds no room
changes nothing (`docs/FORMAT.md`, sections 7.2, 9 and 10). The limit is the kernel's own: a tmpfs filled to the last byte.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import (
    AddManyStoppedError,
    DiskFullError,
    DownloadManifestManager,
    ManifestOptions,
    ManifestRecord,
    Verdict,
)
from support.integrity import active_segment, load_canonical, log_lines, puts, segments, temporaries
from support.mounts import PAGE_BYTES
from support.records import MANUAL, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.counts import Count
    from support.mounts import Mounted

FIRST = 10_000
"""Numbers from here on have five digits, so all their lines are of one length."""
SMALL_SEGMENTS = replace(QUICK, segment_bytes_max=32 * 1024, history="off")
"""Without a history, which would fill the little disk."""


def padded(number: int, pad: int = 0) -> ManifestRecord:
    return make_record(number).model_copy(update={"file_path": Path(f"/srv/etl/raw/{number}{'x' * pad}.json.gz")})


class Filling:
    """Adds to a manifest so that the next line begins where one wants it in a page."""

    def __init__(self, mounted: Mounted, options: ManifestOptions = SMALL_SEGMENTS) -> None:
        self.mounted = mounted
        self.manifest = DownloadManifestManager(mounted.path, metadata(), options=options)
        self.acknowledged: list[str] = []
        self.number = FIRST
        self.line_bytes = 0
        self.add()
        self.add()

    def next_record(self, pad: int = 0) -> ManifestRecord:
        self.number += 1
        return padded(self.number, pad)

    def add(self, pad: int = 0) -> None:
        record = self.next_record(pad)
        before = self.size()
        assert self.manifest.add(record).verdict == "new"
        self.line_bytes = self.size() - before - pad
        self.acknowledged.append(record.checksum)

    def size(self) -> int:
        found = segments(self.mounted.path)
        return found[max(found)].stat().st_size if found else 0

    def leave_in_page(self, room: int) -> None:
        """Let so many bytes be free in the active segment's last page, and none elsewhere."""
        self.mounted.empty()
        if self.size() > SMALL_SEGMENTS.segment_bytes_max - 3 * PAGE_BYTES or len(self.acknowledged) > 50:
            for key in self.acknowledged:  # or the little disk would be full of records
                self.manifest.forget(key)
            self.acknowledged.clear()
            self.manifest.save()
        for _ in range(3):  # once, or again where a line's length has changed: it says how far the file is synced
            if (self.size() + room) % PAGE_BYTES:
                self.add((-room - self.size() - self.line_bytes) % PAGE_BYTES)
        assert (self.size() + room) % PAGE_BYTES == 0
        self.mounted.fill()

    def check_unchanged(self, before: bytes) -> None:
        """Nothing of the refused write is there, and everything else is."""
        assert active_segment(self.mounted.path).read_bytes() == before
        assert set(self.manifest) == set(self.acknowledged)


def fill_at_every_byte_of_a_line(mounted: Mounted) -> int:
    filling = Filling(mounted)
    manifest = filling.manifest
    for room in range(filling.line_bytes):  # the shortest that a line is here
        filling.leave_in_page(room)
        before = active_segment(mounted.path).read_bytes()
        record = filling.next_record()
        for _ in range(2):  # the second finds what the first has left
            with pytest.raises(DiskFullError, check=lambda e: (e.errno, e.exit_code) == (errno.ENOSPC, 1)):
                manifest.add(record)
            filling.check_unchanged(before)
        mounted.empty()
        assert manifest.add(record).verdict == "new"
        filling.acknowledged.append(record.checksum)
        assert puts(active_segment(mounted.path))[-1] == record.checksum
    mounted.empty()
    manifest.close()
    return filling.line_bytes


def test_a_full_disk_at_every_byte_of_a_line(on_tmpfs: Callable[..., int], count: Count) -> None:
    """`add` says so, nothing of its line is left, everything earlier is there, and with room it goes on."""
    line_bytes = on_tmpfs(fill_at_every_byte_of_a_line)
    assert line_bytes > 300
    count("full disks", line_bytes * 2)


def fill_with_a_line_that_just_fits(mounted: Mounted) -> None:
    filling = Filling(mounted)
    filling.leave_in_page(filling.line_bytes)
    filling.add()
    filling.check_unchanged(active_segment(mounted.path).read_bytes())
    mounted.empty()
    filling.manifest.close()


def test_a_line_that_just_fits_is_written(on_tmpfs: Callable[..., None]) -> None:
    """The last byte of the disk is used: the tests around this one look at the right places."""
    on_tmpfs(fill_with_a_line_that_just_fits)


BATCH = 4


def _nothing_landed(error: AddManyStoppedError) -> bool:
    # Looked at here and let go: the frames of a kept error hold the canonical of their time open, and its pages.
    return isinstance(error.cause, DiskFullError) and sum(error.landed.values()) == 0


def fill_at_every_byte_of_a_batch(mounted: Mounted, step: int) -> int:
    filling = Filling(mounted)
    manifest = filling.manifest
    begin = filling.size()
    manifest.add_many([filling.next_record() for _ in range(BATCH)])
    filling.acknowledged = list(manifest)
    rooms = range(0, filling.size() - begin, step)
    for room in rooms:
        filling.leave_in_page(room)
        before = active_segment(mounted.path).read_bytes()
        records = [filling.next_record() for _ in range(BATCH)]
        with pytest.raises(AddManyStoppedError, check=_nothing_landed):
            manifest.add_many(records)
        filling.check_unchanged(before)
        mounted.empty()
        assert manifest.add_many(records)[Verdict.NEW] == BATCH
        filling.acknowledged += [record.checksum for record in records]
    manifest.close()
    return len(rooms)


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_at_every_byte_of_a_batch(on_tmpfs: Callable[..., int], count: Count, step: int) -> None:
    """Of a batch nothing is left, and with room all of it goes in."""
    tried = on_tmpfs(fill_at_every_byte_of_a_batch, step)
    assert tried > 1_000 // step
    count("full disks", tried)


def fill_in_a_long_batch(mounted: Mounted) -> int:
    """A batch of several pages: the disk ends at each page of it."""
    filling = Filling(mounted, replace(SMALL_SEGMENTS, batch_records_max=20))
    manifest = filling.manifest
    tried = 0
    for pages in range(8):
        filling.leave_in_page(100)
        mounted.fill(pages)
        before = active_segment(mounted.path).read_bytes()
        records = [filling.next_record() for _ in range(40)]
        landed = 0
        try:
            manifest.add_many(records)
            landed = 40
        except AddManyStoppedError as error:
            landed = sum(error.landed.values())
            tried += 1
        filling.acknowledged += [record.checksum for record in records[:landed]]
        assert landed in (0, 20, 40)
        assert set(manifest) == set(filling.acknowledged)
        assert (landed > 0) or active_segment(mounted.path).read_bytes() == before
        mounted.empty()
        manifest.add_many(records)
        filling.acknowledged += [record.checksum for record in records[landed:]]
        manifest.save()
    manifest.close()
    return tried


def test_a_disk_that_ends_within_a_long_batch(on_tmpfs: Callable[..., int], count: Count) -> None:
    """What `landed` counts is kept, and nothing of the batch that did not fit."""
    tried = on_tmpfs(fill_in_a_long_batch)
    assert tried >= 3
    count("full disks", tried)


# -- rotation ----------------------------------------------------------------------------------------------------------


def fill_while_rotating(mounted: Mounted, step: int) -> int:
    """The next line needs a new segment; there is room for some of the seal, for the seal, never for the successor."""
    filling = Filling(mounted)
    manifest = filling.manifest
    rotating = replace(SMALL_SEGMENTS, segment_bytes_max=1)  # whatever is added begins a segment
    manifest.close()
    rooms = range(0, 300, step)
    for room in rooms:
        filling.manifest = manifest = DownloadManifestManager(mounted.path, options=SMALL_SEGMENTS)
        filling.leave_in_page(room)
        manifest.close()
        manifest = DownloadManifestManager(mounted.path, options=rotating)
        record = filling.next_record()
        active = active_segment(mounted.path)
        before = puts(active)
        for _ in range(2):
            with pytest.raises(DiskFullError):
                manifest.add(record)
            assert puts(active) == before
            assert temporaries(active.parent) == []
            assert set(manifest) == set(filling.acknowledged)
        mounted.empty()
        assert manifest.add(record).verdict == "new"
        assert active_segment(mounted.path) != active
        filling.acknowledged.append(record.checksum)
        assert set(manifest) == set(filling.acknowledged)
        manifest.save()
        manifest.close()
    return len(rooms)


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_at_every_byte_of_a_seal(on_tmpfs: Callable[..., int], count: Count, step: int) -> None:
    """A rotation that finds no room, for the seal or for the successor, is said; with room the log goes on behind it."""
    tried = on_tmpfs(fill_while_rotating, step)
    count("full disks", tried * 2)


# -- compaction --------------------------------------------------------------------------------------------------------

RECORDS = 60


def fill_while_compacting(mounted: Mounted) -> tuple[int, int]:
    """Room for one page more each time, until the whole compaction fits: canonical, index, segment."""
    refused = said_twice = 0
    with DownloadManifestManager(mounted.path, metadata(), options=QUICK) as manifest:
        manifest.add_many([padded(FIRST + n) for n in range(RECORDS)])
        expected = {checksum(FIRST + n) for n in range(RECORDS)}
        for pages in range(100):
            mounted.fill(pages)
            before = mounted.path.read_bytes()
            try:
                manifest.compact()
                break
            except DiskFullError as error:
                refused += 1
                said_twice += str(error).count(str(mounted.root)) != 1
            new = mounted.path.read_bytes() != before
            assert len(load_canonical(mounted.path)["records"]) in ((RECORDS,) if new else (0, RECORDS))
            assert temporaries(mounted.path.parent) == []
            assert set(manifest) == expected
            mounted.empty()
            manifest.add(padded(FIRST + 1_000 + pages))  # so that there is something to merge, whatever was done
            manifest.forget(checksum(FIRST + 1_000 + pages))
        mounted.empty()
        manifest.save()
        assert set(load_canonical(mounted.path)["records"]) == set(manifest) == expected
    return refused, said_twice


def test_a_full_disk_at_every_page_of_a_compaction(on_tmpfs: Callable[..., tuple[int, int]], count: Count) -> None:
    """Old canonical or new one, nothing temporary, every record; the error names the place; with room it succeeds."""
    refused, unnamed = on_tmpfs(fill_while_compacting)
    assert (refused > 6, unnamed) == (True, 0)
    count("full disks", refused)


def add_while_compactions_fail(mounted: Mounted) -> int:
    filling = Filling(mounted)
    filling.leave_in_page(10)
    mounted.fill(6)
    filling.manifest.add_many([filling.next_record() for _ in range(40)])  # what fills most of it
    filling.acknowledged = list(filling.manifest)
    added = 0
    with pytest.raises(DiskFullError):
        filling.manifest.compact()
    while True:
        try:
            filling.add()
            added += 1
        except DiskFullError:
            break
        with pytest.raises(DiskFullError):
            filling.manifest.compact()
    assert set(filling.manifest) == set(filling.acknowledged)
    mounted.empty()
    filling.manifest.save()
    assert set(load_canonical(mounted.path)["records"]) == set(filling.acknowledged)
    filling.manifest.close()
    return added


def test_adds_continue_while_compactions_find_no_room(on_tmpfs: Callable[..., int]) -> None:
    """A failed compaction takes no room away; as long as a line fits it is kept."""
    assert on_tmpfs(add_while_compactions_fail) >= 3


def close_on_a_full_disk(mounted: Mounted) -> list[str]:
    said = StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.ERROR)
    logging.getLogger("manifestlog").addHandler(handler)
    with DownloadManifestManager(mounted.path, metadata(), options=replace(QUICK, compact_on_close=True)) as manifest:
        manifest.add_many([padded(FIRST + n) for n in range(RECORDS)])
        mounted.fill()
    mounted.empty()
    with DownloadManifestManager(mounted.path, options=QUICK) as manifest:
        assert len(manifest) == RECORDS
        manifest.save()
    return said.getvalue().splitlines()


def test_closing_on_a_full_disk_says_it_once(on_tmpfs: Callable[..., list[str]], root: Path) -> None:
    """`close` does not raise for the compaction that it could not do: one error in the log, and nothing is lost."""
    (message,) = on_tmpfs(close_on_a_full_disk)
    assert "No space left" in message
    assert str(root) in message


# -- creating ----------------------------------------------------------------------------------------------------------


def create_on_a_full_disk(mounted: Mounted) -> int:
    refused = 0
    for pages in range(10):
        mounted.empty()
        mounted.fill(pages)
        try:
            with DownloadManifestManager(mounted.path, metadata(), options=QUICK) as manifest:
                manifest.add(make_record(0))
                break
        except DiskFullError:
            refused += 1
        assert temporaries(mounted.path.parent) == []
        assert not mounted.path.exists() or load_canonical(mounted.path)["records"] == {}
    mounted.empty()
    with DownloadManifestManager(mounted.path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(1))
        assert checksum(1) in set(manifest)
        manifest.save()
    return refused


def test_creating_on_a_full_disk_leaves_nothing_or_a_manifest(on_tmpfs: Callable[..., int], count: Count) -> None:
    """Room for no page, for one, for two: an error and nothing unfinished, and with room it is created."""
    refused = on_tmpfs(create_on_a_full_disk)
    assert refused >= 2
    count("full disks", refused)


def make_the_directory_on_a_full_disk(mounted: Mounted) -> str:
    """Without a manifest's first byte: the error is the usual one, for the command line, too."""
    mounted.fill()
    with pytest.raises(DiskFullError) as caught:
        DownloadManifestManager(mounted.path, metadata(), options=MANUAL)
    mounted.empty()
    assert segments(mounted.path) == {}
    return str(caught.value)


def test_creating_on_a_full_disk_says_what_to_do(on_tmpfs: Callable[..., str], root: Path) -> None:
    """What happened, where, and what to do next."""
    said = on_tmpfs(make_the_directory_on_a_full_disk)
    assert all(text in said for text in (str(root), "No space left", "free some space"))


def test_a_log_is_read_by_its_lines(on_tmpfs: Callable[..., int]) -> None:
    """The helper that fills pages writes what it says: whole lines, each with a right CRC."""

    assert on_tmpfs(_count_lines) == 3


def _count_lines(mounted: Mounted) -> int:
    filling = Filling(mounted)
    filling.manifest.close()
    return len(log_lines(active_segment(mounted.path)))
