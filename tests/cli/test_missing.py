"""What the program says when a manifest, or every manifest, is missing: most often a misspelt name or a wrong directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


@pytest.mark.usefixtures("filled")
def test_a_misspelt_name_is_corrected(run: Program) -> None:
    result = run.here("verify", "files_extracter")
    assert (result.code, one_line(result.err)) == (10, True)
    assert "no such manifest; did you mean files_extractor?" in result.err


@pytest.mark.usefixtures("filled")
def test_another_name_is_answered_with_those_that_are_there(run: Program) -> None:
    result = run.here("verify", "galaxy_download")
    assert "the directory has files_extractor: name one of them" in result.err


@pytest.mark.usefixtures("filled")
def test_status_corrects_a_misspelt_name_as_well(run: Program) -> None:
    result = run.here("status", "files_extracter")
    assert (result.code, one_line(result.err)) == (10, True)
    assert "no such manifest; did you mean files_extractor?" in result.err


def test_of_many_manifests_the_message_names_five(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    for number in range(8):
        (home / "manifests" / f"n{number}_{number}.manifest.json").touch()
    assert "n0_0, n1_1, n2_2, n3_3, n4_4 and 3 more" in run.here("verify", "galaxy_download").err


def test_a_directory_that_is_not_there_asks_for_another_one(run: Program) -> None:
    result = run.here("verify", "galaxy_download")
    assert "change to the directory of your pipeline, name its manifests with --dir" in result.err


def test_a_directory_without_manifests_asks_for_another_one(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    assert "none is in this directory: name another one with --dir" in run.here("verify", "galaxy_download").err


def test_the_json_of_the_error_says_the_same(run: Program) -> None:
    assert "name its manifests with --dir" in run.here("verify", "galaxy_download", "--json").error["message"]


@pytest.mark.parametrize("verb", ["status", "check", "failures"])
def test_without_any_manifest_the_whole_path_of_the_directory_is_named(run: Program, home: Path, verb: str) -> None:
    assert f"{home}/manifests: no manifests found; name another place with --dir" in run.here(verb).err


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "memory:x_download"),
        ("init", "memory://x_download"),
        ("check", "memory:x_download"),
        ("has", "memory:x_download", "a" * 64),
        ("list", "x_download", "--dir", "memory:"),
        ("pending", "x_parse", "--of", "x_download", "--dir", "memory:"),
        ("copy", "x_download", "memory:x_copy"),
        ("copy", "x_download", "memory:"),
    ],
    ids=" ".join,
)
def test_a_manifest_in_memory_would_end_with_the_command(run: Program, home: Path, arguments: tuple[str, ...]) -> None:
    result = run.here(*arguments)
    assert (result.code, one_line(result.err), list(home.iterdir())) == (2, True, [])
    assert "would end with this command; name a manifest in a directory or a database" in result.err


@pytest.mark.parametrize("arguments", [("status", "--dir", "memory:"), ("doctor", "memory:")], ids=" ".join)
def test_memory_is_no_directory(run: Program, home: Path, arguments: tuple[str, ...]) -> None:
    result = run.here(*arguments)
    assert (result.code, one_line(result.err), list(home.iterdir())) == (2, True, [])
    assert "expected the path of a directory, or the URL of a database" in result.err


def test_a_replica_is_in_a_directory(run: Program) -> None:
    assert "a replica is a manifest in files; name a directory" in run.here("mirror", "x_download", "memory:").err
