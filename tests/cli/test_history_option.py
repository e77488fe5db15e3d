"""`--history`, and `history` of a configuration: how much of the history the verbs that compact keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest
from cli.test_extract import MANIFEST, configure, entry
from support import answers
from support.badserver import misbehaving
from support.records import make_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.program import Program

NAME = "systems_download"


@pytest.fixture
def kept(home: Path) -> Path:
    """A manifest that has a history."""
    path = home / MANIFEST
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
    assert history_of(path)
    return path


@pytest.fixture
def url() -> Iterator[str]:
    with misbehaving() as server:
        yield server.script("/a.json", answers.whole(b"first", '"a"'))


def history_of(path: Path) -> list[str]:
    """The files of the manifest in `history/`."""
    return [found.name for found in (path.parent / "history").glob("*")]


def test_compact_keeps_all_by_default(run: Program, kept: Path) -> None:
    run.here("compact", NAME)
    assert history_of(kept)


def test_compact_keeps_what_it_is_told(run: Program, kept: Path) -> None:
    run.here("compact", NAME, "--history", "off")
    assert history_of(kept) == []


def test_a_limit_that_is_not_reached_cuts_nothing(run: Program, kept: Path) -> None:
    run.here("compact", NAME, "--history", "90d")
    assert history_of(kept)


def test_add_keeps_what_it_is_told(run: Program, kept: Path, tree: Path) -> None:
    run.here("add", NAME, tree, "--jobs", 1, "--history", "off")
    assert history_of(kept) == []


def test_extract_keeps_what_is_configured(run: Program, kept: Path, url: str) -> None:
    run.here("extract", configure(run.home, entry(url), defaults={"jobs": 1}, history="off"))
    assert history_of(kept) == []


def test_the_command_line_goes_before_the_configuration(run: Program, kept: Path, url: str) -> None:
    config = configure(run.home, entry(url), defaults={"jobs": 1}, history="off")
    run.here("extract", config, "--history", "forever")
    assert history_of(kept)


@pytest.mark.parametrize("verb", ["compact", "add", "extract"])
def test_any_other_text_is_a_usage_error(run: Program, verb: str) -> None:
    result = run.here(verb, NAME, "--history", "a week")
    assert (result.code, "forever, off, an age such as 90d" in result.err, one_line(result.err)) == (2, True, True)
