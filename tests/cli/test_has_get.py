"""`has` and `get`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest
from support.records import make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

A = hashlib.sha256(b"a").hexdigest()
UNKNOWN = "0" * 64


@pytest.mark.usefixtures("filled")
def test_has_answers_by_exit_code_alone(run: Program) -> None:
    assert run("has", "files_extractor", A.upper()) == (0, "", "")
    assert run("has", "files_extractor", UNKNOWN) == (1, "", "")
    assert run("--json", "has", "files_extractor", UNKNOWN).json == {"checksum": UNKNOWN, "has": False}


@pytest.mark.usefixtures("filled")
def test_a_malformed_checksum_is_a_usage_error(run: Program) -> None:
    for arguments in (("has", "files_extractor", "abc"), ("get", "files_extractor", "--checksum", "z" * 64)):
        result = run.here(*arguments)
        assert result.code == 2
        assert "64 hexadecimal digits" in result.err
        assert one_line(result.err)


@pytest.mark.usefixtures("filled")
def test_get_of_an_unknown_source_says_how_to_see_the_known_ones(run: Program) -> None:
    result = run.here("get", "files_extractor", "--source", "typo")
    assert (result.code, "`manifestlog list files_extractor`" in result.err) == (1, True)


@pytest.mark.usefixtures("filled")
def test_get_prints_one_field_per_line(run: Program, tree: Path) -> None:
    result = run("get", "files_extractor", "--checksum", A)
    assert result.code == 0
    fields = dict(line.split(":", 1) for line in result.out.splitlines())
    assert fields["checksum"].strip() == A
    assert fields["file_path"].strip() == str(tree / "a.txt")
    assert fields["etag"].strip() == "-"


@pytest.mark.usefixtures("filled")
def test_get_by_source_as_json(run: Program) -> None:
    record = run.here("get", "files_extractor", "--source", "sub/b.txt", "--dataset", "data", "--json").json
    assert record["checksum"] == hashlib.sha256(b"bb").hexdigest()
    assert record["ts_downloaded"] == "2024-05-01T12:00:00Z"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "question", [("--checksum", UNKNOWN), ("--source", "nope"), ("--source", "a.txt", "--dataset", "other")]
)
def test_no_such_record(run: Program, question: tuple[str, ...]) -> None:
    result = run.here("get", "files_extractor", *question)
    assert (result.code, result.out) == (1, "")
    assert one_line(result.err)
    assert question[1] in result.err


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("question", [(), ("--checksum", A, "--source", "a.txt"), ("--checksum", A, "--dataset", "x")])
def test_get_takes_either_a_checksum_or_a_source(run: Program, question: tuple[str, ...]) -> None:
    assert run.here("get", "files_extractor", *question).code == 2


def test_the_source_sees_its_own_path_and_time(run: Program, tree: Path) -> None:
    (tree / "copy.txt").write_bytes(b"a")
    run("add", "files_extractor", tree, "--jobs", 1)
    first = run("get", "files_extractor", "--source", "a.txt", "--json").json
    second = run("get", "files_extractor", "--source", "copy.txt", "--json").json
    assert first["checksum"] == second["checksum"] == A
    assert first["file_path"] == str(tree / "a.txt")
    assert first["also_seen"][0]["source_id"] == "copy.txt"
    assert second["file_path"] == str(tree / "copy.txt")


@pytest.fixture
def stage(run: Program) -> str:
    """The manifest of a stage that has made one output from `A`, as version 2."""
    path = run.home / "manifests" / "files_clean.manifest.json"
    with open_manifest(path) as manifest, manifest.run("nightly", stage="clean"):
        manifest.add(make_record(1).model_copy(update={"derived_from": (A,), "version": "2"}))
    return "files_clean"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--stage", "clean", "--version", "2"), 0),
        (("--version", "3"), 1),
        (("--stage", "other"), 1),
    ],
)
def test_has_as_input_says_whether_a_content_was_processed(
    run: Program, stage: str, options: tuple[str, ...], code: int
) -> None:
    assert run.here("has", stage, A.upper(), "--as-input", *options) == (code, "", "")


def test_has_as_input_as_json_has_the_derivation(run: Program, stage: str) -> None:
    found = run.here("has", stage, A, "--as-input", "--json").json
    assert (found["has"], found["derivation"]["version"], found["derivation"]["inputs"]) == (True, "2", [A])


@pytest.mark.parametrize("option", ["--stage", "--version"])
def test_a_stage_or_version_is_only_of_an_input(run: Program, stage: str, option: str) -> None:
    result = run.here("has", stage, A, option, "2")
    assert (result.code, "requires --as-input" in result.err, one_line(result.err)) == (2, True, True)
