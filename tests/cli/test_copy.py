"""`copy`: where the copy goes, what it says, and when it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import open_manifest
from manifestlog import copying
from support.records import make_record

if TYPE_CHECKING:
    from cli.program import Program

NAME = "files_extractor"
FILE = f"{NAME}.manifest.json"


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("backup/", f"backup/{FILE}"),
        ("there", f"there/{FILE}"),
        ("other_extractor", "manifests/other_extractor.manifest.json"),
        ("backup/other_extractor.manifest.json", "backup/other_extractor.manifest.json"),
    ],
)
def test_the_target_is_a_directory_a_name_or_a_path(run: Program, path: Path, to: str, place: str) -> None:
    (run.home / "there").mkdir()
    assert run.here("copy", NAME, to, "--root", "/srv").code == 0
    assert (run.home / place).exists()


def test_it_says_what_it_has_copied(run: Program, path: Path) -> None:
    result = run.here("copy", NAME, "backup/")
    assert result.err == ""
    assert result.out.startswith(f"{run.home}/backup/{FILE}: copied; records: 2, events: 2; in ")


def test_a_second_copy_says_that_it_is_there(run: Program, path: Path) -> None:
    run.here("copy", NAME, "backup/")
    assert run.here("copy", NAME, "backup/").out == f"{run.home}/backup/{FILE}: it is there already; nothing to copy\n"


def test_a_later_copy_says_what_it_has_caught_up(run: Program, path: Path) -> None:
    run.here("copy", NAME, "backup/")
    with open_manifest(path) as manifest:
        manifest.add(make_record(3))
    assert run.here("copy", NAME, "backup/").out == f"{run.home}/backup/{FILE}: caught up; events: 1, records: 3\n"


def test_json_is_the_report(run: Program, path: Path) -> None:
    found = run.here("copy", NAME, "backup/", "--json").json
    assert {name: found[name] for name in ("schema_version", "outcome", "records", "source_has_changed")} == {
        "schema_version": 1,
        "outcome": "copied",
        "records": 2,
        "source_has_changed": False,
    }


def test_another_manifest_is_refused_with_1(run: Program, path: Path) -> None:
    with open_manifest(run.home / "backup" / FILE) as other:
        other.add(make_record(9))
    result = run.here("copy", NAME, "backup/")
    assert result.code == 1
    assert "a copy overwrites nothing, and nothing was changed: name another place" in result.err


def test_it_says_that_the_source_has_changed(run: Program, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = copying._copied

    def meanwhile(*given: object) -> object:
        with open_manifest(path) as manifest:
            manifest.add(make_record(3))
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "_copied", meanwhile)
    assert "it has changed since; run the same again to catch up" in run.here("copy", NAME, "backup/").err


def test_a_bad_name_is_a_usage_error(run: Program, path: Path) -> None:
    assert run.here("copy", NAME, "Backup").code == 2


def test_a_directory_without_its_slash_is_asked_for_it(run: Program, path: Path) -> None:
    assert "for a directory, write backup/" in run.here("copy", NAME, "backup").err


def test_no_manifest_is_10(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    assert run.here("copy", NAME, "backup/").code == 10


def test_a_root_that_leads_elsewhere_asks_for_one(run: Program, path: Path) -> None:
    text = json.loads(path.read_text("utf-8"))
    text["metadata"]["root_dir"] = ".."
    other = run.home / "relative" / FILE
    other.parent.mkdir()
    other.write_text(json.dumps(text), "utf-8")
    result = run.here("copy", other, f"{run.home}/a/b/")
    assert (result.code, "give the directory that holds the data files with root / --root" in result.err) == (1, True)
