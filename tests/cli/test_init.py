"""`init`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


def test_makes_an_empty_skeleton_in_a_directory_of_its_own(run: Program, home: Path) -> None:
    result = run("init", "files_extractor", "--etl-version", "2.1")
    assert result.code == 0
    assert "created" in result.out
    path = home / "manifests" / "files_extractor.manifest.json"
    document = json.loads(path.read_text())
    assert document["records"] == {}
    assert document["metadata"]["process"] == "extractor"
    assert document["metadata"]["etl_version"] == "2.1"
    assert document["metadata"]["root_dir"] == str(path.parent)


def test_an_existing_manifest_stays_as_it_is(run: Program, filled: Path) -> None:
    before = filled.read_bytes()
    result = run("init", "files_extractor")
    assert result.code == 0
    assert "already exists" in result.out
    assert run("init", filled, "--process", "extractor", "--etl-version", "1.0.0").code == 0
    assert filled.read_bytes() == before


@pytest.mark.parametrize("conflict", [("--process", "loader"), ("--etl-version", "9.9")])
def test_conflicting_values_are_an_error(run: Program, filled: Path, conflict: tuple[str, str]) -> None:
    before = filled.read_bytes()
    result = run.here("init", "files_extractor", *conflict, "--json")
    assert result.code == 1
    assert result.error["error"] == "MetadataConflictError"
    assert conflict[1] in result.error["message"]
    assert filled.read_bytes() == before


def test_json(run: Program) -> None:
    made = run.here("init", "x_loader", "--process", "loader", "--json").json
    assert made["created"] is True
    assert made["process"] == "loader"
    assert made["etl_version"] == "1.0.0"
    assert made["total_records"] == 0
    assert run.here("init", "x_loader", "--json").json == made | {"created": False}


@pytest.mark.parametrize("name", ["files", "Files_extractor", "a/b_c", "X.manifest.json", "a_b.manifest.json/"])
def test_a_bad_name_is_a_usage_error_with_the_pattern(run: Program, home: Path, name: str) -> None:
    result = run.here("init", name)
    assert result.code == 2
    assert "<domain>_<process>.manifest.json" in result.err
    assert one_line(result.err)
    assert list(home.iterdir()) == []


def test_an_unknown_process_names_the_known_ones(run: Program) -> None:
    result = run.here("init", "a_b", "--process", "eater")
    assert result.code == 2
    assert "transformer" in result.err
    assert one_line(result.err)


@pytest.mark.parametrize("arguments", [("init", "a_b"), ("add", "a_b", ".")])
def test_a_directory_name_that_is_not_utf_8_is_reported_in_one_line(
    run: Program, home: Path, arguments: tuple[str, ...]
) -> None:
    result = run("--dir", "\udcff", *arguments)
    assert (result.code, result.out, one_line(result.err)) == (1, "", True)
    assert "not UTF-8" in result.err
    assert list(home.iterdir()) == []
