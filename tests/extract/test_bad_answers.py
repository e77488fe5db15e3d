"""Responses that are wrong, meaningless, late or missing: the source fails or recovers, and the run continues."""

from __future__ import annotations

import gzip
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Result
from support import answers

if TYPE_CHECKING:
    from extract.running import Here
    from support.badserver import BadServer, Exchange, Step

BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"


# -- wrong lengths -----------------------------------------------------------------------------------------------------


def test_a_length_that_is_too_large_fails(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.wrong_length(BODY, len(BODY) + 1)))
    assert (outcome.result, len(here.manifest.records)) == (Result.FAILED, 0)


def test_a_length_that_is_too_large_is_reported_as_a_cut(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.wrong_length(BODY, len(BODY) + 1)))
    assert outcome.error is not None
    assert "cut" in outcome.error


def test_nothing_is_read_beyond_a_length_that_is_too_small(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.wrong_length(BODY, len(BODY) - 1, ETAG)))
    assert here.body() == BODY[:-1]


def test_a_length_that_was_wrong_once_is_retried(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.wrong_length(BODY, len(BODY) + 1, ETAG), answers.whole(BODY, ETAG)))
    assert here.body() == BODY


@pytest.mark.parametrize("length", ["", "x", "-1", "1000.0", "1" * 5000])
def test_a_length_that_is_not_a_number_fails_the_source_and_not_the_run(
    here: Here, bad: BadServer, length: str
) -> None:
    report = here.run(
        source(bad.script("/a", answers.exactly(200, {"Content-Length": length}, BODY)), source_id="a"),
        source(bad.script("/b", answers.whole(OTHER)), source_id="b"),
        retries=0,
    )
    assert {outcome.source_id: outcome.result for outcome in report.outcomes}["b"] is Result.NEW


def test_two_different_lengths_fail(here: Here, bad: BadServer) -> None:
    def step(exchange: Exchange) -> None:
        exchange.frame(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n")
        exchange.body(BODY[:10])
        exchange.hang_up()

    assert here.fetch(bad.script("/a", step)).result is Result.FAILED


def test_an_endless_number_in_a_range_fails_the_source_and_not_the_run(here: Here, bad: BadServer) -> None:
    told = {"ETag": ETAG, "Content-Range": f"bytes 400-999/{'1' * 5000}"}
    steps = (answers.cut_at(400, BODY, ETAG), answers.exactly(206, told, BODY[400:]), answers.whole(BODY, ETAG))
    assert len(here.run(source(bad.script("/a", *steps))).outcomes) == 1


@pytest.mark.parametrize(
    "empty", [answers.whole(b""), answers.chunked(b""), answers.exactly(200, {}), answers.exactly(204, {})]
)
def test_an_empty_file_fails_and_leaves_nothing(here: Here, bad: BadServer, empty: Step) -> None:
    outcome = here.fetch(bad.script("/a", empty))
    assert (outcome.result, len(here.manifest.records), here.files) == (Result.FAILED, 0, [])


@pytest.mark.parametrize("empty", [answers.whole(b""), answers.exactly(200, {})])
def test_an_empty_file_is_not_requested_again(here: Here, bad: BadServer, empty: Step) -> None:
    here.fetch(bad.script("/a", empty))
    assert len(bad.requests) == 1


def test_a_source_that_became_empty_keeps_its_content(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), answers.whole(b"", '"b"'))
    here.fetch(url)
    assert (here.fetch(url).result, here.body(), here.files) == (Result.FAILED, BODY, ["systems/a"])


# -- meaningless validators --------------------------------------------------------------------------------------------


def test_an_etag_that_changes_on_every_request_refreshes(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.etag_of_its_own(BODY))
    results = [here.fetch(url).result for _ in range(3)]
    assert (results, here.files) == ([Result.NEW, Result.REFRESHED, Result.REFRESHED], ["systems/a"])


def test_a_source_without_validators_is_fetched_every_time(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.no_validators(BODY))
    here.fetch(url)
    outcome = here.fetch(url)
    assert (outcome.result, outcome.bytes_fetched, here.files) == (Result.UNCHANGED, len(BODY), ["systems/a"])


def test_a_source_without_validators_is_requested_without_conditions(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.no_validators(BODY))
    here.fetch(url)
    here.fetch(url)
    assert not {"if-none-match", "if-modified-since", "range", "if-range"} & bad.requests[-1].headers.keys()


def test_a_source_without_validators_may_change(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.no_validators(BODY), answers.no_validators(OTHER))
    here.fetch(url)
    assert here.fetch(url).result is Result.CHANGED


def test_content_that_changes_at_every_request_is_changed_every_time(here: Here, bad: BadServer) -> None:
    bodies = [pattern(100, number) for number in range(4)]
    url = bad.script("/a", answers.changing(*bodies))
    results = [here.fetch(url).result for _ in bodies]
    assert (results, len(here.files)) == ([Result.NEW] + [Result.CHANGED] * 3, 4)


def ignores_conditions(body: bytes, headers: dict[str, str], sent: threading.Event) -> Step:
    """Return 200 for every request; most of the body only when the test asks for it."""

    def step(exchange: Exchange) -> None:
        exchange.head(200, headers | {"Content-Length": str(len(body))})
        exchange.wait_for(sent)
        exchange.body(body)

    return step


@pytest.mark.parametrize("headers", [{"ETag": ETAG}, {"Last-Modified": MONDAY}])
def test_a_condition_that_is_ignored_makes_unchanged_without_the_body(
    here: Here, bad: BadServer, headers: dict[str, str]
) -> None:
    first = answers.exactly(200, headers | {"Content-Length": str(len(BODY))}, BODY)
    url = bad.script("/a", first, ignores_conditions(BODY, headers, threading.Event()))
    here.fetch(url)
    assert (here.fetch(url).result, bad.bodies["/a"]) == (Result.UNCHANGED, len(BODY))


def test_nothing_new_for_a_source_that_was_never_fetched_fails(here: Here, bad: BadServer) -> None:
    assert here.fetch(bad.script("/a", answers.exactly(304, {}))).result is Result.FAILED


def test_nothing_new_may_say_how_it_would_be_encoded(here: Here, bad: BadServer) -> None:
    def unchanged(exchange: Exchange) -> None:
        exchange.head(304, {"ETag": ETAG, "Transfer-Encoding": "chunked"})  # RFC 9112, 6.1

    url = bad.script("/a", answers.whole(BODY, ETAG), unchanged)
    here.fetch(url)
    assert here.fetch(url, timeout_read_s=2.0).result is Result.UNCHANGED


def test_nothing_new_may_say_how_long_it_would_be(here: Here, bad: BadServer) -> None:
    def unchanged(exchange: Exchange) -> None:
        exchange.head(304, {"ETag": ETAG, "Content-Length": str(len(BODY))})

    url = bad.script("/a", answers.whole(BODY, ETAG), unchanged)
    here.fetch(url)
    assert here.fetch(url, timeout_read_s=2.0).result is Result.UNCHANGED


# -- retries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 599])
def test_a_failing_server_is_retried(here: Here, bad: BadServer, status: int) -> None:
    assert here.fetch(bad.script("/a", answers.status(status), answers.whole(BODY))).result is Result.NEW


def test_a_failing_server_is_retried_as_often_as_configured(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.status(503)), retries=2)
    assert (outcome.result, len(bad.requests), len(here.waits)) == (Result.FAILED, 3, 2)


def test_a_failure_names_its_reason_and_the_number_of_attempts(here: Here, bad: BadServer) -> None:
    error = here.fetch(bad.script("/a", answers.status(503)), retries=2).error
    assert error == "HTTP 503; 3 attempts failed: run extract again later"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [0, 1])
def test_retry_after_in_seconds_is_honoured(here: Here, bad: BadServer, status: int, seconds: int) -> None:
    here.fetch(bad.script("/a", answers.status(status, seconds), answers.whole(BODY)))
    assert [(wait.reason, wait.pause_s) for wait in here.waits] == [(f"HTTP {status}", seconds)]


@pytest.mark.parametrize("status", [202, 403, 500, 501, 599])
def test_a_status_with_retry_after_is_retried(here: Here, bad: BadServer, status: int) -> None:
    outcome = here.fetch(bad.script("/a", answers.status(status, 0, b"wait"), answers.whole(BODY)))
    assert (outcome.result, here.body()) == (Result.NEW, BODY)


def test_a_longer_retry_after_overrides_the_back_off(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.status(503, 1), answers.whole(BODY)), backoff_s=0.01)
    assert [wait.pause_s for wait in here.waits] == [1]


@pytest.mark.parametrize("status", [403, 429, 503])
def test_the_back_off_overrides_a_retry_after_of_zero(here: Here, bad: BadServer, status: int) -> None:
    here.fetch(bad.script("/a", answers.status(status, 0), answers.whole(BODY)), backoff_s=0.2)
    assert [wait.pause_s >= 0.2 for wait in here.waits] == [True]


def test_retry_after_as_a_date_is_honoured(here: Here, bad: BadServer) -> None:
    def later(exchange: Exchange) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        answers.status(503, date)(exchange)

    here.fetch(bad.script("/a", later, answers.whole(BODY)))
    assert 0 < here.waits[0].pause_s <= 2


def test_a_retry_after_in_the_past_is_ignored(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.status(503, MONDAY), answers.whole(BODY)), backoff_s=0.2)
    assert [0.2 <= wait.pause_s < 1 for wait in here.waits] == [True]


@pytest.mark.parametrize("wish", ["soon", "-5", "1.5.2", "", "9" * 5000, "Mon, 99 Jan 99999 99:99:99 GMT", "inf"])
def test_an_invalid_retry_after_is_ignored(here: Here, bad: BadServer, wish: str) -> None:
    here.fetch(bad.script("/a", answers.status(503, wish), answers.whole(BODY)))
    assert ([wait.pause_s for wait in here.waits], here.body()) == ([0], BODY)


@pytest.mark.parametrize("wish", ["601", "86400", "999999999999999999999", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_server_that_asks_for_a_long_pause_is_not_retried(here: Here, bad: BadServer, wish: str) -> None:
    outcome = here.fetch(bad.script("/a", answers.status(429, wish)))
    assert (outcome.result, len(bad.requests), here.waits) == (Result.FAILED, 1, [])


def test_pauses_grow(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.status(503)), backoff_s=0.001, retries=4)
    assert [1 <= wait.pause_s / (0.0005 * 2**number) <= 2 for number, wait in enumerate(here.waits)] == [True] * 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 451, 501])
def test_a_final_answer_is_not_requested_again(here: Here, bad: BadServer, status: int) -> None:
    outcome = here.fetch(bad.script("/a", answers.status(status, body=b"an error page")))
    assert (outcome.result, len(bad.requests), here.files) == (Result.FAILED, 1, [])


def test_a_file_that_appears_later_is_fetched_then(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.status(404), answers.whole(BODY))
    assert [here.fetch(url).result for _ in range(2)] == [Result.FAILED, Result.NEW]


def test_a_file_that_disappears_keeps_its_record(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), answers.status(404))
    here.fetch(url)
    assert (here.fetch(url).result, here.body()) == (Result.FAILED, BODY)


def test_an_answer_that_fails_leaves_the_part(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.status(403), answers.whole(BODY, ETAG))
    here.fetch(url)
    here.fetch(url)
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [answers.reset(), answers.hangs_up()], ids=["reset", "hung up"])
def test_a_connection_without_an_answer_is_retried(here: Here, bad: BadServer, broken: Step) -> None:
    assert here.fetch(bad.script("/a", broken, answers.whole(BODY))).result is Result.NEW


@pytest.mark.parametrize("broken", [answers.reset(), answers.hangs_up()], ids=["reset", "hung up"])
def test_connections_without_answers_fail_in_the_end(here: Here, bad: BadServer, broken: Step) -> None:
    outcome = here.fetch(bad.script("/a", broken), retries=2)
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 3)


def test_a_refused_connection_is_retried_and_fails(here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = here.fetch(f"http://127.0.0.1:{port}/a", retries=2)
    assert (outcome.result, len(here.waits)) == (Result.FAILED, 2)
    assert outcome.error is not None
    assert "refused" in outcome.error


def test_an_unknown_host_name_fails_and_is_reported(here: Here) -> None:
    error = here.fetch("http://nowhere.invalid/a", retries=0).error
    assert error is not None
    assert "name cannot be resolved" in error


def test_a_server_that_never_answers_fails_after_the_time_for_reading(here: Here, bad: BadServer) -> None:
    error = here.fetch(bad.script("/a", answers.never_answers()), timeout_read_s=0.1, retries=1).error
    assert error is not None
    assert "timeout_read_s" in error


def test_a_body_that_stalls_is_resumed(here: Here, bad: BadServer) -> None:
    still = answers.slow(BODY, 400, threading.Event(), ETAG)
    here.fetch(bad.script("/a", still, answers.whole(BODY, ETAG)), timeout_read_s=0.2)
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_a_body_that_drips_is_read_to_its_end(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.drip(BODY[:20], 0.02)), timeout_read_s=5.0)
    assert here.body() == BODY[:20]


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\0" * 100,
        b"\xff" * 70_000,
    ],
    ids=["nothing", "a line", "no status", "another protocol", "no number", "zeros", "one line"],
)
def test_an_answer_that_is_not_http_fails_the_source_and_not_the_run(here: Here, bad: BadServer, noise: bytes) -> None:
    def step(exchange: Exchange) -> None:
        exchange.frame(noise)
        exchange.hang_up()

    assert here.fetch(bad.script("/a", step), retries=1).result is Result.FAILED


def test_headers_that_are_too_long_fail(here: Here, bad: BadServer) -> None:
    assert here.fetch(bad.script("/a", answers.oversized_headers()), retries=1).result is Result.FAILED


def test_too_many_headers_fail(here: Here, bad: BadServer) -> None:
    many = {f"X-{number}": "x" for number in range(500)}
    assert here.fetch(bad.script("/a", answers.exactly(200, many, BODY)), retries=1).result is Result.FAILED


def test_a_chunk_without_a_length_fails(here: Here, bad: BadServer) -> None:
    def step(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked"})
        exchange.frame(b"zz\r\n")
        exchange.hang_up()

    outcome = here.fetch(bad.script("/a", step), retries=1)
    assert (outcome.result, len(here.manifest.records)) == (Result.FAILED, 0)


def test_a_long_etag_is_kept(here: Here, bad: BadServer) -> None:
    etag = f'"{"e" * 60_000}"'
    here.fetch(bad.script("/a", answers.whole(BODY, etag)))
    assert here.record().etag == etag


# -- encodings ---------------------------------------------------------------------------------------------------------


def test_an_unrequested_encoding_is_stored_as_sent_with_decode_false(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.unasked_encoding(BODY, ETAG)), decode=False)
    assert here.body() == gzip.compress(BODY, mtime=0)


def test_an_unrequested_encoding_is_logged_as_a_warning(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture
) -> None:
    here.fetch(bad.script("/a", answers.unasked_encoding(BODY, ETAG)))
    assert [record.levelname for record in caplog.records if "compressed (gzip)" in record.getMessage()] == ["WARNING"]


def test_an_encoded_body_that_is_cut_is_resumed(here: Here, bad: BadServer) -> None:
    zipped = gzip.compress(BODY, mtime=0)
    told = {"Content-Encoding": "gzip", "ETag": ETAG, "Content-Length": str(len(zipped))}
    whole = answers.whole(zipped, ETAG, headers={"Content-Encoding": "gzip"})
    here.fetch(bad.script("/a", answers.exactly(200, told, zipped[:100]), whole))
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(zipped))
