"""Verbs whose output nobody reads (`| true`): what a verb has found out is its exit code all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import unread

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

UNKNOWN = "0" * 64

# With a buffer the first to notice is who empties it at the end, without one it is the first line.
pytestmark = pytest.mark.parametrize(
    "unbuffered", [pytest.param("", id="buffered"), pytest.param("1", id="unbuffered", marks=pytest.mark.slow)]
)


@pytest.mark.parametrize("verb", [("check",), ("check", "--json"), ("status",), ("status", "--json")])
def test_damage_ends_with_12(run: Program, filled: Path, unbuffered: str, verb: tuple[str, ...]) -> None:
    filled.write_bytes(filled.read_bytes()[:-20])
    assert unread(run, *verb, PYTHONUNBUFFERED=unbuffered)[0] == 12


@pytest.mark.parametrize("verb", [("has", UNKNOWN, "--json"), ("forget", UNKNOWN), ("forget", UNKNOWN, "--json")])
@pytest.mark.usefixtures("filled")
def test_no_ends_with_1(run: Program, unbuffered: str, verb: tuple[str, ...]) -> None:
    assert unread(run, verb[0], "files_extractor", *verb[1:], PYTHONUNBUFFERED=unbuffered) == (1, "")


@pytest.mark.parametrize("verb", [("check",), ("status",), ("compact",), ("doctor",), ("get", "--source", "a.txt")])
@pytest.mark.usefixtures("filled")
def test_success_ends_with_0(run: Program, unbuffered: str, verb: tuple[str, ...]) -> None:
    name = [] if verb[0] == "doctor" else ["files_extractor"]
    assert unread(run, verb[0], *name, *verb[1:], PYTHONUNBUFFERED=unbuffered) == (0, "")


@pytest.mark.parametrize(
    "verb",
    [
        ("list",),
        ("list", "--json"),
        ("list", "--jsonl"),
        ("cat",),
        ("log",),
        ("log", "--json"),
        ("runs",),
        ("failures",),
    ],
)
@pytest.mark.usefixtures("filled")
def test_a_verb_that_only_prints_ends_with_0(run: Program, unbuffered: str, verb: tuple[str, ...]) -> None:
    assert unread(run, verb[0], "files_extractor", *verb[1:], PYTHONUNBUFFERED=unbuffered) == (0, "")


@pytest.mark.usefixtures("filled")
def test_a_missing_file_ends_with_1(run: Program, tree: Path, unbuffered: str) -> None:
    (tree / "a.txt").unlink()
    assert unread(run, "verify", "files_extractor", PYTHONUNBUFFERED=unbuffered) == (1, "")


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.usefixtures("filled")
def test_a_service_ends_with_1(run: Program, unbuffered: str, options: tuple[str, ...]) -> None:
    arguments = ("compact", "--every", "0.1s", "--verbose", *options)
    assert unread(run, *arguments, PYTHONUNBUFFERED=unbuffered)[0] == 1
