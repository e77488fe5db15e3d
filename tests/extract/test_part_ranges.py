"""A part that is written in several ranges: what its state says is there, at every moment, killed or without power."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from extract.running import pattern
from manifestlog.extract.fetchers.protocol import ResponseHead
from manifestlog.extract.part_file import PartFile, PartWriter
from manifestlog.extract.part_ranges import RangesWriter
from manifestlog.extract.part_state import PartState
from manifestlog.extract.paths import SourcePaths, part_state_path
from manifestlog.extract.ranges import Range
from manifestlog.extract.state_file import write_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BODY, OLD = pattern(1000), pattern(1000, 1)
HEAD = ResponseHead(200, '"a"', length_bytes=len(BODY))


def part_in(folder: Path) -> PartFile:
    """Open the part, as another process would."""
    part = folder / "systems.json.5eed1234.part"
    return PartFile(SourcePaths(part.with_name("systems.json"), part, part.with_suffix(".rejected")))


def write(writer: RangesWriter, *spans: tuple[int, int]) -> None:
    """Let these bytes arrive, each from a connection of its own."""
    for start, end in spans:
        with writer.lock:
            share = writer.division._give_out(Range(start, end), 0.0)
            writer.write(share, memoryview(BODY[start:end]))
            writer.division.end(share)


def left_with(folder: Path, *spans: tuple[int, int]) -> None:
    """Leave a part with these ranges, as a run that fails does."""
    with pytest.raises(ConnectionError), RangesWriter(part_in(folder), HEAD) as writer:  # noqa: PT012 -- it ends with it
        write(writer, *spans)
        raise ConnectionError


def resumable(folder: Path) -> int:
    found = part_in(folder).resumable()
    return -1 if found is None else found.length_bytes


# -- at every moment ---------------------------------------------------------------------------------------------------


class Disk:
    """Looks at the part before each change of the disk, and knows which bytes a power cut leaves."""

    def __init__(self, folder: Path, writes_meanwhile: Callable[[], None]) -> None:
        self.folder, self.part = folder, part_in(folder).path
        self.durable = b""
        self.synced: set[int] = set()
        """The files that were synced, by inode."""
        self.looks = 0
        self._writes_meanwhile = writes_meanwhile
        self._real = {name: getattr(os, name) for name in ("pwrite", "fsync", "replace", "ftruncate")}

    def patches(self) -> Any:
        looking: dict[str, Any] = {name: self._looking(name) for name in self._real}
        return mock.patch.multiple(os, **looking)

    def _looking(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.look()
            if name == "replace":
                assert os.stat(arguments[0]).st_ino in self.synced, "a power cut may leave an empty state"
            found = self._real[name](*arguments)
            if name == "replace":
                self.check_noted()
            if name == "fsync":
                self._sync(os.fstat(arguments[0]))
            return found

        return call

    def _sync(self, file: os.stat_result) -> None:
        self.synced.add(file.st_ino)
        if os.path.samestat(file, self.part.stat()):
            self.durable = self.part.read_bytes()
            self._writes_meanwhile()  # by another connection, before the state is noted

    def look(self) -> None:
        """Check that a run which is killed now leaves nothing that the next one misreads."""
        self.looks += 1
        found, data = part_in(self.folder), self.part.read_bytes()
        if found.state is None:
            return
        body = BODY if found.state.etag == '"a"' else OLD
        ranges = [Range(0, len(data))] if found.state.ranges is None else found.ranges()
        for start, end in ranges:
            assert data[start:end] == body[start:end], f"bytes {start} to {end} are not there"

    def check_noted(self) -> None:
        """Check that a power cut leaves what the new state names."""
        for start, end in part_in(self.folder).ranges():
            assert self.durable[start:end] == BODY[start:end], f"bytes {start} to {end} would be lost"


def claims_at_every_moment(folder: Path) -> None:
    """Old content with ranges, then new content, which arrives behind a gap first and breaks off."""
    part = part_in(folder)
    part.path.parent.mkdir(parents=True, exist_ok=True)
    part.path.write_bytes(OLD)
    write_state(part.path, PartState('"old"', total_bytes=len(OLD), ranges=[[0, 100], [300, 900]]))
    meanwhile = [(950, 960), (970, 980), (990, 995)]
    writers: list[RangesWriter] = []

    def arrives_meanwhile() -> None:
        if writers and meanwhile:
            write(writers[0], meanwhile.pop(0))

    disk = Disk(folder, arrives_meanwhile)
    with disk.patches(), RangesWriter(part_in(folder), HEAD) as writer:
        write(writer, (0, 40))
        writers.append(writer)
        write(writer, (500, 700))
        writer.save()
        write(writer, (40, 80))
    disk.look()
    assert disk.looks > 8


def test_what_a_state_says_is_there_at_every_moment(tmp_path: Path) -> None:
    claims_at_every_moment(tmp_path)


def linear_at_every_moment(folder: Path) -> None:
    """A part that was received in order goes on in ranges."""
    part = part_in(folder)
    part.path.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(ConnectionError), PartWriter(part, HEAD) as before:  # noqa: PT012 -- it ends with it
        before.write(BODY[:200])
        raise ConnectionError
    disk = Disk(folder, lambda: None)
    with disk.patches(), RangesWriter(part_in(folder), HEAD._replace(start=200)) as writer:
        write(writer, (500, 700))
    assert resumable(folder) == 200


def test_a_part_in_order_is_what_its_state_says_when_it_goes_on_in_ranges(tmp_path: Path) -> None:
    linear_at_every_moment(tmp_path)


# -- what the next run finds -------------------------------------------------------------------------------------------


def test_only_the_bytes_before_the_first_gap_are_resumed_in_order(tmp_path: Path) -> None:
    left_with(tmp_path, (0, 300), (500, 600))
    assert resumable(tmp_path) == 300


def test_all_ranges_are_resumed_in_ranges(tmp_path: Path) -> None:
    left_with(tmp_path, (0, 300), (500, 600))
    with RangesWriter(part_in(tmp_path), HEAD._replace(start=300)) as writer:
        assert writer.division.arrived == [Range(0, 300), Range(500, 600)]


def test_another_content_starts_again(tmp_path: Path) -> None:
    left_with(tmp_path, (0, 300), (500, 600))
    with RangesWriter(part_in(tmp_path), ResponseHead(200, '"b"', length_bytes=1000)) as writer:
        assert writer.division.arrived == []


def test_ranges_hold_after_a_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_with(tmp_path, (0, 300))
    monkeypatch.setattr("manifestlog.extract.part_file._this_boot", lambda: "another")
    assert resumable(tmp_path) == 300


def test_a_part_that_goes_on_in_order_has_no_ranges(tmp_path: Path) -> None:
    left_with(tmp_path, (0, 300), (500, 600))
    part = part_in(tmp_path)
    part.resumable()
    with PartWriter(part, HEAD._replace(start=300)) as writer:
        writer.write(BODY[300:])
    assert (part_in(tmp_path).ranges(), part.path.read_bytes()) == ([], BODY)


def test_a_complete_part_is_like_any_other(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    with RangesWriter(part, HEAD) as writer:
        write(writer, (0, 1000))
    part.record_intent("0" * 64, part.paths.target, "2024-01-01T00:00:00+00:00")
    assert part_in(tmp_path).state == PartFile(part.paths).state
    assert part_in(tmp_path).ranges() == []


def test_nothing_is_left_of_a_part_that_is_discarded(tmp_path: Path) -> None:
    left_with(tmp_path, (0, 300), (500, 600))
    part_in(tmp_path).discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ranges", ['"all"', "[1]", "[[1]]", "[[1,2,3]]", '[[1,"2"]]', "[[-1,2]]", "{}", "[[0.5,2]]", "[null]"]
)
def test_a_state_with_invalid_ranges_is_none(tmp_path: Path, ranges: str) -> None:
    left_with(tmp_path, (0, 300))
    state = part_state_path(part_in(tmp_path).path)
    state.write_text(f'{{"etag":"a","ranges":{ranges}}}', encoding="ascii")
    assert part_in(tmp_path).state is None


@pytest.mark.parametrize("ranges", [[[900, 100]], [[0, 5000]], [[5000, 9000]]])
def test_ranges_that_cannot_be_are_not_there(tmp_path: Path, ranges: list[list[int]]) -> None:
    left_with(tmp_path, (0, 300))
    part = part_in(tmp_path)
    write_state(part.path, PartState('"a"', ranges=ranges))
    assert all(end <= 300 for _, end in part_in(tmp_path).ranges())
