"""File names: built, parsed, refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from manifestlog import names
from manifestlog.names import ManifestPaths

PATHS = ManifestPaths("/m", "systems_download")
PARTS = st.text("abcxyz019-", min_size=1, max_size=8)
NAMES = st.lists(PARTS, min_size=2, max_size=4).map("_".join)


def test_every_name_is_spelt_as_in_the_design() -> None:
    """The files of one manifest."""
    assert [PATHS.canonical, PATHS.segment(42), PATHS.index, PATHS.append_lock, PATHS.compact_lock] == [
        "/m/systems_download.manifest.json",
        "/m/systems_download.manifest.wal-000042.jsonl",
        "/m/systems_download.manifest.idx",
        "/m/systems_download.manifest.lock",
        "/m/systems_download.manifest.compact.lock",
    ]


@given(NAMES)
def test_parsing_undoes_building(name: str) -> None:
    """A canonical's name gives the manifest's."""
    assert names.parse_manifest_name(os.path.basename(ManifestPaths("/m", name).canonical)) == name


@given(NAMES, st.lists(st.integers(1, 10**9), unique=True))
def test_segments_are_found_in_log_order(name: str, numbers: list[int]) -> None:
    """By number, also when a number outgrows its digits."""
    paths = ManifestPaths("/m", name)
    assert paths.segment_numbers([os.path.basename(paths.segment(n)) for n in numbers]) == sorted(numbers)


@pytest.mark.parametrize(
    "other",
    [
        "systems_download.manifest.json",
        "systems_download.manifest.wal-00042.jsonl",
        "systems_download.manifest.wal-000042.jsonl.tmp-1-1",
        "systems_download.manifest.wal-000042.json",
        "systems_download.manifest.wal--00042.jsonl",
        "systems_download.manifest.wal-00004a.jsonl",
        "xsystems_download.manifest.wal-000042.jsonl",
        "systems_download_x.manifest.wal-000042.jsonl",
        "systems_downloadxmanifest.wal-000042.jsonl",
        "systems_download.manifest.wal-000042.jsonl\n",
    ],
)
def test_other_files_are_no_segments(other: str) -> None:
    """Nobody's business."""
    assert PATHS.segment_numbers([other]) == []


@pytest.mark.parametrize("path", [PATHS.canonical, PATHS.index, PATHS.segment(7)])
def test_temporaries_are_found(path: str) -> None:
    """What a writer that died may have left."""
    temporary = PATHS.temporary(path)
    assert PATHS.temporaries([os.path.basename(temporary)]) == [temporary]


@pytest.mark.parametrize("path", [PATHS.canonical, PATHS.index, PATHS.segment(7), PATHS.append_lock])
def test_permanent_files_are_not_temporaries(path: str) -> None:
    """Nothing that may be swept."""
    assert PATHS.temporaries([os.path.basename(path)]) == []


def test_temporaries_of_other_manifests_are_not_changed() -> None:
    """A neighbour's temporary is not ours to sweep."""
    other = ManifestPaths("/m", "bodies_download")
    assert PATHS.temporaries([os.path.basename(other.temporary(other.canonical))]) == []


def test_no_two_temporaries_have_one_name() -> None:
    """Threads may make them at once."""
    assert len({PATHS.temporary(PATHS.canonical) for _ in range(100)}) == 100


def test_a_temporary_is_no_manifest() -> None:
    """Nobody opens a half-written file by its name."""
    assert names.parse_manifest_name(os.path.basename(PATHS.temporary(PATHS.canonical))) is None


GOOD = ["a_b", "systems_download", "a-b_c-d", "1_2", "a_b_c_d"]
BAD = [
    "",
    "a",
    "_",
    "a_",
    "_a",
    "a__b",
    "A_b",
    "a_B",
    "a b_c",
    "a.b_c",
    "ä_b",
    "a_b\n",
    "\na_b",
    "a/b_c",
    "٣_a",
    "a_b ",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_given_back(name: str) -> None:
    """Two or more parts."""
    assert names.check_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_with_the_pattern(name: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ValueError, match=r"<domain>_<process>\.manifest\.json"):
        names.check_name(name)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_does_not_parse(name: str) -> None:
    """No manifest."""
    assert names.parse_manifest_name(f"{name}.manifest.json") is None


@pytest.mark.parametrize("name", [name for name in BAD if "/" not in name])
def test_a_bad_name_does_not_resolve(tmp_path: Path, name: str) -> None:
    """Nothing is opened under it."""
    with pytest.raises(ValueError, match="expected"):
        names.resolve(tmp_path / f"{name}.manifest.json")


@pytest.mark.parametrize("file_name", ["a_b.json", "a_b.manifest", "a_b.manifest.jsonl", "a_b.manifest.json.gz", "a_b"])
def test_another_suffix_does_not_parse(file_name: str) -> None:
    """Only `.manifest.json`."""
    assert names.parse_manifest_name(file_name) is None


def test_links_are_resolved_once(tmp_path: Path) -> None:
    """From then on a manifest is one directory and one stem."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    found = names.resolve(tmp_path / "link" / ".." / "link" / "a_b.manifest.json")
    assert found == ManifestPaths(os.path.realpath(tmp_path / "real"), "a_b")


def test_a_domain_may_have_parts() -> None:
    """The last part is the process."""
    assert names.manifest_path("/m", "a_b", "c") == Path("/m/a_b_c.manifest.json")


@pytest.mark.parametrize(
    ("domain", "process"), [("a", "b_c"), ("", "b"), ("a", ""), ("A", "b"), ("../a", "b"), ("a", "b\n")]
)
def test_bad_parts_are_refused(domain: str, process: str) -> None:
    """A process has no underscore, and no part leaves the directory."""
    with pytest.raises(ValueError, match="<domain>_<process>"):
        names.manifest_path("/m", domain, process)


def test_the_folders_of_repairs_are_found_again_in_order() -> None:
    paths = names.resolve("/srv/systems_download.manifest.json")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    folders = [paths.quarantine_folder(when, n) for when in (moment, moment + timedelta(days=1)) for n in (1, 2, 10)]
    file_names = [folder.rpartition("/")[2] for folder in folders]
    assert (
        paths.quarantine_folders([*reversed(file_names), "systems_download-x", "other_download-20260102T030405Z"])
        == folders
    )


def test_a_link_to_no_manifest_names_both(tmp_path: Path) -> None:
    (tmp_path / "a_latest.manifest.json").symlink_to("backup-2024.json")
    with pytest.raises(ValueError, match=r"a_latest.manifest.json' is a link to '.*/backup-2024.json', which is no"):
        names.resolve(tmp_path / "a_latest.manifest.json")


@pytest.mark.parametrize(
    "name", ["backup-2024.json", "backup-2024.json/", "./backup-2024.json", "x/../backup-2024.json"]
)
def test_a_bad_name_is_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^'{name}' is not a manifest file"):
        names.resolve(name)


@pytest.mark.parametrize(
    "location",
    ["memory:systems_download", "memory://systems_download", "postgresql://host/etl/systems_download?service=x"],
)
def test_a_manifest_that_is_not_in_files_has_a_name_and_no_directory(location: str) -> None:
    assert names.files_of(location) == ManifestPaths("", "systems_download")


def test_the_files_of_a_path_are_in_its_directory(tmp_path: Path) -> None:
    assert names.files_of(tmp_path / "a_b.manifest.json") == ManifestPaths(os.path.realpath(tmp_path), "a_b")


@pytest.mark.parametrize(
    ("location", "is_path"),
    [("x_y.manifest.json", True), ("manifests", True), ("memory:x_y", False), ("memory:", False), ("s3://b/x", False)],
)
def test_a_path_is_told_from_other_locations(location: str, is_path: bool) -> None:
    assert names.is_path(location) is is_path
