"""The line on a terminal that says what takes long: after a second, only there, and gone before anything else is printed."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import open_manifest, records_of
from manifestlog import names
from manifestlog.cli.app import main
from manifestlog.cli.ui import status_line
from manifestlog.cli.ui.status_line import StatusLine
from manifestlog.files import disk
from manifestlog.progress import Step

if TYPE_CHECKING:
    from cli.program import Program

HALF = Step("reading", "/m/a_b.manifest.json", 50, 100)
ERASED = "\r\x1b[K"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw from the first step on, and every step."""
    monkeypatch.setattr(status_line, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(status_line, "_PAUSE_S", 0.0)
    monkeypatch.setattr(disk, "BLOCK_BYTES", 512)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def long(run: Program, tree: Path) -> Path:
    """A manifest without an index, of more than one block."""
    path = run.home / "manifests" / "files_extractor.manifest.json"
    with open_manifest(path) as manager:
        manager.add_many(records_of(tree))
        manager.save()
    Path(names.resolve(path).index).unlink()
    return path


def said(*arguments: object, out: io.StringIO | None = None) -> str:
    """What the program says on stderr, which is a terminal."""
    stderr = Terminal()
    with redirect_stdout(out or io.StringIO()), redirect_stderr(stderr):
        main(list(map(str, arguments)))
    return stderr.getvalue()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("verb", ["check", "list", "status", "has"])
def test_a_terminal_sees_how_far_a_verb_is(long: Path, verb: str) -> None:
    more = ["0" * 64] if verb == "has" else []
    directory = ["--dir", str(long.parent)] if verb == "status" else []
    words = [*directory, verb] if verb == "status" else [verb, str(long), *more]
    assert "reading files_extractor.manifest.json: " in said(*words)


@pytest.mark.usefixtures("impatient")
def test_the_line_is_erased_at_the_end(long: Path) -> None:
    assert said("check", long).endswith(ERASED)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("option", ["--quiet", "--no-progress"])
def test_who_does_not_want_to_see_it_does_not(long: Path, option: str) -> None:
    assert said("check", long, option) == ""


@pytest.mark.usefixtures("impatient")
def test_a_list_on_the_terminal_has_no_line_in_it(long: Path) -> None:
    """What is printed says how far it is."""
    main(["compact", str(long)])
    assert said("list", long, out=Terminal()) == ""


@pytest.mark.usefixtures("impatient")
def test_a_terminal_that_can_erase_nothing_gets_no_line(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert said("check", long) == ""


def test_what_takes_less_than_a_second_draws_nothing(long: Path) -> None:
    assert said("check", long) == ""


def test_what_is_no_terminal_gets_no_line(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_line, "_PATIENCE_S", 0.0)
    stderr = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(stderr):
        main(["check", str(long)])
    assert stderr.getvalue() == ""


# -- the line ----------------------------------------------------------------------------------------------------------


def drawn(*steps: Step) -> str:
    stream = Terminal()
    line = StatusLine(stream)
    for step in steps:
        line.show(step)
    return stream.getvalue()


@pytest.mark.usefixtures("impatient")
def test_it_names_file_and_share() -> None:
    assert drawn(HALF) == f"{ERASED}manifestlog: reading a_b.manifest.json: 50 %"


@pytest.mark.usefixtures("impatient")
def test_without_a_total_there_is_no_share() -> None:
    assert drawn(HALF._replace(total=0)).endswith("a_b.manifest.json")


@pytest.mark.usefixtures("impatient")
def test_the_last_step_erases_it() -> None:
    assert drawn(HALF, HALF._replace(done=100)).endswith(ERASED)


@pytest.mark.usefixtures("impatient")
def test_a_file_name_cannot_control_the_terminal() -> None:
    assert "\x1b]" not in drawn(HALF._replace(path="/m/a\x1b]0;b"))


@pytest.mark.usefixtures("impatient")
def test_it_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_line, "_width", lambda: 40)
    assert len(drawn(HALF._replace(path="x" * 100)).removeprefix(ERASED)) == 39


def test_it_is_drawn_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_line, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(status_line, "_PAUSE_S", 3600.0)
    assert drawn(HALF, HALF, HALF).count("reading") == 1


@pytest.mark.usefixtures("impatient")
def test_a_forked_worker_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    line = StatusLine(stream)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    line.show(HALF)
    assert stream.getvalue() == ""
