"""A crash in the middle of a write: the last line cut at every byte, with and without junk behind it."""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from support.integrity import active_segment, check_manifest, load_canonical
from support.records import NAME, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.children import Link, Start

BEFORE = range(5)
LAST = 5
AFTER = range(10, 13)

JUNK = {
    "nothing": b"",
    "zero bytes": bytes(512),
    "random bytes": bytes(range(128, 256)),
    "half a line": b'{"op":"put","ts":"2024-01-01T00:00:00.000000Z","rec',
    "a wrong line": b'{"op":"put","ts":"2024-01-01T00:00:00.000000Z","crc":"00000000"}\n',
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with some records in the canonical, and in the log more and a last one."""
    path = tmp_path_factory.mktemp("original") / NAME
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in BEFORE[:2]])
        manifest.compact()
        manifest.add_many([make_record(n) for n in BEFORE[2:]])
        manifest.add(make_record(LAST))
    return path


@pytest.fixture(scope="module")
def last_line(original: Path) -> range:
    """The offsets of the last line in the active segment."""
    data = active_segment(original).read_bytes()
    return range(data.rindex(b"\n", 0, -1) + 1, len(data))


@pytest.fixture
def torn(original: Path, last_line: range, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy whose last line is cut `at` so many bytes, with this junk behind."""

    def make(at: int, junk: bytes = b"") -> Path:
        target = tmp_path / f"cut-{at}-{len(junk)}"
        shutil.copytree(original.parent, target)
        path = target / NAME
        segment = active_segment(path)
        segment.write_bytes(segment.read_bytes()[: last_line.start + at] + junk)
        return path

    return make


@pytest.fixture
def every_cut(last_line: range, torn: Callable[..., Path]) -> Iterator[tuple[int, Path]]:
    """(bytes kept of the last line, path) for every cut that takes something of it."""
    return ((at, torn(at)) for at in range(len(last_line)))


@pytest.fixture(params=JUNK)
def some_cuts(request: pytest.FixtureRequest, last_line: range, torn: Callable[..., Path]) -> list[tuple[int, Path]]:
    """(bytes kept, path) for a few cuts with junk behind; the line is never whole."""
    length = len(last_line)
    return [(at, torn(at, JUNK[request.param])) for at in (1, 2, length // 2, length - 2)]


def stored(path: Path) -> set[str]:
    with DownloadManifestManager(path, read_only=True) as manifest:
        return set(manifest)


def expected(at: int, length: int) -> set[str]:
    """A line that lacks only its newline is whole."""
    return {checksum(n) for n in BEFORE} | ({checksum(LAST)} if at == length - 1 else set())


def test_a_torn_manifest_opens_with_everything_before(every_cut: Iterator[tuple[int, Path]], last_line: range) -> None:
    """Cut anywhere in its last line, it opens and lacks nothing but that line."""
    assert {at: stored(path) == expected(at, len(last_line)) for at, path in every_cut} == dict.fromkeys(
        range(len(last_line)), True
    )


def test_writes_after_the_recovery_survive_the_next_opening(
    every_cut: Iterator[tuple[int, Path]], last_line: range
) -> None:
    """Three writers one after the other, then a reader: all their records are there, whatever the cut."""
    for at, path in every_cut:
        for number in AFTER:
            with DownloadManifestManager(path, options=QUICK) as manifest:
                manifest.add(make_record(number))
        assert stored(path) == expected(at, len(last_line)) | {checksum(n) for n in AFTER}, at


@pytest.mark.parametrize("step", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_a_compaction_after_the_recovery_keeps_everything(
    every_cut: Iterator[tuple[int, Path]], last_line: range, step: int
) -> None:
    """The canonical holds the records from before the crash and from after it, and the log is in order."""
    for at, path in every_cut:
        if at % step and at != len(last_line) - 1:
            continue
        with DownloadManifestManager(path, options=QUICK) as manifest:
            manifest.add(make_record(AFTER[0]))
            manifest.save()
        assert set(load_canonical(path)["records"]) == expected(at, len(last_line)) | {checksum(AFTER[0])}, at
        check_manifest(path)


def test_the_torn_record_can_be_added_again(every_cut: Iterator[tuple[int, Path]], last_line: range) -> None:
    """What was torn off is unknown, so adding it again is `new`; a line that lacks its newline is known."""
    for at, path in every_cut:
        with DownloadManifestManager(path, options=QUICK) as manifest:
            verdict = manifest.add(make_record(LAST)).verdict
        assert verdict == ("duplicate" if at == len(last_line) - 1 else "new"), at


def test_junk_after_a_torn_line_is_not_a_record(some_cuts: list[tuple[int, Path]]) -> None:
    """Whatever lies behind the torn line, everything before it is there and nothing else."""
    assert [stored(path) for _, path in some_cuts] == [expected(0, 0)] * len(some_cuts)


def test_writes_survive_behind_junk(some_cuts: list[tuple[int, Path]]) -> None:
    """Records that are added after the recovery are there at the next openings, and after a compaction."""
    for _, path in some_cuts:
        for number in AFTER:
            with DownloadManifestManager(path, options=QUICK) as manifest:
                manifest.add(make_record(number))
        everything = expected(0, 0) | {checksum(n) for n in AFTER}
        assert stored(path) == everything
        with DownloadManifestManager(path, options=QUICK) as manifest:
            manifest.save()
        assert set(load_canonical(path)["records"]) == everything


def test_a_torn_tail_is_reported(some_cuts: list[tuple[int, Path]], caplog: pytest.LogCaptureFixture) -> None:
    """Opening it and going on says so in the log, naming the segment."""
    for _, path in some_cuts:
        caplog.clear()
        segment = active_segment(path)
        with DownloadManifestManager(path, options=QUICK) as manifest:
            manifest.add(make_record(AFTER[0]))
        warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert any(segment.name in message for message in warnings)


def test_the_torn_bytes_stay_where_they_are(torn: Callable[..., Path], last_line: range) -> None:
    """No file is rewound: the segment keeps its bytes until a compaction has covered it."""
    path = torn(len(last_line) // 2)
    segment = active_segment(path)
    before = segment.read_bytes()
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.add(make_record(AFTER[0]))
    assert segment.read_bytes() == before


def test_an_open_reader_continues_over_a_torn_tail(torn: Callable[..., Path], last_line: range) -> None:
    """A reader that had opened the torn manifest sees what is written behind the fence."""
    path = torn(len(last_line) // 2)
    with DownloadManifestManager(path, read_only=True) as reader:
        assert len(reader) == len(BEFORE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("manifestlog.open_managers.open_managers._open", {})  # as another process would
            with DownloadManifestManager(path, options=QUICK) as manifest:
                manifest.add(make_record(AFTER[0]))
        assert reader.has_checksum(checksum(AFTER[0]))


@pytest.fixture(params=[False, True], ids=["writer", "reader"])
def overtaken(
    request: pytest.FixtureRequest, torn: Callable[..., Path], last_line: range
) -> Iterator[DownloadManifestManager]:
    """A manager that stands at a torn end; since then another process has fenced it off, gone on, and compacted all."""
    path = torn(len(last_line) // 2)
    with DownloadManifestManager(path, options=QUICK, read_only=request.param) as manifest:
        assert len(manifest) == len(BEFORE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("manifestlog.open_managers.open_managers._open", {})  # as another process would
            with DownloadManifestManager(path, options=QUICK) as other:
                other.add(make_record(AFTER[0]))
                other.compact()
                other.add(make_record(AFTER[1]))
        yield manifest


def test_a_torn_tail_that_was_compacted_away_is_left_behind(overtaken: DownloadManifestManager) -> None:
    """Whoever still stood there sees what was written since: the next segment is gone, but not the last."""
    assert set(overtaken) == expected(0, 0) | {checksum(AFTER[0]), checksum(AFTER[1])}


@pytest.mark.parametrize("overtaken", [False], ids=["writer"], indirect=True)
def test_nothing_is_written_after_a_torn_tail_that_was_compacted_away(overtaken: DownloadManifestManager) -> None:
    """No segment number is used again: its records would be in a file that nobody reads."""
    assert [overtaken.add(make_record(n)).verdict for n in AFTER] == ["duplicate", "duplicate", "new"]
    overtaken.close()
    assert stored(overtaken.path) == expected(0, 0) | {checksum(n) for n in AFTER}


def _sleeper(link: Link, path: Path) -> bool:
    """Stand at the log's clean end, and write again when told to."""
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.add(make_record(100))
        link.send("ready")
        link.recv()
        link.send(manifest.has_checksum(checksum(101)))
        manifest.add(make_record(102))
        return manifest.has_checksum(checksum(101))


@pytest.fixture
def slept(path: Path, start: Start) -> tuple[bool, Path]:
    """Behind the back of an open process the tail is torn, fenced, and both segments are compacted away: what it sees."""
    DownloadManifestManager(path, metadata(), options=QUICK).close()
    sleeper = start(_sleeper, path)
    sleeper.receive()
    with active_segment(path).open("ab") as file:
        file.write(b'{"op":"put","ts"')
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.add(make_record(101))
        manifest.compact()
    sleeper.send("go on")
    seen = sleeper.receive()
    sleeper.result()
    return seen, path


def test_a_process_that_slept_over_a_fence_and_a_compaction_sees_what_came(slept: tuple[bool, Path]) -> None:
    """Its segment's end is torn, and the next one is gone: it must load again."""
    assert slept[0]


def test_a_process_that_slept_over_a_fence_and_a_compaction_writes_where_others_read(slept: tuple[bool, Path]) -> None:
    """Not into a segment of the number that was compacted away."""
    assert stored(slept[1]) == {checksum(number) for number in (100, 101, 102)}


def test_a_lookup_costs_the_same_at_a_long_torn_tail_as_at_a_clean_end(original: Path, tmp_path: Path) -> None:
    """Eight megabytes that no writer has come to fence off: they are read once, not for each question (58 ms each)."""
    path = tmp_path / "long" / NAME
    shutil.copytree(original.parent, path.parent)
    with active_segment(path).open("ab") as active:
        active.write(b'{"op":"batch","ts":"2024-01-01T00:00:00.000000Z","records":[' + b"x" * (8 << 20))
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.has_checksum(checksum(LAST))
        began = time.perf_counter()
        found = [manifest.has_checksum(checksum(n)) for n in range(200)]
        took_s = time.perf_counter() - began
    assert (sum(found), took_s < 1.0) == (len(BEFORE) + 1, True), f"{took_s / 200 * 1e3:.2f} ms for each"
