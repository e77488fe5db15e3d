"""Resuming a part: by a date where the standard allows it, and without a validator where a pin decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import source
from extract.running import pattern, sha256
from manifestlog.extract import FetchRequest, ResponseHead, Result
from manifestlog.extract.decide import Part, Step, build_request, decide
from support import answers

if TYPE_CHECKING:
    from extract.running import Here
    from manifestlog.extract import Outcome
    from support.badserver import BadServer, Exchange, Step as Answer

BODY = pattern(1000)
OTHER = pattern(1000, 1)
WEAK = 'W/"a"'
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"


def ago(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True)


def dated(body: bytes, headers: dict[str, str], size_bytes: int | None = None) -> Answer:
    """The correct response with these headers, cut after this many bytes."""

    def step(exchange: Exchange) -> None:
        content = answers.Content(body, headers.get("ETag"), headers.get("Last-Modified"), headers)
        reply = answers.right_reply(exchange.request, content)
        exchange.head(reply.status, reply.headers)
        exchange.body(reply.payload[:size_bytes])
        if size_bytes is not None:
            exchange.hang_up()

    return step


def cut(here: Here, bad: BadServer, headers: dict[str, str], **more: Any) -> Outcome:
    """A file that is cut in the middle, then complete."""
    url = bad.script("/a", dated(BODY, headers, 400), dated(BODY, headers))
    return here.one(source(url, source_id="a", dataset="systems", **more))


def pinned(here: Here, url: str, content: bytes) -> Outcome:
    return here.one(source(url, source_id="a", dataset="systems", checksum=sha256(content)))


# -- by date -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("etag", [{}, {"ETag": WEAK}], ids=["no ETag", "weak ETag"])
@pytest.mark.parametrize("date", [{}, {"Date": "Mon, 01 Jan 2024 00:01:00 GMT"}], ids=["no Date", "a minute later"])
def test_a_part_of_an_old_date_is_continued(
    here: Here, bad: BadServer, etag: dict[str, str], date: dict[str, str]
) -> None:
    cut(here, bad, {"Last-Modified": MONDAY} | etag | date)
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_the_date_is_the_validator_of_the_request(here: Here, bad: BadServer) -> None:
    cut(here, bad, {"Last-Modified": MONDAY, "ETag": WEAK})
    assert bad.requests[-1].headers["if-range"] == MONDAY


@pytest.mark.parametrize("etag", [{}, {"ETag": WEAK}], ids=["no ETag", "weak ETag"])
def test_a_part_of_a_recent_date_starts_again(here: Here, bad: BadServer, etag: dict[str, str]) -> None:
    cut(here, bad, {"Last-Modified": ago(30)} | etag)
    assert (here.body(), bad.bodies["/a"]) == (BODY, 400 + len(BODY))


def test_a_date_is_recent_by_the_clock_of_the_server(here: Here, bad: BadServer) -> None:
    cut(here, bad, {"Last-Modified": MONDAY, "ETag": WEAK, "Date": "Mon, 01 Jan 2024 00:00:59 GMT"})
    assert "range" not in bad.requests[-1].headers


def test_an_invalid_date_identifies_nothing(here: Here, bad: BadServer) -> None:
    cut(here, bad, {"Last-Modified": "yesterday"})
    assert "range" not in bad.requests[-1].headers


def test_the_next_run_continues_by_the_date(here: Here, bad: BadServer) -> None:
    headers = {"Last-Modified": MONDAY, "ETag": WEAK}
    url = bad.script("/a", dated(BODY, headers, 400), dated(BODY, headers))
    results = [here.fetch(url, retries=0).result for _ in range(2)]
    assert (results, bad.bodies["/a"]) == ([Result.FAILED, Result.NEW], len(BODY))


def test_a_file_that_is_cut_each_time_ends(here: Here, bad: BadServer) -> None:
    headers = {"Last-Modified": MONDAY, "ETag": WEAK}
    here.fetch(bad.script("/a", dated(BODY, headers, 300)))
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_another_content_of_a_later_date_is_fetched_whole(here: Here, bad: BadServer) -> None:
    later = dated(OTHER, {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT", "ETag": WEAK})
    here.fetch(bad.script("/a", dated(BODY, {"Last-Modified": MONDAY, "ETag": WEAK}, 400), later))
    assert here.body() == OTHER


@pytest.mark.parametrize(
    ("part", "validator"),
    [
        pytest.param(Part(40, WEAK, MONDAY, 100, strong_date=True), MONDAY, id="weak ETag, strong date"),
        pytest.param(Part(40, WEAK, MONDAY, 100, strong_date=False), None, id="weak ETag, weak date"),
        pytest.param(Part(40, WEAK, None, 100), None, id="weak ETag, no date"),
        pytest.param(Part(40, None, MONDAY, 100, strong_date=False), None, id="weak date"),
        pytest.param(Part(40, '"a"', MONDAY, 100, strong_date=False), '"a"', id="strong ETag, weak date"),
        pytest.param(Part(40, '"a"', MONDAY, 100, strong_date=True), '"a"', id="both strong"),
    ],
)
def test_validators_that_identify_a_part(part: Part, validator: str | None) -> None:
    assert build_request(None, part) == (FetchRequest(start=40, if_range=validator) if validator else FetchRequest())


# -- by the pin --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"ETag": WEAK}, {"ETag": '""'}], ids=["nothing", "weak", "empty"])
def test_a_pinned_part_without_a_validator_is_continued(here: Here, bad: BadServer, headers: dict[str, str]) -> None:
    cut(here, bad, headers, checksum=sha256(BODY))
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_a_part_without_a_validator_and_a_pin_starts_again(here: Here, bad: BadServer) -> None:
    cut(here, bad, {})
    assert (here.body(), bad.bodies["/a"]) == (BODY, 400 + len(BODY))


def test_a_pinned_part_of_another_content_is_fetched_whole_in_the_same_run(here: Here, bad: BadServer) -> None:
    outcome = pinned(here, bad.script("/a", answers.cut_at(400, OTHER), answers.whole(BODY)), BODY)
    assert (outcome.result, here.body(), here.files) == (Result.NEW, BODY, ["systems/a"])


def test_content_other_than_the_pinned_one_is_kept_as_rejected(here: Here, bad: BadServer) -> None:
    outcome = pinned(here, bad.script("/a", answers.cut_at(400, BODY), answers.whole(OTHER)), pattern(10))
    (kept,) = here.data_dir.rglob("*.rejected")
    assert (outcome.result, kept.read_bytes()) == (Result.FAILED, OTHER)


def test_a_pinned_part_that_is_all_there_is_complete(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.wrong_length(BODY, len(BODY) + 1), answers.whole(BODY))
    assert (pinned(here, url, BODY).result, here.body()) == (Result.NEW, BODY)


def test_a_pinned_part_whose_server_supports_no_ranges_starts_again(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(400, BODY), answers.ignores_range(BODY))
    assert (pinned(here, url, BODY).result, here.body()) == (Result.NEW, BODY)


def test_a_pinned_part_is_requested_by_its_validator_if_it_has_one() -> None:
    assert build_request(None, Part(40, '"a"', None, 100), pinned=True) == FetchRequest(start=40, if_range='"a"')


def test_an_empty_part_causes_no_range_request() -> None:
    assert build_request(None, Part(0, None, None, 100), pinned=True) == FetchRequest()


def test_the_rest_of_another_length_starts_again_though_pinned() -> None:
    part = Part(40, None, None, 100)
    assert (
        decide(build_request(None, part, pinned=True), None, part, ResponseHead(206, None, None, 90, 40)).step
        is Step.RESTART
    )
