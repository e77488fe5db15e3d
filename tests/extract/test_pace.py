"""Slow bodies end, a source has a time limit, and sources claimed in several runs are reported."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from extract.builders import raw_source, source
from extract.running import pattern
from extract.runs import Home
from manifestlog.engines.filelog.claims import FileClaims
from manifestlog.extract import Defaults, Result, paths
from manifestlog.extract.claims import Claims, claim_name
from manifestlog.names import CLAIMS_NAME
from support import answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Here
    from support.badserver import BadServer, Exchange, Step

BODY = pattern(1000)
ETAG = '"a"'


# -- a body that trickles ----------------------------------------------------------------------------------------------


def test_a_trickle_ends_and_says_why(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.drip(BODY, 0.05, ETAG))
    error = here.fetch(url, bytes_per_s_min=1000.0, stall_s=0.3, retries=0).error
    assert error is not None
    assert "less than bytes_per_s_min (1000) over stall_s" in error


def test_a_trickle_is_continued_by_the_next_attempt(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.drip(BODY, 0.05, ETAG), answers.whole(BODY, ETAG))
    outcome = here.fetch(url, bytes_per_s_min=1000.0, stall_s=0.3)
    assert (outcome.result, outcome.bytes_fetched) == (Result.NEW, len(BODY))


def test_a_slow_body_that_is_quick_enough_is_read_to_its_end(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.drip(BODY[:30], 0.02)), bytes_per_s_min=5.0, stall_s=0.2, retries=0)
    assert here.body() == BODY[:30]


def test_a_minimum_speed_of_0_is_no_limit(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.drip(BODY[:8], 0.1)), bytes_per_s_min=0.0, stall_s=0.1, retries=0)
    assert here.body() == BODY[:8]


def slowly(*pieces: bytes) -> Step:
    """Send these bytes, then one more at a time until the client leaves."""

    def step(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.frame(piece)
        while not exchange.server.stopping.wait(0.05):
            exchange.frame(b"x")
        exchange.hang_up()

    return step


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = HEAD + b"ETag: " + ETAG.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent", [b"HTTP/1.1 200 ", HEAD + b"X-Slow: ", CHUNKS + b"1;", CHUNKS + b"1\r\na\r\n1;"], ids=repr
)
def test_an_endless_response_head_is_ended(here: Here, bad: BadServer, sent: bytes) -> None:
    error = here.fetch(bad.script("/a", slowly(sent)), stall_s=0.3, retries=0).error or ""
    assert "sends its response too slowly (not complete within stall_s, 0.3 s)" in error


def test_the_time_limit_of_a_source_ends_it_as_well(here: Here, bad: BadServer) -> None:
    error = here.fetch(bad.script("/a", slowly(HEAD + b"X-Slow: ")), timeout_total_s=0.3, retries=0).error or ""
    assert "response too slowly" in error


def test_a_server_that_is_slow_to_respond_is_waited_for(here: Here, bad: BadServer) -> None:
    def step(exchange: Exchange) -> None:
        exchange.server.stopping.wait(0.4)
        for piece in (HEAD, b"Content-Length: 1\r\n\r\n", b"a"):
            exchange.frame(piece)

    here.fetch(bad.script("/a", step), stall_s=0.3, retries=0)
    assert here.body() == b"a"


def test_the_default_minimum_is_below_any_real_server() -> None:
    assert Defaults().bytes_per_s_min * Defaults().stall_s <= 1200


# -- the time of a source ----------------------------------------------------------------------------------------------


def test_a_source_ends_after_its_time_and_says_so(here: Here, bad: BadServer) -> None:
    began = time.monotonic()
    error = here.fetch(bad.script("/a", answers.drip(BODY, 0.05, ETAG)), timeout_total_s=0.5).error
    assert error is not None
    assert ("not done within timeout_total_s (0.5 s)" in error, time.monotonic() - began < 5) == (True, True)


def test_bytes_received_in_time_are_kept_for_the_next_run(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.drip(BODY, 0.05, ETAG), answers.whole(BODY, ETAG))
    first = here.fetch(url, timeout_total_s=0.5).bytes_fetched
    assert (first > 0, first + here.fetch(url).bytes_fetched, here.body()) == (True, len(BODY), BODY)


def test_a_source_does_not_wait_longer_than_its_time(here: Here, bad: BadServer) -> None:
    error = here.fetch(bad.script("/a", answers.status(503)), backoff_s=60.0, timeout_total_s=1.0).error
    assert error is not None
    assert ("timeout_total_s" in error, "HTTP 503" in error, here.waits) == (True, True, [])


def test_a_source_within_its_time_is_not_affected(here: Here, bad: BadServer) -> None:
    assert here.fetch(bad.script("/a", answers.whole(BODY)), timeout_total_s=60.0).result is Result.NEW


# -- claimed -----------------------------------------------------------------------------------------------------------


@contextmanager
def claimed(here: Here, url: str) -> Iterator[None]:
    """Another run holds this source."""
    one = source(url, source_id="a", dataset="systems")
    here.data_dir.mkdir(exist_ok=True)
    with Claims(here.manifest, here.data_dir) as claims:
        part = claims.name_of(paths.part_path(paths.path_for(here.data_dir, one), one))
        (here.data_dir / "systems").mkdir(exist_ok=True)
        with claims.trying("part", part) as ours:
            assert ours
            yield


@pytest.mark.parametrize(("runs", "told"), [(2, 0), (3, 1), (4, 2)])
def test_a_source_that_is_claimed_in_many_runs_gives_a_warning(
    here: Here, bad: BadServer, runs: int, told: int
) -> None:
    url = bad.script("/a", answers.whole(BODY))
    with claimed(here, url):
        outcomes = [here.fetch(url) for _ in range(runs)]
    assert [outcome.result for outcome in outcomes] == [Result.CLAIMED] * runs
    assert sum(outcome.warning is not None for outcome in outcomes) == told


def test_a_run_that_gets_the_source_resets_the_count(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    warned = []
    for _ in range(3):
        with claimed(here, url):
            warned += [here.fetch(url).warning for _ in range(2)]
        here.fetch(url)
    assert (warned, here.files) == ([None] * 6, ["systems/a"])


def test_the_warning_says_how_often_and_since_when(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY))
    with claimed(here, url):
        warning = [here.fetch(url).warning for _ in range(3)][-1]
    assert warning is not None
    assert warning.startswith("claimed in the last 3 runs, since 20")


def test_the_notes_of_claimed_sources_go_with_the_last_of_them(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY))
    with claimed(here, url):
        here.fetch(url)
    noted = (here.data_dir / CLAIMS_NAME).stat().st_size
    here.fetch(url)
    assert (noted > 0, (here.data_dir / CLAIMS_NAME).stat().st_size) == (True, 0)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"[" * 100_000, b'{"a":1}', b"0"])
def test_unreadable_notes_are_ignored(here: Here, bad: BadServer, content: bytes) -> None:
    url = bad.script("/a", answers.whole(BODY))
    with claimed(here, url):
        (here.data_dir / CLAIMS_NAME).write_bytes(content)
        result = here.fetch(url).result
    assert (result, here.fetch(url).result) == (Result.CLAIMED, Result.NEW)


def test_the_warning_is_shown_under_quiet(tmp_path: Path, bad: BadServer) -> None:
    home = Home(tmp_path)
    one = raw_source(source_id="a", dataset="systems", url=bad.script("/a", answers.whole(BODY)))
    home.configure(one)
    home.data.joinpath("systems").mkdir(parents=True)
    found = source(one["url"], source_id="a", dataset="systems")
    name = claim_name(home.data, paths.part_path(paths.path_for(home.data, found), found))
    with FileClaims(str(home.data)) as claims, claims.claim("part", name):
        results = [home.run("--quiet") for _ in range(3)]
    assert [len(result.json.get("warnings", [])) for result in results] == [0, 0, 1]
    assert [(result.code, "claimed in the last 3 runs" in result.err) for result in results] == [
        (0, False), (0, False), (0, True),
    ]  # fmt: skip
