"""JSON that never was a manifest: said with its shape, by every verb, and never called damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

SHAPES = {
    "[1, 2, 3]": "a list of 3 values",
    "{}": "an empty object",
    '{"name": "x", "version": 1}': "an object with the keys 'name', 'version'",
    "null": "nothing but null",
    "7": "nothing but 7",
    '"manifest"': "a string",
}
VERBS = (("list",), ("check",), ("repair",), ("repair", "--dry-run"), ("compact",), ("verify",))
NAME = "files_extractor"


@pytest.fixture
def other(home: Path) -> Path:
    """JSON of another program, under a manifest's name."""
    path = home / "manifests" / f"{NAME}.manifest.json"
    path.parent.mkdir()
    path.write_text("[1, 2, 3]")
    return path


@pytest.mark.parametrize("text", SHAPES)
def test_the_shape_of_the_file_is_named(run: Program, other: Path, text: str) -> None:
    other.write_text(text)
    assert f"not a manifest: it holds {SHAPES[text]}, where" in run.here("list", NAME).err


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_reports_it_without_calling_it_damage(run: Program, verb: tuple[str, ...]) -> None:
    result = run.here(verb[0], NAME, *verb[1:])
    assert (result.code, one_line(result.err), "damaged" in result.err) == (12, True, False), result


def test_nothing_is_written(run: Program, other: Path) -> None:
    for verb in VERBS:
        run.here(verb[0], NAME, *verb[1:])
    assert other.read_text() == "[1, 2, 3]"


@pytest.mark.usefixtures("other")
def test_status_names_its_state(run: Program) -> None:
    row = run.here("status", "--json").json[0]
    assert (row["state"], row["reason"]) == ("not a manifest", "a list of 3 values")


def test_half_a_manifest_is_damaged(run: Program, other: Path) -> None:
    other.write_text('{"records": {}}')
    assert "damaged" in run.here("list", NAME).err


@pytest.mark.parametrize("left", ["idx", "wal-*"])
def test_beside_a_log_it_is_damage(run: Program, filled: Path, left: str) -> None:
    """Something of the manifest is left: this file took its place, and repair may help."""
    for path in filled.parent.iterdir():
        if path.is_file() and path != filled and not path.match(f"*.manifest.{left}"):
            path.unlink()
    filled.write_text("[1, 2, 3]")
    assert "damaged" in run.here("list", NAME).err
    assert run.here("check", NAME).code == 12


def test_a_missing_directory_that_was_named_is_an_error(run: Program) -> None:
    assert [run("status", "--dir", "nowhere").code, run("status", MANIFESTLOG_DIR="nowhere").code] == [10, 10]


def test_a_missing_default_directory_is_reported(run: Program) -> None:
    result = run.here("status")
    assert (result.code, "no manifests found" in result.err) == (0, True)
