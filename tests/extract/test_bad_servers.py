"""Truncated bodies and changing contents: nothing is fetched twice or joined wrongly, and every run ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from extract.running import pattern
from manifestlog.extract import Result, state_file
from manifestlog.extract.part_state import PartState
from support import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from extract.running import Here
    from support.badserver import BadServer, Exchange, Step

MIB = 1 << 20
BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
TUESDAY = "Tue, 02 Jan 2024 00:00:00 GMT"


def ranges(bad: BadServer) -> list[str | None]:
    return [request.headers.get("range") for request in bad.requests]


def conditions(bad: BadServer) -> list[str | None]:
    return [request.headers.get("if-range") for request in bad.requests]


# -- cut in the middle -------------------------------------------------------------------------------------------------

CUTS = sorted({0, 1, *range(0, len(BODY), len(BODY) // 10), len(BODY) - 1})
CUTTING: dict[str, Callable[[int, bytes, str], Step]] = {
    "closed": answers.cut_at,
    "reset": answers.reset_at,
    "chunked": lambda size, body, etag: answers.chunked_cut(body, size, etag),
}
ORDERLY = [kind for kind in CUTTING if kind != "reset"]
"""RST discards bytes in transit: the number of bytes received is unknown."""


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", CUTTING)
def test_a_cut_body_is_completed(here: Here, bad: BadServer, kind: str, cut: int) -> None:
    here.fetch(bad.script("/a", CUTTING[kind](cut, BODY, ETAG), answers.whole(BODY, ETAG)))
    assert (here.body(), here.files) == (BODY, ["systems/a"])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ORDERLY)
def test_of_a_cut_body_every_byte_is_sent_once(here: Here, bad: BadServer, kind: str, cut: int) -> None:
    outcome = here.fetch(bad.script("/a", CUTTING[kind](cut, BODY, ETAG), answers.whole(BODY, ETAG)))
    assert (bad.bodies["/a"], outcome.bytes_fetched) == (len(BODY), len(BODY))


@pytest.mark.parametrize("cut", CUTS)
def test_the_rest_of_a_cut_body_is_requested_by_its_etag(here: Here, bad: BadServer, cut: int) -> None:
    here.fetch(bad.script("/a", answers.cut_at(cut, BODY, ETAG), answers.whole(BODY, ETAG)))
    expected = (f"bytes={cut}-", ETAG) if cut else (None, None)
    assert (ranges(bad)[1], conditions(bad)[1]) == expected


@pytest.mark.parametrize("cut", CUTS)
def test_the_next_run_continues_with_a_cut_body(here: Here, bad: BadServer, cut: int) -> None:
    url = bad.script("/a", answers.cut_at(cut, BODY, ETAG), answers.whole(BODY, ETAG))
    assert here.fetch(url, retries=0).result is Result.FAILED
    assert here.fetch(url, retries=0).result is Result.NEW
    assert (here.body(), bad.bodies["/a"], here.files) == (BODY, len(BODY), ["systems/a"])


def test_a_body_is_assembled_from_many_pieces(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", *[answers.cut_at(100, BODY, ETAG)] * 10), retries=9)
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_a_body_is_assembled_over_many_runs(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(100, BODY, ETAG))
    results = [here.fetch(url, retries=0).result for _ in range(10)]
    assert (results[-1], here.body(), bad.bodies["/a"]) == (Result.NEW, BODY, len(BODY))


def test_a_cut_body_with_a_date_only_is_resumed_by_it(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, None, MONDAY), answers.whole(BODY, None, MONDAY)))
    assert (conditions(bad), bad.bodies["/a"], here.body()) == ([None, MONDAY], len(BODY), BODY)


def test_a_cut_body_without_validators_starts_again(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(400, BODY), answers.no_validators(BODY)))
    assert (ranges(bad), bad.bodies["/a"], here.body()) == ([None, None], 400 + len(BODY), BODY)


def test_a_cut_body_with_a_weak_etag_starts_again(here: Here, bad: BadServer) -> None:
    date = format_datetime(
        datetime.now(UTC), usegmt=True
    )  # too recent to identify the bytes; an old date does (test_ranges)
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, f"W/{ETAG}", date), answers.weak(BODY, ETAG)))
    assert (ranges(bad), conditions(bad), here.body()) == ([None, None], [None, None], BODY)


@pytest.mark.parametrize("etag", ['"a"\n', '"\u2713"'])
def test_a_cut_body_whose_etag_no_header_can_hold_starts_again(here: Here, bad: BadServer, etag: str) -> None:
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG)), retries=0)
    state_file.write_state(here.part, replace(state_file.read_state(here.part) or PartState(), etag=etag))
    here.fetch(bad.script("/a", answers.whole(BODY, ETAG)))
    assert (len(bad.requests), ranges(bad), here.body()) == (2, [None, None], BODY)


def test_a_body_that_is_cut_for_ever_fails(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.cut_at(100, BODY, ETAG)), retries=3)
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 4)


def test_a_failure_keeps_what_came_for_the_next_run(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(100, BODY, ETAG)), retries=3)
    assert here.part.read_bytes() == BODY[:400]


def test_a_failure_registers_nothing(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(100, BODY, ETAG)), retries=3)
    assert here.manifest.records == {}


def test_a_large_body_may_be_cut_more_often_than_there_are_retries(here: Here, bad: BadServer) -> None:
    large = pattern(6 * MIB)
    outcome = here.fetch(bad.script("/a", answers.cut_at(MIB + 1, large, ETAG)), retries=1)
    assert (outcome.error, bad.bodies["/a"]) == (None, len(large))


@pytest.mark.parametrize("etag", [None, f"W/{ETAG}"])
def test_a_large_body_that_starts_again_at_every_cut_fails(here: Here, bad: BadServer, etag: str | None) -> None:
    cut = answers.cut_at(2 * MIB, pattern(3 * MIB), etag)
    outcome = here.fetch(bad.script("/a", cut, cut, cut, answers.status(404)), retries=2)
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 3)


def test_a_large_body_that_changes_at_every_cut_fails(here: Here, bad: BadServer) -> None:
    cuts = [answers.cut_at(2 * MIB, pattern(3 * MIB, number), f'"{number}"') for number in range(3)]
    outcome = here.fetch(bad.script("/a", *cuts, answers.status(404)), retries=2)
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 3)


def test_a_body_without_length_that_ends_in_order_is_whole(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.chunked(BODY, ETAG)))
    assert here.body() == BODY


def test_a_body_up_to_the_end_of_the_connection_is_whole(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.exactly(200, {"Connection": "close"}, BODY)))
    assert here.body() == BODY


# -- changed in the middle ---------------------------------------------------------------------------------------------


def test_content_that_changed_meanwhile_is_fetched_in_full(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.whole(OTHER, '"b"')))
    assert (conditions(bad), here.body(), here.record().etag) == ([None, ETAG], OTHER, '"b"')


def test_content_that_changed_meanwhile_and_is_cut_again_is_resumed(here: Here, bad: BadServer) -> None:
    steps = (answers.cut_at(400, BODY, ETAG), answers.cut_at(300, OTHER, '"b"'), answers.whole(OTHER, '"b"'))
    here.fetch(bad.script("/a", *steps))
    assert (ranges(bad)[2], conditions(bad)[2], here.body()) == ("bytes=300-", '"b"', OTHER)


def test_content_that_changed_between_two_runs_is_fetched_in_full(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.whole(OTHER, '"b"'))
    here.fetch(url, retries=0)
    here.fetch(url, retries=0)
    assert (here.body(), here.files) == (OTHER, ["systems/a"])


def test_content_that_went_back_to_the_recorded_one_drops_the_part(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), answers.cut_at(300, OTHER, '"b"'), answers.whole(BODY, ETAG))
    here.fetch(url)
    here.fetch(url, retries=0)
    assert (here.fetch(url).result, here.files) == (Result.UNCHANGED, ["systems/a"])


def test_a_server_that_ignores_ranges_sends_it_all_again(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.ignores_range(BODY, ETAG)))
    assert (here.body(), bad.bodies["/a"]) == (BODY, 400 + len(BODY))


def ignores_if_range(body: bytes, headers: dict[str, str]) -> Step:
    """Send the rest of the current content, even if the part belongs to an older one."""

    def step(exchange: Exchange) -> None:
        start = int(exchange.request.headers.get("range", "bytes=0-")[6:-1])
        told = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        exchange.head(206 if start else 200, headers | told | {"Content-Length": str(len(body) - start)})
        exchange.body(body[start:])

    return step


def test_the_rest_of_another_etag_is_not_appended_to_a_part(here: Here, bad: BadServer) -> None:
    changed = ignores_if_range(BODY[::-1], {"ETag": '"b"'})
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), changed))
    assert here.body() == BODY[::-1]


def test_the_rest_of_another_date_is_not_appended_to_a_part(here: Here, bad: BadServer) -> None:
    changed = ignores_if_range(BODY[::-1], {"Last-Modified": TUESDAY})
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, None, MONDAY), changed))
    assert here.body() == BODY[::-1]


def test_the_rest_of_another_length_is_not_appended_to_a_part(here: Here, bad: BadServer) -> None:
    changed = ignores_if_range(OTHER, {"ETag": ETAG})
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), changed))
    assert here.body() == OTHER


@pytest.mark.parametrize("start", [0, 399, 401])
def test_the_rest_from_elsewhere_is_not_appended_to_a_part(here: Here, bad: BadServer, start: int) -> None:
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.wrong_range(BODY, start, ETAG)))
    assert (ranges(bad), here.body()) == ([None, "bytes=400-", None], BODY)


@pytest.mark.parametrize("told", [None, "", "nonsense", "bytes */1000", "items 400-999/1000", "bytes 400-999"])
def test_a_rest_without_a_position_is_refused(here: Here, bad: BadServer, told: str | None) -> None:
    headers = {"ETag": ETAG} | ({} if told is None else {"Content-Range": told})
    steps = (answers.cut_at(400, BODY, ETAG), answers.exactly(206, headers, BODY[400:]), answers.whole(BODY, ETAG))
    here.fetch(bad.script("/a", *steps))
    assert here.body() == BODY


def test_a_rest_of_unknown_length_is_accepted(here: Here, bad: BadServer) -> None:
    rest = answers.exactly(206, {"ETag": ETAG, "Content-Range": "bytes 400-999/*"}, BODY[400:])
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), rest))
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_a_rest_in_pieces_is_accepted(here: Here, bad: BadServer) -> None:
    piece = answers.exactly(
        206, {"ETag": ETAG, "Content-Range": "bytes 400-499/1000", "Content-Length": "100"}, BODY[400:500]
    )
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG), piece, answers.whole(BODY, ETAG)))
    assert (ranges(bad)[2], here.body(), bad.bodies["/a"]) == ("bytes=500-", BODY, len(BODY))


def test_an_unrequested_part_of_a_body_fails(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.exactly(206, {"Content-Range": "bytes 0-99/1000"}, BODY[:100])))
    assert (outcome.result, here.files) == (Result.FAILED, [])


# -- no bytes after the part -------------------------------------------------------------------------------------------


def whole_part(here: Here, bad: BadServer, *then: Step, etag: str | None = ETAG) -> str:
    """A complete part, as left by a run killed after the last byte; return its URL."""
    url = bad.script("/a", answers.chunked_cut(BODY, len(BODY), etag), *then)
    here.fetch(url, retries=0)
    assert here.part.read_bytes() == BODY
    return url


def test_a_complete_part_is_accepted(here: Here, bad: BadServer) -> None:
    url = whole_part(here, bad, answers.whole(BODY, ETAG))
    assert (here.fetch(url).result, here.body(), bad.bodies["/a"]) == (Result.NEW, BODY, len(BODY))


def test_a_part_that_is_whole_keeps_its_validators(here: Here, bad: BadServer) -> None:
    here.fetch(whole_part(here, bad, answers.exactly(416, {"Content-Range": f"bytes */{len(BODY)}"})))
    assert here.record().etag == ETAG


def test_a_part_longer_than_the_content_starts_again(here: Here, bad: BadServer) -> None:
    shorter = answers.exactly(416, {"Content-Range": f"bytes */{len(OTHER)}"})
    here.fetch(whole_part(here, bad, shorter, answers.whole(OTHER, '"b"')))
    assert (ranges(bad)[1:], here.body()) == (["bytes=1000-", None], OTHER)


@pytest.mark.parametrize("told", [None, "bytes */*", "nonsense"])
def test_a_416_without_a_length_starts_again(here: Here, bad: BadServer, told: str | None) -> None:
    headers = {"Content-Length": "0"} | ({} if told is None else {"Content-Range": told})
    here.fetch(whole_part(here, bad, answers.exactly(416, headers), answers.whole(BODY, ETAG)))
    assert (ranges(bad)[1:], here.body()) == (["bytes=1000-", None], BODY)


def test_416_for_ever_fails(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(whole_part(here, bad, answers.exactly(416, {"Content-Length": "0"})))
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 3)
