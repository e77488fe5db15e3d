"""Errors of the system: each is one line that says what failed, where, and what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest
from support.records import make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

SHA = "0" * 64
CLASS_NAME = re.compile(r"\b[A-Z]\w+Error\b|\[Errno")
"""What no user has to know: the class of an exception, or its number."""

# -- a directory or a pipe in the place of a manifest ------------------------------------------------------------------

VERBS = [
    "init a_b",
    "add a_b data",
    f"has a_b {SHA}",
    "get a_b --source x",
    "list a_b",
    "cat a_b",
    "log a_b",
    "runs a_b",
    "failures a_b",
    "diff a_b files_extractor",
    "diff files_extractor a_b",
    "copy a_b elsewhere/",
    "mirror a_b elsewhere --once",
    "follow a_b",
    "compact a_b",
    "check a_b",
    "verify a_b",
    "repair a_b",
    "repair a_b --dry-run",
    f"forget a_b {SHA}",
    "relocate a_b --from old --to new",
    "retime a_b",
    "undo a_b --to 2024-05-01T12:00:00Z",
    "pending x_parse --of a_b",
    f"record x_parse --of a_b --nothing --from {SHA}",
    f"fail x_parse --of a_b --error x {SHA}",
]


NO_FILES = [(os.mkdir, "Is a directory"), (os.mkfifo, "not a regular file")]
"""What makes it, and what an error calls it. A pipe would keep whoever opens it waiting for a writer."""


@pytest.fixture(params=NO_FILES, ids=["directory", "pipe"])
def in_the_way(filled: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A path with the name of a manifest, beside a good one; and what is there."""
    make, what = request.param
    path = filled.with_name("a_b.manifest.json")
    make(path)
    return path, what


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_what_is_in_the_place_of_a_manifest(
    run: Program, in_the_way: tuple[Path, str], verb: str
) -> None:
    path, what = in_the_way
    result = run.here(*verb.split())
    assert (one_line(result.err), f"{path}: {what}; " in result.err) == (True, True), result


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_names_the_class_or_the_number_of_an_error(
    run: Program, in_the_way: tuple[Path, str], verb: str
) -> None:
    assert in_the_way[0].exists()
    assert not CLASS_NAME.search(run.here(*verb.split()).err)


def test_status_says_what_to_do_about_it(run: Program, in_the_way: tuple[Path, str]) -> None:
    path, what = in_the_way
    rows = {row["name"]: row["reason"] for row in run.here("status", "--json").json}
    assert rows["a_b"] == f"{path}: {what}; name a file, or move away what is in its place"


def test_nothing_is_changed_in_such_a_directory(run: Program, filled: Path) -> None:
    (path := filled.with_name("a_b.manifest.json")).mkdir()
    for verb in VERBS:
        run.here(*verb.split())
    assert list(path.iterdir()) == []


# -- a full disk behind stdout -----------------------------------------------------------------------------------------


def _into_a_full_disk(run: Program, arguments: str, unbuffered: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "manifestlog", *arguments.split()]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, cwd=run.home, env=env, stdout=full, stderr=-1, text=True, timeout=60, check=False
        )
    return done.returncode, done.stderr


@pytest.fixture
def long(home: Path) -> None:
    """A manifest `x_long` whose list is longer than the buffer of stdout."""
    with open_manifest(home / "manifests" / "x_long.manifest.json") as manifest:
        manifest.add_many([make_record(number) for number in range(500)])


PRINTING = ["list files_extractor", "list x_long", "list x_long --jsonl", "cat x_long", "log x_long --jsonl", "status"]
FULL = "stdout: No space left on device; free some space"


@pytest.mark.usefixtures("filled", "long")
@pytest.mark.parametrize("arguments", [*PRINTING, "--help", "list --help", "--version"])
def test_a_full_disk_behind_stdout_is_named(run: Program, arguments: str) -> None:
    assert _into_a_full_disk(run, arguments, unbuffered="") == (1, f"manifestlog: {FULL}\n")


@pytest.mark.usefixtures("filled", "long")
@pytest.mark.parametrize("arguments", PRINTING)
def test_a_full_disk_behind_stdout_is_named_without_a_buffer(run: Program, arguments: str) -> None:
    assert _into_a_full_disk(run, arguments, unbuffered="1") == (1, f"manifestlog: {FULL}\n")


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("verb", ["list", "log", "diff x_long", "verify"])
def test_a_full_disk_behind_a_document_is_named(run: Program, verb: str) -> None:
    code, err = _into_a_full_disk(run, f"{verb} x_long --json", unbuffered="1")
    assert (code != 0, json.loads(err)["message"]) == (True, FULL)


# -- symbolic links ----------------------------------------------------------------------------------------------------


@pytest.fixture
def link(run: Program, tree: Path) -> Path:
    """A link to a recorded file."""
    run.here("add", "x_download", tree, "--quiet")
    path = run.home / "link"
    path.symlink_to(tree / "a.txt")
    return path


def test_a_symbolic_link_is_no_output_and_said_to_be_one(run: Program, link: Path, tree: Path) -> None:
    err = run.here("record", "x_parse", link, "--from", tree / "a.txt").err
    assert f"{link} is a symbolic link to {tree}/a.txt; put the file itself in its place" in err


def test_a_lock_file_that_is_a_symbolic_link_is_named(run: Program, filled: Path) -> None:
    lock = filled.with_name("files_extractor.manifest.lock")
    lock.rename(run.home / "lock")
    lock.symlink_to(run.home / "lock")
    assert f"{lock}: it is a symbolic link (to {run.home}/lock)" in run.here("forget", "files_extractor", SHA).err


# -- a file in the place of a directory --------------------------------------------------------------------------------


@pytest.fixture
def file(run: Program, filled: Path) -> Path:
    assert filled.exists()
    path = run.home / "file"
    path.write_text("x", encoding="ascii")
    return path


@pytest.mark.parametrize(
    "verb",
    [
        "copy files_extractor ./file/",
        "copy files_extractor ./file/below/",
        "mirror files_extractor file --once",
        "--dir file/below init a_b",
        "serve --dev file/below",
    ],
)
def test_a_file_in_the_place_of_a_directory_is_named_with_advice(run: Program, file: Path, verb: str) -> None:
    err = run.here(*verb.split()).err
    assert re.fullmatch(
        rf"manifestlog: ({file}|file): Not a directory; name a directory, or move away the file in its place\n", err
    ), err


@pytest.mark.usefixtures("file")
def test_serve_refuses_a_file_with_advice(run: Program) -> None:
    err = run.here("serve", "--dev", "file").err
    assert err.endswith("file: it is not a directory: name a new or an empty directory\n"), err


# -- empty files -------------------------------------------------------------------------------------------------------


def test_an_empty_output_names_the_way_out(run: Program, tree: Path) -> None:
    run.here("add", "x_download", tree, "--quiet")
    (run.home / "empty").touch()
    err = run.here("record", "x_parse", "empty", "--from", tree / "a.txt").err
    assert "empty is empty; if there is nothing to record, say so (`--nothing`)" in err


def test_the_way_out_of_an_empty_output_leads_out(run: Program, tree: Path) -> None:
    run.here("add", "x_download", tree, "--quiet")
    assert run.here("record", "x_parse", "--nothing", "--from", tree / "a.txt").code == 0


# -- files that are not there ------------------------------------------------------------------------------------------


def test_a_failed_file_of_add_has_advice(run: Program) -> None:
    err = run.here("add", "x_download", "gone").err
    assert f"{os.path.join(run.home, 'gone')}: No such file or directory; correct the path" in err


def test_a_missing_index_has_advice(run: Program) -> None:
    assert "gone.csv: No such file or directory; correct the path" in run.here("add", "x_y", "--index", "gone.csv").err
