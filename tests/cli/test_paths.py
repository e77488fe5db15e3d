"""Relative paths: they mean one thing, wherever the caller stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from cli.test_extract import CONFIG, MANIFEST as SYSTEMS, configure, entry
from cli.test_verify import MANIFEST, record
from manifestlog import DownloadManifestManager, ManifestMetadata, ManifestRecord, Observation
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.program import Result
    from support.badserver import BadServer

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
def bad() -> Iterator[BadServer]:
    with misbehaving() as server:
        yield server


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
    (home / "data").mkdir()
    (home / "data" / "systems.gz").write_bytes(bytes(1024))
    assert verified(run, home / "manifests" / "sample_download.manifest.json").json["ok"] == 1


def test_the_readmes_quick_start_is_verified_from_elsewhere(elsewhere: Program, home: Path) -> None:
    quick_start(home)
    (home / "data").mkdir()
    (home / "data" / "systems.gz").write_bytes(bytes(1024))
    assert verified(elsewhere, home / "manifests" / "sample_download.manifest.json").json["ok"] == 1


@pytest.mark.parametrize(
    ("root_dir", "file"),
    [(".", "manifests/raw/a"), ("..", "raw/a"), ("data", "manifests/data/raw/a"), ("../data/./x/..", "data/raw/a")],
)
def test_a_relative_root_starts_at_the_manifests_directory(
    elsewhere: Program, home: Path, root_dir: str, file: str
) -> None:
    path = make(home / "manifests", root_dir, "raw/a")
    put(home / file)
    assert elsewhere("verify", path).code == 0


def test_a_link_to_the_manifest_is_resolved_first(elsewhere: Program, home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    put(home / "raw" / "a")
    (home / "far" / "away").mkdir(parents=True)
    link = home / "far" / "away" / path.name
    link.symlink_to(path)
    assert elsewhere("verify", link).code == 0


def test_a_file_with_a_relative_path_is_registered(elsewhere: Program, home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    put(home / "raw" / "a")
    assert elsewhere("verify", path, "--extra", home / "raw", "--json").json["unregistered"] == 0


def test_a_record_is_located_from_any_working_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_absolute_path_is_kept(home: Path) -> None:
    path = make(home / "manifests", "..", "/srv/raw/a")
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.locate(next(iter(manifest.records.values()))) == Path("/srv/raw/a")


def test_a_relative_root_option_starts_at_the_working_directory(elsewhere: Program, home: Path) -> None:
    path = make(home / "manifests", "..", "raw/a")
    put(elsewhere.home / "copy" / "raw" / "a")
    assert elsewhere("verify", path, "--root", "copy").code == 0


# -- a pipeline that has moved -----------------------------------------------------------------------------------------


@pytest.fixture
def fetched(home: Path, bad: BadServer) -> Path:
    """A pipeline in a folder of its own that has fetched one file."""
    folder = home / "one"
    folder.mkdir()
    answer = answers.whole(CONTENT, '"e"')
    configure(folder, entry(bad.script("/a.json", answer, answer, answer)))
    assert Program(folder)("extract", CONFIG).code == 0
    return folder


@pytest.fixture
def moved(fetched: Path, home: Path) -> Program:
    return Program(fetched.rename(home / "two"))


def stored_path(run: Program) -> str:
    (found,) = json.loads(run("cat", SYSTEMS).out)["records"].values()
    return str(found["file_path"])


def test_extract_records_paths_relative_to_the_common_directory(fetched: Path) -> None:
    assert stored_path(Program(fetched)) == "data/raw/dumps/a.json"


def test_a_moved_pipeline_is_verified(moved: Program) -> None:
    assert moved("verify", SYSTEMS).code == 0


def test_a_moved_pipeline_is_verified_below_its_directory(moved: Program) -> None:
    assert moved("verify", SYSTEMS, "--root", ".").code == 0


def test_get_shows_where_the_file_is_now(moved: Program) -> None:
    shown = moved("get", SYSTEMS, "--source", "a.json", "--json").json["file_path"]
    assert shown == str(moved.home / "data" / "raw" / "dumps" / "a.json")


def test_list_shows_where_the_file_is_now(moved: Program) -> None:
    (shown,) = moved("list", SYSTEMS, "--json").json
    assert shown["file_path"] == str(moved.home / "data" / "raw" / "dumps" / "a.json")


def test_extract_works_after_a_pipeline_has_moved(moved: Program) -> None:
    result = moved("extract", CONFIG)
    assert ("unchanged        1" in result.out, "the recorded file is missing" in result.err) == (True, False)


def test_extract_warns_about_a_missing_recorded_file(fetched: Path) -> None:
    file = fetched / "data" / "raw" / "dumps" / "a.json"
    file.unlink()
    assert f"{file}: the recorded file is missing" in Program(fetched)("extract", CONFIG).err


def test_a_nightly_job_warns_about_a_missing_recorded_file(fetched: Path) -> None:
    (fetched / "data" / "raw" / "dumps" / "a.json").unlink()
    result = Program(fetched)("extract", CONFIG, "--quiet", "--json")
    assert "the recorded file is missing" in result.err
    assert [told["source_id"] for told in result.json["warnings"]] == ["a.json"]


@pytest.fixture
def absolute(moved: Program) -> Program:
    """The moved pipeline with a manifest of an older version, whose paths are absolute."""
    path = moved.home / SYSTEMS
    manifest = json.loads(path.read_text("utf-8"))
    (found,) = manifest["records"].values()
    found["file_path"] = str(moved.home.with_name("one") / "data" / "raw" / "dumps" / "a.json")
    manifest["metadata"]["root_dir"] = str(moved.home.with_name("one") / "manifests")
    for old in path.parent.glob("systems_download.manifest.*"):
        old.unlink()
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return moved


def test_extract_says_how_to_relocate(absolute: Program) -> None:
    one, two = absolute.home.with_name("one"), absolute.home
    assert f"relocate {two / SYSTEMS} --from {one} --to {two}" in absolute("extract", CONFIG).err


def test_older_records_are_verified_after_they_were_relocated(absolute: Program) -> None:
    before = absolute("verify", SYSTEMS).code
    done = absolute("relocate", SYSTEMS, "--from", "../one", "--to", ".")
    assert (before, done.code, absolute("verify", SYSTEMS).code) == (1, 0, 0)


def test_older_records_are_verified_below_another_root(absolute: Program) -> None:
    assert absolute("verify", SYSTEMS, "--from", "../one", "--root", ".").code == 0


def test_relocate_reports_as_json(absolute: Program) -> None:
    found = absolute("relocate", SYSTEMS, "--from", "../one", "--to", ".", "--dry-run", "--json").json
    wanted = {"dry_run": True, "records": 1, "paths": 1, "root_dir": str(absolute.home / "manifests"), "batches": 1}
    assert wanted.items() <= found.items()


def test_a_dry_relocation_changes_nothing(absolute: Program) -> None:
    before = stored_path(absolute)
    absolute("relocate", SYSTEMS, "--from", "../one", "--to", ".", "--dry-run")
    assert stored_path(absolute) == before


def test_relocating_to_the_same_directory_is_a_usage_error(moved: Program) -> None:
    assert moved("relocate", SYSTEMS, "--from", ".", "--to", "../two").code == 2


def test_from_without_root_is_a_usage_error(moved: Program) -> None:
    assert moved("verify", SYSTEMS, "--from", ".").code == 2


def test_older_records_stay_unchanged_without_a_move(absolute: Program) -> None:
    run = Program(absolute.home.rename(absolute.home.with_name("one")))
    before = stored_path(run)
    result = run("extract", CONFIG, "--json")
    assert (result.json["unchanged"], stored_path(run), result.err) == (1, before, "")


# -- add below a root --------------------------------------------------------------------------------------------------


def test_add_below_a_root_can_move(run: Program, home: Path, tree: Path) -> None:
    run("add", MANIFEST, tree, "--root", home)
    moved = Program(home / "moved")
    moved.home.mkdir()
    for name in ("manifests", tree.name):
        (home / name).rename(moved.home / name)
    assert moved("verify", MANIFEST).code == 0


def test_add_outside_the_root_is_absolute(run: Program, home: Path, tree: Path) -> None:
    run("add", MANIFEST, tree / "a.txt", "--root", home / "manifests")
    (found,) = json.loads(run("cat", MANIFEST).out)["records"].values()
    assert found["file_path"] == str(tree / "a.txt")


def test_adding_again_below_a_root_is_a_duplicate(run: Program, home: Path, tree: Path) -> None:
    run("add", MANIFEST, tree)
    assert run("add", MANIFEST, tree, "--root", home, "--json").json["duplicate"] == 3


def test_another_root_is_rejected_if_records_are_relative(run: Program, home: Path, tree: Path) -> None:
    run("add", MANIFEST, tree, "--root", home)
    assert run("add", MANIFEST, tree, "--root", tree).code == 1
