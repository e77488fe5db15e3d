"""What a source costs only when it must: claims, states and folders."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import Here, pattern
from extract.test_stop_one import fetch_in_child, has_part, wait_until
from manifestlog.extract import ResponseHead, Result
from manifestlog.extract.claims import Claims
from manifestlog.extract.part_file import SMALL_BYTES, PartFile, PartWriter
from manifestlog.extract.paths import SourcePaths, part_state_path
from support import answers

if TYPE_CHECKING:
    from pathlib import Path

    from support.badserver import BadServer, Exchange
    from support.children import Start

BODY, OTHER = pattern(1000), pattern(900, 1)


@pytest.fixture
def part(tmp_path: Path) -> PartFile:
    return PartFile(SourcePaths.of(tmp_path / "data", source()))


def head(size: int | None) -> ResponseHead:
    return ResponseHead(200, '"e"', length_bytes=size)


# -- claims ------------------------------------------------------------------------------------------------------------


def part_claim(here: Here, claims: Claims) -> str:
    return claims.name_of(SourcePaths.of(here.data_dir, source("http://h/a", source_id="a", dataset="systems")).part)


def test_an_unchanged_source_needs_no_claim(here: Here, bad: BadServer) -> None:
    """Two runs may ask the server for changes at the same time: no body comes."""
    url = bad.script("/a", answers.whole(BODY, '"e"'))
    here.fetch(url)
    with Claims(here.manifest, here.data_dir) as other, other.trying("part", part_claim(here, other)):
        assert here.fetch(url).result is Result.UNCHANGED


def test_a_changed_source_that_another_run_holds_is_skipped(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, '"e"'), answers.whole(OTHER, '"f"'))
    here.fetch(url)
    with Claims(here.manifest, here.data_dir) as other, other.trying("part", part_claim(here, other)):
        outcome = here.fetch(url)
    assert (outcome.result, outcome.bytes_fetched, here.body()) == (Result.CLAIMED, 0, BODY)


def test_a_source_that_another_run_fetches_before_the_claim_is_asked_again(here: Here, bad: BadServer) -> None:
    """Its response is to a question that is out of date."""
    url, inner = bad.url + "/a", []

    def step(exchange: Exchange) -> None:
        inner.append(here.fetch(url).result)
        answers.whole(OTHER, '"f"')(exchange)

    bad.script("/a", answers.whole(BODY, '"e"'), step, answers.whole(OTHER, '"f"'))
    here.fetch(url)
    assert (here.fetch(url).result, inner) == (Result.UNCHANGED, [Result.CHANGED])


def test_runs_that_skipped_a_source_are_forgotten_when_it_is_unchanged(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, '"e"'))
    here.fetch(url)
    with Claims(here.manifest, here.data_dir) as claims:
        claims.record_skip(part_claim(here, claims))
        here.fetch(url)
        assert len(claims.record_skip(part_claim(here, claims))) == 1


# -- files -------------------------------------------------------------------------------------------------------------


def test_an_unchanged_source_makes_no_folder(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, '"e"'))
    here.fetch(url)
    (here.data_dir / "systems").rename(here.data_dir / "moved")
    here.fetch(url)
    assert not (here.data_dir / "systems").exists()
    (here.data_dir / "moved").rename(here.data_dir / "systems")


def test_a_small_body_has_no_state(part: PartFile) -> None:
    with PartWriter(part, head(len(BODY))) as writer:
        writer.write(BODY)
        assert not part_state_path(part.path).exists()


def test_a_small_body_that_breaks_off_has_a_state(part: PartFile) -> None:
    """So the next run resumes it."""
    with pytest.raises(ConnectionError), PartWriter(part, head(len(BODY))) as writer:  # noqa: PT012 -- it ends with it
        writer.write(BODY[:400])
        raise ConnectionError
    found = PartFile(part.paths).resumable()
    assert found is not None
    assert found.length_bytes == 400


def test_a_large_body_has_a_state_from_the_beginning(part: PartFile) -> None:
    with PartWriter(part, head(SMALL_BYTES + 1)):
        assert part_state_path(part.path).exists()


def test_a_body_of_unknown_length_has_a_state_once_it_is_large(part: PartFile) -> None:
    with PartWriter(part, head(None)) as writer:
        writer.write(bytes(SMALL_BYTES))
        small = part_state_path(part.path).exists()
        writer.write(b"1")
        assert (small, part_state_path(part.path).exists()) == (False, True)


def test_a_small_body_of_a_killed_run_is_fetched_anew(here: Here, bad: BadServer, start: Start, path: Path) -> None:
    url = bad.script("/a", answers.slow(BODY, 400, threading.Event(), '"e"'), answers.whole(BODY, '"e"'))
    child = start(fetch_in_child, path, here.data_dir, url)
    wait_until(lambda: has_part(here.data_dir, 400))
    child.kill()
    child.join()
    outcome = here.fetch(url)
    assert (outcome.bytes_fetched, here.body(), here.files) == (len(BODY), BODY, ["systems/a"])


def test_a_part_without_state_beside_an_unchanged_source_is_deleted(here: Here, bad: BadServer) -> None:
    one = source(bad.script("/a", answers.whole(BODY, '"e"')), source_id="a", dataset="systems")
    here.one(one)
    SourcePaths.of(here.data_dir, one).part.write_bytes(BODY[:10])
    assert (here.one(one).result, here.files) == (Result.UNCHANGED, ["systems/a"])


def test_a_name_without_record_of_a_killed_run_is_used(here: Here, bad: BadServer) -> None:
    """A small content has no state that says so; the file itself does."""
    here.data_dir.joinpath("systems").mkdir(parents=True)
    here.data_dir.joinpath("systems", "a").write_bytes(BODY)
    assert here.fetch(bad.script("/a", answers.whole(BODY))).result is Result.NEW
    assert (here.files, os.path.getsize(here.record().file_path)) == (["systems/a"], len(BODY))


# -- open files --------------------------------------------------------------------------------------------------------


def open_files(directory: Path) -> list[str]:
    """The files of a directory that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # of the list itself, which is closed by now
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if name.startswith(f"{directory}{os.sep}")]


@pytest.mark.parametrize("more", [{}, {"bytes_max": 10}, {"checksum": "0" * 64}], ids=["kept", "refused", "pinned"])
def test_no_file_stays_open_behind_a_source(here: Here, bad: BadServer, more: dict[str, object]) -> None:
    here.one(source(bad.script("/a", answers.whole(BODY)), **more))
    assert open_files(here.data_dir) == []


def test_a_content_can_be_run_by_what_validates_it(here: Here, bad: BadServer) -> None:
    """The system refuses to run a file that anybody has open for writing."""
    url = bad.script("/a.sh", answers.whole(b"#!/bin/sh\nexit 0\n"))
    command = ("sh", "-c", 'chmod +x "$0" && exec "$0"')
    assert here.one(source(url, validate=command)).error is None
