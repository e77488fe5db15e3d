"""Relative paths: they mean one thing, wherever the caller stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from cli.test_verify import MANIFEST, record
from manifestlog import DownloadManifestManager, ManifestMetadata, ManifestRecord, Observation

if TYPE_CHECKING:
    from cli.program import Result

README = Path(__file__).parents[2] / "README.md"
CONTENT = b"a"


def make(folder: Path, root_dir: str, file_path: str) -> Path:
    """A manifest in `folder` with one record of `CONTENT`."""
    path = folder / f"{MANIFEST}.manifest.json"
    metadata = ManifestMetadata(process="extractor", etl_version="1", root_dir=root_dir)  # type: ignore[arg-type]
    with DownloadManifestManager(path, metadata) as manifest:
        manifest.add(record(file_path, CONTENT))
    return path


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Program:
    """The program in a working folder that has nothing to do with the pipeline."""
    folder = tmp_path / "elsewhere" / "deep"
    folder.mkdir(parents=True)
    return Program(folder)


def quick_start(folder: Path) -> None:
    """Run what the README shows."""
    found = re.search(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    subprocess.run([sys.executable, "-c", found[1]], cwd=folder, check=True, capture_output=True)


def verified(run: Program, path: Path) -> Result:
    return run("verify", path, "--level", "size", "--json")


def test_the_readmes_quick_start_is_verified_where_it_was_made(run: Program, home: Path) -> None:
    quick_start(home)
    (home / "raw").mkdir()
    (home / "raw" / "systems.json.gz").write_bytes(bytes(1024))
    assert verified(run, home / "manifests" / "systems_download.manifest.json").json["ok"] == 1


def test_the_readmes_quick_start_is_verified_from_elsewhere(elsewhere: Program, home: Path) -> None:
    quick_start(home)
    (home / "raw").mkdir()
    (home / "raw" / "systems.json.gz").write_bytes(bytes(1024))
    assert verified(elsewhere, home / "manifests" / "systems_download.manifest.json").json["ok"] == 1


@pytest.mark.parametrize(
    ("root_dir", "file"),
    [(".", "manifests/raw/a"), ("..", "raw/a"), ("data", "manifests/data/raw/a"), ("../data/./x/..", "data/raw/a")],
)
def test_a_relative_root_begins_at_the_manifests_folder(
    elsewhere: Program, home: Path, root_dir: str, file: str
) -> None:
    path = make(home / "manifests", root_dir, "raw/a")
    put(home / file)
    assert elsewhere("verify", path).code == 0


def test_the_folder_behind_a_link_to_the_manifest_counts(elsewhere: Program, home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    put(home / "raw" / "a")
    (home / "far" / "away").mkdir(parents=True)
    link = home / "far" / "away" / path.name
    link.symlink_to(path)
    assert elsewhere("verify", link).code == 0


def test_a_file_that_is_named_relatively_is_registered(elsewhere: Program, home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    put(home / "raw" / "a")
    assert elsewhere("verify", path, "--extra", home / "raw", "--json").json["unregistered"] == 0


def test_a_record_is_located_from_any_working_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(home / "manifests", "..", "raw/a")
    monkeypatch.chdir(os.sep)
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.locate(next(iter(manifest.records.values()))) == home / "raw" / "a"


def test_an_observation_is_located_as_well(home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    with DownloadManifestManager(path) as manifest:
        manifest.add(record("other/a", CONTENT, source_id="t"))
        (found,) = manifest.records.values()
        seen: list[ManifestRecord | Observation] = [found, *found.also_seen]
        assert {manifest.locate(one) for one in seen} == {home / "raw" / "a", home / "other" / "a"}


def test_an_absolute_path_is_itself(home: Path) -> None:
    path = make(home / "manifests", "..", "/srv/raw/a")
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.locate(next(iter(manifest.records.values()))) == Path("/srv/raw/a")


def test_the_root_that_is_given_on_the_command_line_begins_where_the_caller_is(elsewhere: Program, home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    put(elsewhere.home / "copy" / "raw" / "a")
    assert elsewhere("verify", path, "--root", "copy").code == 0
