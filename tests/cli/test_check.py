"""`check` on the command line."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, one_line

if TYPE_CHECKING:
    from pathlib import Path


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sound_manifest_is_reported_as_sound(run: Program, filled: Path) -> None:
    result = run("check", str(filled))
    assert result.code == 0
    assert "sound" in result.out


def test_a_damaged_manifest_ends_with_12(run: Program, filled: Path) -> None:
    _damage(filled)
    assert run("check", str(filled)).code == 12


def test_a_finding_names_file_and_byte(run: Program, filled: Path) -> None:
    _damage(filled)
    assert f"damage: {filled.name} at byte" in run("check", str(filled)).out


def test_damage_comes_with_advice(run: Program, filled: Path) -> None:
    _damage(filled)
    assert f"manifestlog repair {filled} --dry-run" in run("check", str(filled)).err


def test_other_manifests_are_checked_as_well(run: Program, filled: Path) -> None:
    run("init", str(filled.with_name("other_download.manifest.json")))
    _damage(filled)
    result = run("--dir", str(filled.parent), "check")
    assert result.out.count("; ") >= 2
    assert "other_download.manifest.json: sound" in result.out


def test_json_has_the_findings(run: Program, filled: Path) -> None:
    _damage(filled)
    (report,) = run("check", str(filled), "--json").json
    assert report["damaged"]
    assert set(report["findings"][0]) == {"level", "file", "offset", "meaning"}


def test_a_missing_manifest_ends_with_10(run: Program, filled: Path) -> None:
    assert run("check", str(filled.with_name("none_download.manifest.json"))).code == 10


def test_with_json_a_missing_manifest_is_one_object(run: Program, filled: Path) -> None:
    result = run("check", filled.with_name("none_download.manifest.json"), "--json")
    assert (result.code, result.out, result.error["exit_code"]) == (10, "", 10)


@pytest.fixture
def unreadable(filled: Path) -> Path:
    """A manifest beside a good one, of which nothing can be read."""
    path = filled.with_name("b_folder.manifest.json")
    path.mkdir()
    return path


@pytest.mark.usefixtures("unreadable")
def test_an_unreadable_manifest_does_not_hide_the_others(run: Program) -> None:
    result = run("check")
    assert (result.code, "files_extractor.manifest.json: sound" in result.out) == (1, True)


def test_an_unreadable_manifest_is_named(run: Program, unreadable: Path) -> None:
    assert (
        run("check").err
        == f"manifestlog: {unreadable}: Is a directory; name a file, or move away what is in its place\n"
    )


def test_an_unreadable_manifest_is_named_if_it_is_the_only_one(run: Program, unreadable: Path) -> None:
    result = run("check", unreadable)
    assert result == (
        1,
        "",
        f"manifestlog: {unreadable}: Is a directory; name a file, or move away what is in its place\n",
    )


@pytest.mark.usefixtures("unreadable")
def test_damage_decides_the_exit_code_before_unreadable_manifests(run: Program, filled: Path) -> None:
    _damage(filled)
    result = run("check")
    assert (result.code, f"damage: {filled.name}" in result.out, "b_folder" in result.err) == (12, True, True)


def test_json_has_a_row_for_an_unreadable_manifest(run: Program, filled: Path, unreadable: Path) -> None:
    rows = {row["manifest"]: row for row in run("check", "--json").json}
    assert list(rows) == [str(unreadable), str(filled)]
    assert rows[str(unreadable)] == {
        "manifest": str(unreadable), "error": "IsADirectoryError", "exit_code": 1,
        "message": f"{unreadable}: Is a directory; name a file, or move away what is in its place",
    }  # fmt: skip


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_is_reported_and_skipped(run: Program) -> None:
    result = run("check")
    assert (result.code, one_line(result.err), "files_extractor.manifest.json: sound" in result.out) == (0, True, True)


@pytest.mark.usefixtures("filled")
def test_one_of_a_thing_is_not_several(run: Program) -> None:
    run("forget", "files_extractor", hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"bb").hexdigest())
    assert ": sound; 1 record, " in run("check").out
