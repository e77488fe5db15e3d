"""`check` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.program import Program

if TYPE_CHECKING:
    from pathlib import Path


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sound_manifest_is_said_to_be(run: Program, filled: Path) -> None:
    result = run("check", str(filled))
    assert result.code == 0
    assert "sound" in result.out


def test_a_damaged_one_ends_with_12(run: Program, filled: Path) -> None:
    _damage(filled)
    assert run("check", str(filled)).code == 12


def test_a_finding_names_file_and_byte(run: Program, filled: Path) -> None:
    _damage(filled)
    assert f"damage: {filled.name} at byte" in run("check", str(filled)).out


def test_what_to_do_next_is_said(run: Program, filled: Path) -> None:
    _damage(filled)
    assert f"manifestlog repair {filled} --dry-run" in run("check", str(filled)).err


def test_the_sound_one_beside_it_is_checked_as_well(run: Program, filled: Path) -> None:
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


def test_a_manifest_that_is_not_there_ends_with_10(run: Program, filled: Path) -> None:
    assert run("check", str(filled.with_name("none_download.manifest.json"))).code == 10
