"""A clock that jumps: years back and forth between the lines of a log.

Holds of `docs/FORMAT.md`, sections 4 and 7, that order is (segment, offset) and `ts` is told but never used for it, and of
the manager that a source's current record follows from the times of the downloads, not from the time of writing.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from support.integrity import load_canonical, log_lines, segments
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Link, Start

YEAR_NS = 365 * 24 * 3600 * 1_000_000_000
JUMPS = {
    "back at every line": itertools.count(0, -YEAR_NS // 4),
    "forth at every line": itertools.count(0, YEAR_NS // 4),
    "back and forth": itertools.cycle([0, -20 * YEAR_NS, 20 * YEAR_NS]),
    "stopped": itertools.repeat(0),
}
NUMBERS = range(20)
SMALL = replace(QUICK, segment_bytes_max=2_000)


def work(_link: Link, path: Path, jumps: Iterator[int]) -> list[str]:
    """Each record is added, changed, forgotten, added again, across segments and compactions, with a jump before each."""
    began = time.time_ns()
    time.time_ns = lambda: began + next(jumps)  # for this child only
    told: list[str] = []
    with DownloadManifestManager(path, metadata(), options=SMALL) as manifest:
        for number in NUMBERS:
            told.append(manifest.add(make_record(number)).verdict)
            later = make_record(number).model_copy(update={"etag": '"later"'})
            told.append(manifest.add(later).verdict)
            if number % 3 == 0:
                told.append(str(manifest.forget(checksum(number))))
            if number % 6 == 0:
                told.append(manifest.add(make_record(number)).verdict)
            if number % 7 == 6:
                told.append(manifest.compact().outcome)
    return told


def expected() -> dict[str, str]:
    """The ETag of each checksum that is there at the end."""
    found = {}
    for number in NUMBERS:
        if number % 6 == 0:
            found[checksum(number)] = f'"{number:x}"'
        elif number % 3:
            found[checksum(number)] = '"later"'
    return found


@pytest.mark.parametrize("jumps", JUMPS.values(), ids=JUMPS)
def test_order_is_by_place_never_by_the_clock(path: Path, start: Start, jumps: Iterator[int]) -> None:
    """Writer, a reader that opens later, and the canonical agree on what came last in the log."""
    told = start(work, path, jumps).result()
    assert [word for word in told if word not in ("new", "refreshed", "True", "compacted")] == []
    with DownloadManifestManager(path, options=QUICK) as manifest:
        assert {key: record.etag for key, record in manifest.records.items()} == expected()
        manifest.save()
    assert {key: row["etag"] for key, row in load_canonical(path)["records"].items()} == expected()


def jump_back_and_stay(link: Link, path: Path) -> list[str]:
    """One process writes far in the future, and stays open; told to, it writes again, far in the past."""
    began = time.time_ns()
    offset = [50 * YEAR_NS]
    time.time_ns = lambda: began + offset[0]
    told: list[str] = []
    with DownloadManifestManager(path, metadata(), options=SMALL) as manifest:
        told.append(manifest.add(make_record(1)).verdict)
        link.send("written")
        link.recv()
        offset[0] = -50 * YEAR_NS
        told.append(manifest.add(make_record(1).model_copy(update={"etag": '"third"'})).verdict)
    return told


def test_two_processes_whose_clocks_are_a_century_apart(path: Path, start: Start) -> None:
    """A line of the past behind one of the future: the later in the log counts, for everybody."""
    child = start(jump_back_and_stay, path)
    assert child.receive() == "written"
    with DownloadManifestManager(path, options=SMALL) as manifest:
        assert manifest.add(make_record(1).model_copy(update={"etag": '"second"'})).verdict == "refreshed"
        child.send("go on")
        assert child.result() == ["new", "refreshed"]
        years = {line["ts"][:4] for segment in segments(path).values() for line in log_lines(segment) if "ts" in line}
        assert len(years) == 3
        record = manifest.get_record_by_source("source-1")
        assert record is not None
        assert record.etag == '"third"'
        manifest.save()
    assert load_canonical(path)["records"][checksum(1)]["etag"] == '"third"'


def test_a_clock_that_was_set_back_delays_no_compaction(path: Path, start: Start) -> None:
    """Lines from the future make the next periodic compaction due at once, not in fifty years."""
    child = start(jump_back_and_stay, path)
    assert child.receive() == "written"
    with DownloadManifestManager(path, options=SMALL) as manifest:
        assert manifest.compact(if_needed=True).outcome == "compacted"
    child.send("go on")
    child.result()


def test_the_time_of_the_last_change_is_that_of_the_last_line(path: Path, start: Start) -> None:
    """`ts_updated` follows the place as well, even into the past."""
    child = start(jump_back_and_stay, path)
    child.receive()
    child.send("go on")
    child.result()
    with DownloadManifestManager(path, options=SMALL) as manifest:
        assert (datetime.now(UTC) - manifest.metadata.ts_updated).days > 40 * 365
