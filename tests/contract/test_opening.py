"""Opening and creating: what must be there, what is written, what is taken over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestNotFoundError,
    MetadataConflictError,
    ReadOnlyError,
    manifest_path,
)

from .builders import META, QUIET, files_of, meta, record, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Opener

PATTERN = re.escape("<domain>_<process>.manifest.json")

SKELETON = b"""{
    "metadata": {
        "process": "extractor",
        "etl_version": "1.0.0",
        "root_dir": "/srv/etl",
        "total_records": 0,
        "ts_created": "2023-01-01T12:00:00Z",
        "ts_updated": "2023-01-01T12:00:00Z"
    },
    "records": {}
}
"""


def _meta_lines(path: Path) -> list[Any]:
    lines = [ln for s in segments_of(path.parent) for ln in s.read_bytes().splitlines()]
    return [json.loads(line)["metadata"] for line in lines if line.startswith(b'{"op":"meta"')]


# -- what is not there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "open_it",
    [
        DownloadManifestManager,
        lambda path: DownloadManifestManager(path, read_only=True),
        lambda path: DownloadManifestManager(path, META, read_only=True),
    ],
    ids=["no metadata", "read only", "read only with metadata"],
)
@pytest.mark.parametrize("folder", ["", "missing", "missing/deeper"])
def test_a_missing_manifest_is_not_found(path: Path, open_it: Callable[[Path], object], folder: str) -> None:
    """A missing manifest without metadata or read-only is an error."""
    with pytest.raises(ManifestNotFoundError):
        open_it(path.parent / folder / path.name)


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_missing_manifest_is_not_created(path: Path, folder: str) -> None:
    """Not finding a manifest creates nothing, no directory and no lock file."""
    with pytest.raises(ManifestNotFoundError):
        DownloadManifestManager(path.parent / folder / path.name)
    assert list(path.parent.iterdir()) == []


def test_a_missing_manifest_is_a_file_not_found(path: Path) -> None:
    """Code that knows only Python's own errors catches it too."""
    with pytest.raises(FileNotFoundError):
        DownloadManifestManager(path)


# -- creating ----------------------------------------------------------------------------------------------------------


def test_creating_writes_the_skeleton_at_once(opener: Opener, path: Path) -> None:
    """A new manifest is the skeleton, byte for byte, as soon as it is open."""
    opener()
    assert path.read_bytes() == SKELETON


def test_creating_writes_nothing_else(opener: Opener, path: Path) -> None:
    """A new manifest is one file, locks aside."""
    opener()
    assert list(files_of(path.parent)) == [path.name]


def test_creating_ignores_a_given_total(opener: Opener) -> None:
    """A new manifest has no records, whatever its metadata say."""
    assert opener(meta(total_records=7)).metadata.total_records == 0


def test_creating_makes_the_directory(opener: Opener, path: Path) -> None:
    """A missing directory is created with the manifest."""
    deep = path.parent / "a" / "b" / path.name
    opener(path=deep)
    assert deep.read_bytes() == SKELETON


def test_creating_over_a_broken_link_creates_its_target(opener: Opener, path: Path, tmp_path: Path) -> None:
    """A link to a manifest that is not there yet leads to where it is made."""
    link = tmp_path / "link_download.manifest.json"
    link.symlink_to(path)
    opener(path=link)
    assert path.read_bytes() == SKELETON


def test_a_fresh_manifest_opens_again(opener: Opener) -> None:
    """A manifest that nobody wrote to opens."""
    opener().close()
    assert len(opener(None)) == 0


# -- read-only ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(opener: Opener) -> DownloadManifestManager:
    """A read-only manager of a manifest with one record in the log."""
    writer = opener()
    writer.add(record("a"))
    writer.close()
    return opener(None, read_only=True)


@pytest.mark.parametrize(
    "write",
    [
        lambda m: m.add(record("b")),
        lambda m: m.add(record("a")),
        lambda m: m.forget(sha("a")),
        lambda m: m.update(sha("a"), {"checksum": sha("a"), "etag": None, "file_path": "/x", "file_size": 1}),
        lambda m: m.compact(),
        lambda m: m.save(),
    ],
    ids=["add", "add a duplicate", "forget", "update", "compact", "save"],
)
def test_a_reader_cannot_write(
    reader: DownloadManifestManager, write: Callable[[DownloadManifestManager], object]
) -> None:
    """Every write through a read-only manager is a `ReadOnlyError`."""
    with pytest.raises(ReadOnlyError):
        write(reader)


def test_a_reader_reads(reader: DownloadManifestManager) -> None:
    """A read-only manager answers."""
    assert reader.get(sha("a")) == record("a")


def test_a_reader_leaves_no_trace(opener: Opener, path: Path) -> None:
    """Opening read-only, asking everything and closing changes no file and makes none, locks included."""
    writer = opener()
    writer.add(record("a"))
    writer.close()
    for lock in path.parent.glob("*.lock"):
        lock.unlink()
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in path.parent.iterdir()}
    with opener(None, read_only=True) as reader:
        list(reader.records.items())
        reader.get_record_by_source("src")
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in path.parent.iterdir()} == before


def test_a_reader_logs_no_metadata(opener: Opener, path: Path) -> None:
    """A read-only opener with a newer version changes nothing stored."""
    opener().close()
    opener(meta(etl_version="2.0.0"), read_only=True)
    assert files_of(path.parent) == {path.name: SKELETON}


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_another_process_is_a_conflict(opener: Opener) -> None:
    """A stored process that is not the given one is an error."""
    opener().close()
    with pytest.raises(MetadataConflictError, match="process"):
        opener(meta(process=ETLProcess.LOADER))


def test_another_process_is_a_conflict_for_readers_too(opener: Opener) -> None:
    """Read-only openers are told as well."""
    opener().close()
    with pytest.raises(MetadataConflictError):
        opener(meta(process=ETLProcess.LOADER), read_only=True)


def test_a_conflict_names_both_values(opener: Opener) -> None:
    """The error has the stored and the given value."""
    opener().close()
    with pytest.raises(MetadataConflictError) as conflict:
        opener(meta(process=ETLProcess.LOADER))
    assert (conflict.value.field, conflict.value.stored, conflict.value.given) == ("process", "extractor", "loader")


def test_a_conflict_changes_nothing(opener: Opener, path: Path) -> None:
    """A refused opener leaves the files as they were."""
    opener().close()
    with pytest.raises(MetadataConflictError):
        opener(meta(process=ETLProcess.LOADER, etl_version="2"))
    assert files_of(path.parent) == {path.name: SKELETON}


NEWER = [
    ("1.0.0", "1.0.1"),
    ("1.9", "1.10"),
    ("1.0.0", "1.0.0.1"),
    ("2", "10"),
    ("1.0.0", "nightly"),
    ("nightly", "1.0.0"),
    ("b", "a"),
    ("1.0.0", "1.0.0-rc1"),
]
NOT_NEWER = [("1.0.1", "1.0.0"), ("1.10", "1.9"), ("1.0", "1.0.0"), ("1.0.0", "1"), ("10", "9.9.9"), ("rc", "rc")]


@pytest.mark.parametrize(("stored", "given"), NEWER)
def test_a_newer_version_is_stored(opener: Opener, stored: str, given: str) -> None:
    """Dotted numbers compare as numbers; anything else counts as newer when different."""
    opener(meta(etl_version=stored)).close()
    opener(meta(etl_version=given)).close()
    assert opener(None).metadata.etl_version == given


@pytest.mark.parametrize(("stored", "given"), NEWER)
def test_a_newer_version_is_logged_as_meta(opener: Opener, path: Path, stored: str, given: str) -> None:
    """A newer version is one `meta` line."""
    opener(meta(etl_version=stored)).close()
    opener(meta(etl_version=given))
    assert _meta_lines(path) == [{"etl_version": given}]


@pytest.mark.parametrize(("stored", "given"), NOT_NEWER)
def test_an_older_version_changes_nothing_stored(opener: Opener, path: Path, stored: str, given: str) -> None:
    """An older or equal version leaves the files as they are."""
    opener(meta(etl_version=stored)).close()
    before = files_of(path.parent)
    opener(meta(etl_version=given))
    assert files_of(path.parent) == before


def test_a_newer_version_survives_a_compaction(opener: Opener, path: Path) -> None:
    """The canonical has the newer version after the next compaction."""
    opener().close()
    opener(meta(etl_version="1.1.0")).save()
    assert json.loads(path.read_bytes())["metadata"]["etl_version"] == "1.1.0"


def test_another_root_dir_is_logged_as_meta(opener: Opener, path: Path) -> None:
    """A moved root directory is one `meta` line."""
    opener().close()
    opener(meta(root_dir=Path("/moved")))
    assert _meta_lines(path) == [{"root_dir": "/moved"}]


def test_another_root_dir_is_stored(opener: Opener) -> None:
    """The next opener sees the moved root directory."""
    opener().close()
    opener(meta(root_dir=Path("/moved"))).close()
    assert opener(None).metadata.root_dir == Path("/moved")


def test_the_same_metadata_write_nothing(opener: Opener, path: Path) -> None:
    """Opening with what is stored leaves the files alone."""
    opener().close()
    opener()
    assert files_of(path.parent) == {path.name: SKELETON}


def test_meta_moves_ts_updated(opener: Opener) -> None:
    """A change of the metadata is a change."""
    opener().close()
    assert opener(meta(etl_version="2")).metadata.ts_updated > META.ts_updated


# -- names -------------------------------------------------------------------------------------------------------------

BAD_NAMES = [
    "manifest.json",
    "systems.manifest.json",
    "_download.manifest.json",
    "systems_.manifest.json",
    "systems__download.manifest.json",
    "Systems_download.manifest.json",
    "systems_download.json",
    "systems_download.manifest",
    "systems_download.manifest.json.bak",
    "systems_download.manifest.idx",
    "systems download.manifest.json",
    "sys.tems_download.manifest.json",
    "systèmes_download.manifest.json",
    "systems_download.manifest.json\n",
    ".manifest.json",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_outside_the_pattern_is_rejected(tmp_path: Path, name: str) -> None:
    """A bad name is refused with the pattern in the message."""
    with pytest.raises(ValueError, match=PATTERN):
        DownloadManifestManager(tmp_path / name, META)


def test_a_rejected_name_creates_nothing(tmp_path: Path) -> None:
    """A bad name leaves no file behind."""
    with pytest.raises(ValueError, match="expected"):
        DownloadManifestManager(tmp_path / "Bad.manifest.json", META)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a_b", "systems_download", "star-systems_daily_download", "2024_x", "-_-"])
def test_a_name_inside_the_pattern_is_accepted(opener: Opener, path: Path, name: str) -> None:
    """Lower-case letters, digits and '-', two or more parts joined by '_'."""
    assert len(opener(path=path.with_name(f"{name}.manifest.json"))) == 0


def test_manifest_path_builds_the_path() -> None:
    """The name is `<domain>_<process>.manifest.json`."""
    assert manifest_path("/m", "systems", "download") == Path("/m/systems_download.manifest.json")


def test_manifest_path_lets_a_domain_have_parts() -> None:
    """A domain may have several parts; the last part is the process."""
    assert manifest_path("/m", "star_systems", "download").name == "star_systems_download.manifest.json"


@pytest.mark.parametrize(
    ("domain", "process"),
    [
        ("", "x"),
        ("x", ""),
        ("X", "y"),
        ("x", "y_z"),
        ("x y", "z"),
        ("../x", "y"),
        ("x/y", "z"),
        ("x", "y.z"),
        ("_", "x"),
    ],
)
def test_manifest_path_refuses_bad_parts(domain: str, process: str) -> None:
    """Bad parts are a `ValueError` with the pattern."""
    with pytest.raises(ValueError, match=PATTERN):
        manifest_path("/m", domain, process)


def test_options_may_be_left_out(path: Path) -> None:
    """A manager without options has the default ones: durable, compacting on close."""
    with DownloadManifestManager(path, META) as manager:
        manager.add(record("a"))
    assert sha("a") in json.loads(path.read_bytes())["records"]


def test_quiet_options_leave_the_log(path: Path) -> None:
    """With `compact_on_close=False` the canonical stays as it was."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("a"))
    assert path.read_bytes() == SKELETON
