"""Records that cannot be stored: refused by name, nothing written."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from manifestlog import DownloadManifestManager, ManifestRecord, Observation, RecordRejectedError, Verdict

from .builders import META, QUIET, at, files_of, record, sha, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

NOBODY = 65534


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("checksum", "junk"),
        ("checksum", "g" * 64),
        ("checksum", sha("a")[:-1]),
        ("checksum", sha("a") + "0"),
        ("checksum", sha("a") + "\n"),
        ("checksum", "０" * 64),
        ("checksum", 7),
        ("checksum", None),
        ("ts_downloaded", datetime(2023, 1, 1)),  # naive on purpose
        ("ts_downloaded", "2023-01-01T12:00:00"),
        ("ts_downloaded", "soon"),
        ("file_size", 0),
        ("file_size", -1),
        ("file_size", "many"),
        ("source_id", ""),
        ("dataset", ""),
        ("source_id", None),
        ("file_path", None),
        ("version", None),
        ("derived_from", ("junk",)),
        ("also_seen", ({"source_id": "x"},)),
    ],
)
def test_a_bad_field_is_named(field: str, wrong: Any) -> None:
    """A record with a bad field cannot be made, and the error names the field."""
    with pytest.raises(ValidationError, match=field):
        record("a", **{field: wrong})


UNCHECKED = [("checksum", "junk"), ("source_id", 5), ("file_size", -1), ("ts_downloaded", datetime(2023, 1, 1))]


@pytest.mark.parametrize(("field", "wrong"), UNCHECKED)
def test_a_copy_with_a_bad_field_is_refused(field: str, wrong: Any) -> None:
    """pydantic's own `model_copy` takes anything, and the log would have kept it: a manifest that no longer opens."""
    with pytest.raises(ValidationError, match=field):
        record("a").model_copy(update={field: wrong})


@pytest.mark.parametrize(("field", "wrong"), UNCHECKED)
def test_no_record_is_constructed_unchecked(field: str, wrong: Any) -> None:
    """Nor does `model_construct` spare the validation."""
    with pytest.raises(ValidationError, match=field):
        ManifestRecord.model_construct(**(record("a").model_dump() | {field: wrong}))


def test_a_copy_is_normalised_as_any_record_is() -> None:
    """Upper case is no other content."""
    assert record("a").model_copy(update={"checksum": sha("b").upper()}).checksum == sha("b")


def test_a_copy_without_changes_is_equal() -> None:
    """Also with everything that is optional."""
    one = record("a", last_modified="x", derived_from=(sha("b"),))
    assert one.model_copy() == one


@pytest.mark.parametrize(
    "field", ["source_id", "dataset", "checksum", "file_path", "file_size", "ts_downloaded", "version"]
)
def test_a_missing_field_is_named(field: str) -> None:
    """A record without a required field cannot be made."""
    fields = record("a").model_dump()
    del fields[field]
    with pytest.raises(ValidationError, match=field):
        ManifestRecord(**fields)


UNWRITABLE: dict[str, dict[str, Any]] = {
    "lone surrogate in the path": {"file_path": Path("/raw/\udcff")},
    "size beyond 63 bits": {"file_size": 1 << 63},
    "size beyond 64 bits": {"file_size": 1 << 64},
    "size far beyond": {"file_size": 1 << 200},
    "over the limit": {"etag": "e" * (1 << 20)},
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_values_that_json_cannot_hold_are_rejected(manifest: DownloadManifestManager, what: str) -> None:
    """Some records can be made, but not stored."""
    with pytest.raises(RecordRejectedError):
        manifest.add(record("a", **UNWRITABLE[what]))


@pytest.mark.parametrize("what", UNWRITABLE)
def test_a_rejected_record_leaves_no_trace(manifest: DownloadManifestManager, what: str) -> None:
    """A rejected record writes no byte, and makes no file."""
    before = traces(manifest)
    with pytest.raises(RecordRejectedError):
        manifest.add(record("a", **UNWRITABLE[what]))
    assert traces(manifest) == before


@pytest.mark.parametrize("what", UNWRITABLE)
def test_a_rejection_is_a_value_error(manifest: DownloadManifestManager, what: str) -> None:
    """Code that knows only Python's own errors catches it too."""
    with pytest.raises(ValueError, match="rejected"):
        manifest.add(record("a", **UNWRITABLE[what]))


def test_a_rejected_record_does_not_affect_others(manifest: DownloadManifestManager) -> None:
    """After a rejection the next record is stored."""
    with pytest.raises(RecordRejectedError):
        manifest.add(record("a", file_size=1 << 64))
    assert manifest.add(record("a")).verdict is Verdict.NEW


@pytest.mark.files_only
@pytest.mark.parametrize("size", [1, (1 << 53) + 1, (1 << 63) - 1])
def test_a_large_size_is_exact(opener: Opener, size: int) -> None:
    """Sizes are whole numbers, through a compaction and reopening."""
    manager = opener()
    manager.add(record("a", file_size=size))
    manager.save()
    manager.close()
    assert opener(None).records[sha("a")].file_size == size


@pytest.mark.files_only
def test_an_empty_last_modified_is_none(opener: Opener) -> None:
    """As it is not written, it is not there before either: with an index or without, the answer is the same."""
    manager = opener()
    manager.add(record("a", last_modified="", also_seen=(_seen(last_modified=""),)))
    manager.save()
    manager.close()
    manager.path.with_suffix(".idx").unlink()
    found = opener(None).records[sha("a")]
    assert found == record("a", also_seen=(_seen(),))


def _seen(**more: Any) -> Observation:
    fields = record("a", -1, "other").model_dump(include=set(Observation.model_fields))
    return Observation(**fields | more)


def _length(each: ManifestRecord) -> int:
    return len(each.model_dump_json().encode())


def test_a_record_of_exactly_the_limit_is_stored(opener: Opener) -> None:
    """The limit is the length of the record's JSON, and is allowed."""
    each = record("a", etag="e" * 100)
    assert opener(options=replace(QUIET, record_bytes_max=_length(each))).add(each).verdict is Verdict.NEW


def test_a_record_one_byte_over_the_limit_is_rejected(opener: Opener) -> None:
    """One byte over the limit is too long."""
    each = record("a", etag="e" * 100)
    with pytest.raises(RecordRejectedError, match="record_bytes_max"):
        opener(options=replace(QUIET, record_bytes_max=_length(each) - 1)).add(each)


def test_content_from_too_many_sources_is_rejected(opener: Opener) -> None:
    """A record that grows over the limit by one more source is rejected, and stays as it was."""
    manager = opener(options=replace(QUIET, record_bytes_max=1000))
    kept = 0
    with pytest.raises(RecordRejectedError):  # noqa: PT012 -- when it is raised is what is counted
        for number in range(100):
            manager.add(record("a", number, source=f"s{number}"))
            kept += 1
    assert (1 < kept < 10, 1 + len(manager.records[sha("a")].also_seen)) == (True, kept)


@pytest.mark.files_only
@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "\n",
        "\r\n",
        '"',
        "\\",
        '","crc":"00000000"}',
        '{"op":"put"',
        "é",
        "\U0001f4be",
        "\u2028",
        "\ufeff",
        " ",
        "x" * 5000,
    ],
)
@pytest.mark.parametrize("field", ["source_id", "dataset", "etag", "version", "last_modified", "file_path"])
def test_odd_text_comes_back(opener: Opener, field: str, text: str) -> None:
    """Whatever Unicode text stands in a record, it is the same after a compaction and reopening, and findable."""
    fields: dict[str, Any] = {field: Path("/raw") / text if field == "file_path" else text}
    each = record("a", **fields)
    manager = opener()
    manager.add(each)
    manager.close()
    manager = opener(None)
    assert manager.get_record_by_source(each.source_id, each.dataset) == each
    manager.save()
    manager.close()
    assert opener(None).get_record_by_source(each.source_id, each.dataset) == each


@pytest.mark.parametrize("wrong", [None, {}, record("a").model_dump(), "record", 7])
def test_anything_but_a_record_is_a_type_error(manifest: DownloadManifestManager, wrong: Any) -> None:
    """Only records can be added."""
    with pytest.raises(TypeError, match="ManifestRecord"):
        manifest.add(wrong)


@pytest.mark.parametrize("year", [1, 1970, 2038, 9999])
def test_any_year_is_kept(opener: Opener, year: int) -> None:
    """Times far away come back as they were, and order stays right."""
    manager = opener()
    far = at(0).replace(year=year)
    manager.add(record("a", ts_downloaded=far))
    manager.save()
    found = manager.get_record_by_source("src")
    assert found is not None
    assert found.ts_downloaded == far


# -- a read-only directory ---------------------------------------------------------------------------------------------


@pytest.fixture
def locked_up() -> Iterator[Path]:
    """A manifest in a directory where nobody but its owner may write."""
    folder = Path(tempfile.mkdtemp(prefix="manifestlog-"))
    path = folder / "systems_download.manifest.json"
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("a"))
        manager.save()
        manager.add(record("b", 1))
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


def _read_as_nobody(path: Path, answers: Any) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
            answers.put(sorted(manager))
    except BaseException as error:
        answers.put(repr(error))


def _write_as_nobody(path: Path, answers: Any) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        with DownloadManifestManager(path, options=QUIET) as manager:
            manager.add(record("c", 2))
        answers.put("written")
    except OSError:
        answers.put("refused")


def _answer_of(target: Any, path: Path) -> object:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=target, args=(path, answers))
    child.start()
    child.join(30)
    return None if answers.empty() else answers.get()


def test_a_read_only_directory_can_be_read(locked_up: Path) -> None:
    """Reading works where nothing may be written, log included."""
    assert _answer_of(_read_as_nobody, locked_up) == sorted([sha("a"), sha("b")])


def test_a_read_only_directory_cannot_be_written(locked_up: Path) -> None:
    """Writing there is an error of the operating system."""
    assert _answer_of(_write_as_nobody, locked_up) == "refused"


def test_a_read_only_directory_is_not_changed(locked_up: Path) -> None:
    """A refused writer changes no byte."""
    before = files_of(locked_up.parent)
    _answer_of(_write_as_nobody, locked_up)
    assert files_of(locked_up.parent) == before
