"""A part and its state: trusted exactly as far as it is safe."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from extract.running import pattern, sha256
from manifestlog.extract import data_files, part_file, state_file, writing_files
from manifestlog.extract.decide import Part
from manifestlog.extract.fetchers.protocol import ResponseHead
from manifestlog.extract.part_file import PartFile, PartWriter
from manifestlog.extract.part_state import PartState
from manifestlog.extract.paths import SourcePaths

pytestmark = pytest.mark.usefixtures("no_small_bodies")

BODY = pattern(1000)
HEAD = ResponseHead(200, '"a"', "Mon, 01 Jan 2024 00:00:00 GMT", len(BODY))
NAME = "systems.json.5eed1234"


class Broken(Exception):  # noqa: N818 -- stands for whatever breaks off a body
    pass


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / f"{NAME}.part"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / f"{NAME}.part.json"


@pytest.fixture
def another_boot(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Use `setattr` on it to simulate a reboot."""
    monkeypatch.setattr(part_file, "_this_boot", lambda: "first")
    return monkeypatch


def reboot(patch: pytest.MonkeyPatch, name: str = "second") -> None:
    patch.setattr(part_file, "_this_boot", lambda: name)


def at(part: Path) -> PartFile:
    """Open this part, as another process would."""
    return PartFile(SourcePaths(part.with_name("systems.json"), part, part.with_suffix(".rejected")))


def write(part: Path, body: bytes, head: ResponseHead = HEAD) -> None:
    """Write a complete body."""
    with PartWriter(at(part), head) as writer:
        writer.write(body)


def cut(part: Path, body: bytes, head: ResponseHead = HEAD) -> None:
    """Write a body that breaks off after this."""
    with pytest.raises(Broken), PartWriter(at(part), head) as writer:  # noqa: PT012 -- the writer is what ends with it
        writer.write(body)
        raise Broken


def killed(part: Path, body: bytes, head: ResponseHead = HEAD) -> None:
    """Leave what a killed process leaves of a body: no `finally` or `with` block runs."""
    writer = PartWriter(at(part), head)
    writer.write(body)
    os.close(writer._fd)


def left(part: Path) -> list[str]:
    return sorted(path.name for path in part.parent.iterdir())


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_writer_hashes_what_it_writes(part: Path) -> None:
    with PartWriter(at(part), HEAD) as writer:
        writer.write(BODY[:300])
        writer.write(BODY[300:])
        assert (writer.sha256, writer.length_bytes) == (sha256(BODY), len(BODY))
    assert part.read_bytes() == BODY


def test_a_writer_starts_again_with_the_body(part: Path) -> None:
    write(part, BODY)
    write(part, b"short")
    assert part.read_bytes() == b"short"


def test_a_writer_continues_where_the_body_does(part: Path) -> None:
    cut(part, BODY[:400])
    with PartWriter(at(part), HEAD._replace(start=400)) as writer:
        writer.write(BODY[400:])
        assert (writer.sha256, writer.length_bytes) == (sha256(BODY), len(BODY))
    assert part.read_bytes() == BODY


def test_a_writer_truncates_the_part_to_the_start_of_the_body(part: Path) -> None:
    cut(part, BODY[:400] + b"other")
    with PartWriter(at(part), HEAD._replace(start=400)) as writer:
        assert writer.sha256 == sha256(BODY[:400])
    assert part.read_bytes() == BODY[:400]


def test_a_writer_takes_over_a_part_longer_than_a_block(part: Path) -> None:
    long = pattern(3_000_000)
    cut(part, long)
    with PartWriter(at(part), HEAD._replace(start=len(long))) as writer:
        assert writer.sha256 == sha256(long)


def test_bytes_before_an_error_are_kept(part: Path) -> None:
    cut(part, BODY[:400])
    assert at(part).resumable() == Part(400, HEAD.etag, HEAD.last_modified, len(BODY))


def test_bytes_before_an_error_count_as_synced(part: Path) -> None:
    cut(part, BODY[:400])
    found = state_file.read_state(part)
    assert found is not None
    assert found.synced_bytes == 400


def test_an_error_before_the_first_byte_leaves_an_empty_part(part: Path) -> None:
    cut(part, b"")
    assert at(part).resumable() == Part(0, HEAD.etag, HEAD.last_modified, len(BODY))


def test_an_error_comes_out_of_the_writer_as_it_is(part: Path) -> None:
    with pytest.raises(KeyboardInterrupt), PartWriter(at(part), HEAD) as writer:  # noqa: PT012 -- the writer is what ends with it
        writer.write(BODY)
        raise KeyboardInterrupt


def test_a_writer_closes_its_file_when_the_state_cannot_be_written(part: Path, state: Path) -> None:
    state.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IsADirectoryError):
        PartWriter(at(part), HEAD)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_is_reported_with_the_path_of_the_part(part: Path) -> None:
    with PartWriter(at(part), HEAD) as writer, Path("/dev/full").open("r+b", buffering=0) as full:
        os.dup2(full.fileno(), writer._fd)
        with pytest.raises(OSError, match=NAME) as caught:
            writer.write(BODY)
    assert caught.value.errno == errno.ENOSPC


# -- trusted bytes -----------------------------------------------------------------------------------------------------


def test_without_a_download_there_is_no_part(part: Path) -> None:
    assert at(part).resumable() is None


def test_a_killed_process_loses_nothing_that_it_wrote(part: Path) -> None:
    killed(part, BODY[:400])
    assert at(part).resumable() == Part(400, HEAD.etag, HEAD.last_modified, len(BODY))


def test_after_another_boot_only_synced_bytes_count(part: Path, another_boot: pytest.MonkeyPatch) -> None:
    cut(part, BODY[:400])
    with part.open("ab") as file:
        file.write(BODY[400:700])
    reboot(another_boot)
    assert at(part).resumable() == Part(400, HEAD.etag, HEAD.last_modified, len(BODY))


def test_after_another_boot_a_part_is_cut_to_what_was_synced(part: Path, another_boot: pytest.MonkeyPatch) -> None:
    cut(part, BODY[:400])
    with part.open("ab") as file:
        file.write(bytes(300))
    reboot(another_boot)
    at(part).resumable()
    assert part.read_bytes() == BODY[:400]


def test_after_another_boot_nothing_of_a_killed_process_counts(part: Path, another_boot: pytest.MonkeyPatch) -> None:
    killed(part, BODY[:400])
    reboot(another_boot)
    assert at(part).resumable() == Part(0, HEAD.etag, HEAD.last_modified, len(BODY))


def test_after_another_boot_a_part_is_never_longer_than_it_is(part: Path, another_boot: pytest.MonkeyPatch) -> None:
    cut(part, BODY[:400])
    os.truncate(part, 100)
    reboot(another_boot)
    found = at(part).resumable()
    assert (found is not None and found.length_bytes, part.stat().st_size) == (100, 100)


def test_where_boots_cannot_be_told_apart_only_synced_bytes_count(part: Path, another_boot: pytest.MonkeyPatch) -> None:
    reboot(another_boot, "")
    killed(part, BODY[:400])
    assert at(part).resumable() == Part(0, HEAD.etag, HEAD.last_modified, len(BODY))


def test_this_boot_has_a_name() -> None:
    assert len(part_file._this_boot()) == 36


# -- invalid states ----------------------------------------------------------------------------------------------------

BROKEN: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"etag":"\xff"}',
    "no object": b"[]",
    "null": b"null",
    "a number": b"7",
    "an unknown key": b'{"later":1}',
    "an ETag that is no text": b'{"etag":7}',
    "a date that is no text": b'{"last_modified":[]}',
    "a total that is no number": b'{"total_bytes":"9"}',
    "a synced length that is no number": b'{"synced_bytes":null}',
    "a synced length below zero": b'{"synced_bytes":-1}',
    "a checksum that is no text": b'{"sha256":{}}',
    "a boot that is no text": b'{"boot":{}}',
    "a time that is none": b'{"sha256":"00","file_path":"x","ts_completed":"never"}',
    "a time without zone": b'{"sha256":"00","file_path":"x","ts_completed":"2024-01-01T00:00:00"}',
    "nested without end": b"[" * 200_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_an_unusable_state_is_ignored(part: Path, state: Path, content: bytes) -> None:
    part.write_bytes(BODY)
    state.write_bytes(content)
    assert state_file.read_state(part) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"synced_bytes":-1}'])
def test_a_part_whose_state_cannot_be_used_is_dropped(part: Path, state: Path, content: bytes) -> None:
    part.write_bytes(BODY)
    state.write_bytes(content)
    assert (at(part).resumable(), left(part)) == (None, [])


def test_a_part_without_state_is_dropped(part: Path) -> None:
    part.write_bytes(BODY)
    assert (at(part).resumable(), left(part)) == (None, [])


def test_a_state_without_part_is_dropped(part: Path) -> None:
    state_file.write_state(part, PartState(etag='"a"'))
    assert (at(part).resumable(), left(part)) == (None, [])


def test_a_state_comes_back_as_it_was_written(part: Path) -> None:
    whole = PartState('"ä"', "date", 9, "boot", 5, "00" * 32, "/data/x", "2024-01-01T00:00:00+00:00")
    state_file.write_state(part, whole)
    assert state_file.read_state(part) == whole


def test_a_state_contains_no_nulls(part: Path, state: Path) -> None:
    state_file.write_state(part, PartState(etag='"a"'))
    assert json.loads(state.read_bytes()) == {"etag": '"a"', "boot": "", "synced_bytes": 0}


def test_half_a_state_is_ignored(part: Path, state: Path) -> None:
    state_file.write_state(part, PartState(etag='"a"'))
    whole = state.read_bytes()
    for length in range(len(whole)):
        state.write_bytes(whole[:length])
        assert state_file.read_state(part) is None


def test_discarding_leaves_nothing(part: Path, state: Path) -> None:
    cut(part, BODY)
    at(part).discard()
    assert left(part) == []


def test_discarding_nothing_is_fine(part: Path) -> None:
    at(part).discard()
    assert left(part) == []


# -- publishing --------------------------------------------------------------------------------------------------------


def test_recording_the_intent_keeps_the_state(part: Path) -> None:
    write(part, BODY)
    at(part).record_intent(sha256(BODY), part.parent / "x", "2024-01-01T00:00:00+00:00")
    found = state_file.read_state(part)
    assert found is not None
    assert (found.etag, found.sha256, found.file_path) == (HEAD.etag, sha256(BODY), str(part.parent / "x"))


def test_starting_again_discards_the_intent(part: Path) -> None:
    at(part).record_intent(sha256(BODY), part.parent / "x", "2024-01-01T00:00:00+00:00")
    write(part, BODY)
    found = state_file.read_state(part)
    assert found is not None
    assert found.sha256 is None


def test_finishing_gives_the_part_its_name(part: Path) -> None:
    write(part, BODY)
    at(part).publish(part.parent / "systems.json")
    assert ((part.parent / "systems.json").read_bytes(), part.exists()) == (BODY, False)


def test_a_part_is_synced_before_it_gets_its_name_and_its_folder_after(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, done = part.parent / "systems.json", []
    sync, replace = os.fsync, os.replace

    def noted_sync(fd: int) -> None:
        done.append(f"sync {os.readlink(f'/proc/self/fd/{fd}')}")
        sync(fd)

    def noted_replace(old: Any, new: Any) -> None:
        done.append(f"replace {new}")
        replace(old, new)

    write(part, BODY)
    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    at(part).publish(target)
    assert done == [f"sync {part}", f"replace {target}", f"sync {part.parent}"]


def test_new_directories_are_synced_from_the_top_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(writing_files, "sync_directories", synced.extend)
    writing_files.make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


def test_an_existing_directory_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(writing_files, "sync_directories", synced.extend)
    writing_files.make_directory(tmp_path)
    assert synced == []


def test_the_digest_of_a_file_is_its_sha256(part: Path) -> None:
    part.write_bytes(BODY)
    assert data_files.sha256_of(part) == hashlib.sha256(BODY).hexdigest()


def test_a_missing_file_has_no_size(part: Path) -> None:
    assert data_files.size_of(part) is None
