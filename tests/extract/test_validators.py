"""Contradictory validators and empty ETags: no change is missed, and nothing is fetched on every run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import NOON, pattern
from manifestlog.extract import Result, plan_all
from manifestlog.extract.decide import etag_to_record
from support import answers
from support.records import make_record

if TYPE_CHECKING:
    from pathlib import Path

    from extract.running import Here, Put
    from support.badserver import BadServer, Exchange, Step

BODY = pattern(1000)
LONGER = pattern(1200, 1)
SAME_LENGTH = pattern(1000, 2)
ETAG = '"a"'
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
TUESDAY = "Tue, 02 Jan 2024 00:00:00 GMT"
ETAGS = ['""', 'W/""', '"0"', '"static"', "-", ""]

every_etag = pytest.mark.parametrize("etag", ETAGS)


def deaf(body: bytes, etag: str, last_modified: str | None = None) -> Step:
    """Respond 200 with these validators, whatever the conditions."""
    headers = {"ETag": etag, "Content-Length": str(len(body))}
    return answers.exactly(200, headers | ({"Last-Modified": last_modified} if last_modified else {}), body)


def said(status: int, headers: dict[str, str]) -> Step:
    """Send this head without a body, on a connection that stays open."""
    return lambda exchange: exchange.head(status, headers)


def unless_conditional(denial: Step, otherwise: Step) -> Step:
    """Respond differently to a conditional and an unconditional request."""

    def step(exchange: Exchange) -> None:
        asked = {"if-none-match", "if-modified-since"} & exchange.request.headers.keys()
        (denial if asked else otherwise)(exchange)

    return step


# -- 200 with the recorded ETag ----------------------------------------------------------------------------------------


@every_etag
def test_another_length_under_the_same_etag_is_changed(here: Here, bad: BadServer, etag: str) -> None:
    url = bad.script("/a", deaf(BODY, etag), deaf(LONGER, etag))
    assert [here.fetch(url).result for _ in range(2)] == [Result.NEW, Result.CHANGED]


@every_etag
def test_another_time_under_the_same_etag_is_changed(here: Here, bad: BadServer, etag: str) -> None:
    url = bad.script("/a", deaf(BODY, etag, MONDAY), deaf(SAME_LENGTH, etag, TUESDAY))
    assert [here.fetch(url).result for _ in range(2)] == [Result.NEW, Result.CHANGED]


@every_etag
def test_the_same_validators_are_unchanged_without_the_body(here: Here, bad: BadServer, etag: str) -> None:
    url = bad.script("/a", deaf(BODY, etag, MONDAY))
    here.fetch(url)
    assert (here.fetch(url).result, here.fetch(url).bytes_fetched) == (Result.UNCHANGED, 0)


def test_another_notation_of_the_same_time_is_unchanged(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", deaf(BODY, ETAG, MONDAY), deaf(BODY, ETAG, "Monday, 01-Jan-24 00:00:00 GMT"))
    here.fetch(url)
    assert here.fetch(url).bytes_fetched == 0


def test_a_dry_run_sees_another_length_under_the_same_etag(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", deaf(BODY, '"static"'), deaf(LONGER, '"static"'))
    here.fetch(url)
    (plan,) = plan_all(here.manifest, [source(url, source_id="a", dataset="systems")])
    assert (plan.action, plan.why) == ("fetch", "its size was 1,000 bytes, now 1,200")


# -- 304 with validators of other content ------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [{"ETag": ETAG, "Last-Modified": TUESDAY}, {"ETag": '"b"'}], ids=["time", "ETag"])
def test_not_modified_with_another_validator_is_requested_again(
    here: Here, bad: BadServer, told: dict[str, str]
) -> None:
    later = unless_conditional(said(304, told), answers.whole(LONGER, ETAG, TUESDAY))
    url = bad.script("/a", answers.whole(BODY, ETAG, MONDAY), later)
    here.fetch(url)
    assert (here.fetch(url, retries=0).result, here.body()) == (Result.CHANGED, LONGER)


def test_not_modified_with_another_validator_and_no_other_answer_fails(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), said(304, {"ETag": '"b"'}))
    here.fetch(url)
    assert (here.fetch(url).result, len(bad.requests)) == (Result.FAILED, 3)


def test_not_modified_may_name_the_etag_weakly(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), said(304, {"ETag": f"W/{ETAG}"}))
    here.fetch(url)
    assert (here.fetch(url).result, len(bad.requests)) == (Result.UNCHANGED, 2)


def test_a_dry_run_asks_again_as_well(here: Here, bad: BadServer) -> None:
    later = unless_conditional(said(304, {"ETag": '"b"'}), answers.whole(LONGER, '"b"'))
    url = bad.script("/a", answers.whole(BODY, ETAG), later)
    here.fetch(url)
    (plan,) = plan_all(here.manifest, [source(url, source_id="a", dataset="systems")])
    assert (plan.action, plan.length_bytes) == ("fetch", len(LONGER))


# -- ETags that are known to be unreliable -----------------------------------------------------------------------------


def test_an_empty_etag_is_never_asked_by(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", deaf(BODY, '""'))
    here.fetch(url)
    here.fetch(url)
    assert "if-none-match" not in bad.requests[-1].headers


def test_an_etag_of_two_contents_is_not_asked_by_any_more(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", deaf(BODY, '"static"'), deaf(LONGER, '"static"'))
    for _ in range(3):
        here.fetch(url)
    assert "if-none-match" not in bad.requests[-1].headers


def test_an_etag_of_two_contents_hides_no_third_one(here: Here, bad: BadServer) -> None:
    bodies = [BODY, LONGER, pattern(len(LONGER), 3)]
    third = answers.whole(bodies[2], '"static"')  # responds 304 to this ETag
    url = bad.script("/a", deaf(bodies[0], '"static"'), deaf(bodies[1], '"static"'), third)
    assert [here.fetch(url).result for _ in bodies] == [Result.NEW, Result.CHANGED, Result.CHANGED]


def test_an_unreliable_etag_is_remembered_across_contents(here: Here, bad: BadServer) -> None:
    bodies = [pattern(900 + number, number) for number in range(4)]
    url = bad.script("/a", *(deaf(body, '"static"') for body in bodies))
    for _ in bodies:
        here.fetch(url)
    assert here.record().etag == '""'


def test_a_source_with_unreliable_etags_is_unchanged_by_time_and_length(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", deaf(BODY, '"static"', MONDAY), deaf(LONGER, '"static"', TUESDAY))
    here.fetch(url)
    here.fetch(url)
    outcome = here.fetch(url)
    assert (outcome.result, outcome.bytes_fetched) == (Result.UNCHANGED, 0)


def test_a_source_with_unreliable_etags_without_a_time_is_compared_by_checksum(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", deaf(BODY, '"static"'), deaf(LONGER, '"static"'))
    here.fetch(url)
    here.fetch(url)
    outcome = here.fetch(url)
    assert (outcome.result, outcome.bytes_fetched) == (Result.UNCHANGED, len(LONGER))


def test_the_rest_of_a_part_is_not_requested_by_an_unreliable_etag(here: Here, bad: BadServer) -> None:
    steps = (deaf(BODY, '"static"'), deaf(LONGER, '"static"'), answers.cut_at(400, pattern(1300, 4), '"static"'))
    url = bad.script("/a", *steps, answers.whole(pattern(1300, 5), '"static"'))
    for _ in range(3):
        here.fetch(url)
    assert here.body() == pattern(1300, 5)


def test_the_rest_of_another_time_under_the_same_etag_starts_again(here: Here, bad: BadServer) -> None:
    other = answers.whole(SAME_LENGTH, ETAG, TUESDAY)
    here.fetch(bad.script("/a", answers.cut_at(400, BODY, ETAG, MONDAY), other))
    assert here.body() == SAME_LENGTH


@pytest.mark.parametrize(
    ("before", "etag", "recorded"),
    [
        pytest.param(None, ETAG, ETAG, id="nothing before"),
        pytest.param(None, 'W/""', None, id="empty"),
        pytest.param('"b"', ETAG, ETAG, id="another one before"),
        pytest.param(ETAG, ETAG, '""', id="the same for another content"),
        pytest.param('""', ETAG, '""', id="known to be unreliable"),
        pytest.param('""', None, None, id="no ETag any more"),
    ],
)
def test_which_etag_is_recorded(before: str | None, etag: str | None, recorded: str | None) -> None:
    had = None if before is None else make_record(1).model_copy(update={"etag": before})
    assert etag_to_record(had, "0" * 64, etag) == recorded


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_of_another_size_under_the_same_time_is_changed(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    results = []
    for body in (BODY, LONGER):
        path.write_bytes(body)
        os.utime(path, (NOON, NOON))
        results.append(here.fetch(path.as_uri()).result)
    assert results == [Result.NEW, Result.CHANGED]


def test_a_real_server_is_believed(here: Here, put: Put) -> None:
    url = put("a.json", BODY)
    here.fetch(url)
    assert (here.fetch(url).result, put.real.bodies()["/a.json"]) == (Result.UNCHANGED, 1)
