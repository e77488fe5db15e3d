"""A place where no manifest is, or none can be: every verb that is given it says so in one line, with the same exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

NAME = "x_download"
CHECKSUM = "a" * 64
VERBS = [
    ("has", NAME, CHECKSUM),
    ("get", NAME, "--source", "s"),
    ("list", NAME),
    ("cat", NAME),
    ("log", NAME),
    ("runs", NAME),
    ("failures", NAME),
    ("diff", NAME, "y_download"),
    ("copy", NAME, "elsewhere/"),
    ("mirror", NAME, "elsewhere", "--once"),
    ("follow", NAME),
    ("status", NAME),
    ("compact", NAME),
    ("check", NAME),
    ("verify", NAME),
    ("repair", NAME),
    ("repair", NAME, "--dry-run"),
    ("forget", NAME, CHECKSUM),
    ("relocate", NAME, "--from", "a", "--to", "b"),
    ("retime", NAME),
    ("undo", NAME, "--to", "1d"),
    ("pending", "x_parse", "--of", NAME),
    ("record", "x_parse", "--nothing", "--from", CHECKSUM, "--of", NAME),
    ("fail", "x_parse", CHECKSUM, "--error", "why", "--of", NAME),
    ("unused", NAME),
]
"""Those that read a manifest, each with its name."""
OF_ALL = [("status",), ("check",), ("compact",), ("log",), ("runs",), ("failures",), ("trace", CHECKSUM)]
"""Those that read every manifest of the directory."""
FOUND_THERE = [
    ("record", "x_parse", "--nothing", "--from", CHECKSUM),
    ("fail", "x_parse", CHECKSUM, "--error", "why"),
    ("unused", NAME),
]
"""Those that look in the directory for other manifests than the one that is named."""
CREATING = [("init", NAME), ("add", NAME, "file")]
ANY = [*VERBS, *OF_ALL, *FOUND_THERE[:2], *CREATING]


@pytest.mark.parametrize("verb", [*VERBS, *OF_ALL, *FOUND_THERE], ids=" ".join)
def test_a_directory_that_is_not_there_has_no_such_manifest(run: Program, home: Path, verb: tuple[str, ...]) -> None:
    result = run.here(*verb, "--dir", "nowhere")
    assert (result.code, one_line(result.err), list(home.iterdir())) == (10, True, [])


@pytest.mark.parametrize("verb", [*OF_ALL, *FOUND_THERE], ids=" ".join)
def test_the_directory_that_is_not_there_is_called_a_directory(run: Program, verb: tuple[str, ...]) -> None:
    said = run.here(*verb, "--dir", "nowhere").err
    assert said == "manifestlog: nowhere: no such directory; name another one with --dir\n"


@pytest.mark.parametrize("place", ["http://me:swordfish@host/etl", "s3://bucket", "postgresql:/host/etl"])
@pytest.mark.parametrize("verb", ANY, ids=" ".join)
def test_a_directory_that_can_hold_no_manifest_is_a_usage_error(
    run: Program, home: Path, verb: tuple[str, ...], place: str
) -> None:
    result = run.here(*verb, "--dir", place)
    assert (result.code, one_line(result.err), list(home.iterdir())) == (2, True, [])
    assert "--dir: expected the path of a directory, or the URL of a database" in result.err
    assert "swordfish" not in result.err


@pytest.mark.parametrize("verb", ANY, ids=" ".join)
def test_a_file_in_place_of_the_directory_is_a_usage_error(run: Program, home: Path, verb: tuple[str, ...]) -> None:
    (home / "file").touch()
    result = run.here(*verb, "--dir", "file")
    assert (result.code, one_line(result.err)) == (2, True)
    assert "--dir: 'file' is not a directory" in result.err


@pytest.mark.parametrize("place", ["http://me:swordfish@host", "s3://bucket"])
@pytest.mark.parametrize("verb", [*VERBS, *CREATING], ids=" ".join)
def test_a_url_of_another_scheme_names_no_manifest(run: Program, home: Path, verb: tuple[str, ...], place: str) -> None:
    result = run.here(*(f"{place}/{word}" if word == NAME else word for word in verb))
    assert (result.code, one_line(result.err), list(home.iterdir())) == (2, True, [])
    assert "expected a name, the path of a .manifest.json file, or a URL such as postgresql://" in result.err
    assert "swordfish" not in result.err


@pytest.mark.parametrize("to", ["http://host/", "http://host/x_copy", "s3://bucket/manifests/"])
def test_a_url_of_another_scheme_is_no_target_of_a_copy(run: Program, filled: Path, to: str) -> None:
    result = run.here("copy", filled, to)
    assert (result.code, "TO: expected a name" in result.err) == (2, True)


@pytest.mark.parametrize("to", ["http://host/", "s3://bucket", "postgresql://host/etl"])
def test_a_url_is_no_directory_of_a_replica(run: Program, filled: Path, to: str) -> None:
    result = run.here("mirror", filled, to)
    assert (result.code, "TO_DIR" in result.err) == (2, True)


@pytest.mark.parametrize(("place", "code"), [("nowhere", 10), ("http://host", 2)])
def test_the_directory_counts_beside_the_path_of_a_manifest_if_others_are_looked_for(
    run: Program, filled: Path, place: str, code: int
) -> None:
    assert run.here("unused", filled, "--dir", place).code == code
    assert run.here("fail", filled, CHECKSUM, "--error", "why", "--dir", place).code == code


def test_the_default_directory_is_missed_too(run: Program, home: Path) -> None:
    result = run.here("fail", "x_parse", CHECKSUM, "--error", "why")
    assert (result.code, list(home.iterdir())) == (10, [])
    assert "manifests: no such directory" in result.err


@pytest.mark.parametrize("place", ["nowhere", "file", "http://host"])
def test_a_manifest_with_a_path_needs_no_directory(run: Program, filled: Path, place: str) -> None:
    (run.home / "file").touch()
    assert run.here("check", filled, "--dir", place).code == 0
