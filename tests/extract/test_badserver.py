"""The misbehaving test server: each of its behaviours once."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from extract.http_client import ask, ask_on, connect
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from support.badserver import BadServer, Exchange, Step

BODY = b"0123456789"
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


# -- behaving well -----------------------------------------------------------------------------------------------------


def test_whole_is_a_right_answer(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.whole(BODY, '"e"', DATE, {"X-Extra": "1"})))
    assert (answer.status, answer.body, answer.error) == (200, BODY, None)
    assert answer.headers == {
        "etag": '"e"', "last-modified": DATE, "x-extra": "1", "accept-ranges": "bytes", "content-length": "10",
    }  # fmt: skip


@pytest.mark.parametrize("asked", ['"e"', 'W/"e"', '"x", "e"', "*"])
def test_whole_answers_304_to_its_etag(bad: BadServer, asked: str) -> None:
    answer = ask(bad.script("/a", answers.whole(BODY, '"e"')), if_none_match=asked)
    assert (answer.status, answer.body) == (304, b"")


def test_another_etag_is_stronger_than_the_same_date(bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, '"e"', DATE))
    assert ask(url, if_none_match='"x"', if_modified_since=DATE).status == 200


def test_whole_answers_304_to_its_date(bad: BadServer) -> None:
    assert ask(bad.script("/a", answers.whole(BODY, last_modified=DATE)), if_modified_since=DATE).status == 304


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("Mon, 01 Jan 2024 00:00:01 GMT", 304),
        ("Monday, 01-Jan-24 00:00:00 GMT", 304),
        ("Sun, 31 Dec 2023 23:59:59 GMT", 200),
        ("yesterday", 200),
        ("", 200),
    ],
)
def test_whole_answers_304_where_its_date_is_not_later(bad: BadServer, asked: str, status: int) -> None:
    url = bad.script("/a", answers.whole(BODY, last_modified=DATE))
    assert ask(url, if_modified_since=asked).status == status


def test_an_invalid_date_is_never_unchanged(bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, last_modified="yesterday"))
    assert ask(url, if_modified_since="yesterday").status == 200


def test_whole_sends_no_body_for_head(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.whole(BODY)), "HEAD")
    assert (answer.headers["content-length"], answer.body, bad.bodies["/a"]) == ("10", b"", 0)


@pytest.mark.parametrize(
    ("asked", "told", "body"),
    [
        ("bytes=3-", "bytes 3-9/10", b"3456789"),
        ("bytes=3-5", "bytes 3-5/10", b"345"),
        ("bytes=3-99", "bytes 3-9/10", b"3456789"),
        ("bytes=-4", "bytes 6-9/10", b"6789"),
    ],
)
def test_whole_sends_ranges(bad: BadServer, asked: str, told: str, body: bytes) -> None:
    answer = ask(bad.script("/a", answers.whole(BODY)), range=asked)
    assert (answer.status, answer.headers["content-range"], answer.body) == (206, told, body)


def test_a_range_after_the_end_is_416(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.whole(BODY)), range="bytes=10-")
    assert (answer.status, answer.headers["content-range"], answer.body) == (416, "bytes */10", b"")


@pytest.mark.parametrize(
    ("condition", "status"), [('"e"', 206), (DATE, 206), ('"x"', 200), ('W/"e"', 200), ("Tue, 02 Jan", 200)]
)
def test_whole_honours_if_range(bad: BadServer, condition: str, status: int) -> None:
    url = bad.script("/a", answers.whole(BODY, '"e"', DATE))
    assert ask(url, range="bytes=3-", if_range=condition).status == status


def test_a_connection_stays_for_the_next_request(bad: BadServer) -> None:
    connection = connect(bad.script("/a", answers.whole(BODY)))
    connection.connect()
    first = connection.sock
    assert [ask_on(connection, "/a").body for _ in range(3)] == [BODY] * 3
    assert connection.sock is first
    connection.close()


def test_requests_take_one_step_each_and_the_last_repeats(bad: BadServer) -> None:
    url = bad.script("/a", answers.status(404), answers.whole(BODY))
    assert [ask(url).status for _ in range(3)] == [404, 200, 200]


def test_requests_are_logged(bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY))
    ask(url, if_none_match='"x"')
    ask(url, "HEAD")
    assert [(request.method, request.path) for request in bad.requests] == [("GET", "/a"), ("HEAD", "/a")]
    assert bad.asked("/a")[0].headers["if-none-match"] == '"x"'


def test_the_bytes_of_bodies_are_counted_by_path(bad: BadServer) -> None:
    for path in ("/a", "/a", "/b"):
        ask(bad.script(path, answers.whole(BODY)))
    assert bad.bodies == Counter({"/a": 20, "/b": 10})


def test_a_path_without_a_script_is_501(bad: BadServer) -> None:
    assert ask(bad.url + "/nothing").status == 501


def _serve_a_step_that_fails() -> None:
    def fails(_exchange: Exchange) -> None:
        raise LookupError("of the test's own making")

    with misbehaving() as server, pytest.raises(http.client.RemoteDisconnected):
        ask(server.script("/a", fails))


def test_a_step_that_fails_is_raised_at_the_end() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        _serve_a_step_that_fails()
    assert [type(error) for error in raised.value.exceptions] == [LookupError]


def test_many_clients_are_answered_at_once(bad: BadServer) -> None:
    event = threading.Event()
    url = bad.script("/a", answers.slow(BODY, 1, event))
    clients = [threading.Thread(target=ask, args=(url,)) for _ in range(20)]
    for client in clients:
        client.start()
    bad.wait_until(lambda server: server.bodies["/a"] == 20)
    event.set()
    for client in clients:
        client.join()
    assert bad.bodies == Counter({"/a": 200})


# -- misbehaving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(10))
def test_cut_at_promises_all_and_sends_a_part(bad: BadServer, size: int) -> None:
    answer = ask(bad.script("/a", answers.cut_at(size, BODY, '"e"')))
    assert (answer.headers["content-length"], answer.headers["etag"], answer.body) == ("10", '"e"', BODY[:size])
    assert isinstance(answer.error, http.client.IncompleteRead)


def test_cut_at_cuts_ranges_too(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.cut_at(2, BODY, '"e"')), range="bytes=3-", if_range='"e"')
    assert (answer.status, answer.headers["content-length"], answer.body) == (206, "7", b"34")


def test_a_length_too_large_leaves_the_client_waiting_for_more(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.wrong_length(BODY, 12)))
    assert (answer.body, type(answer.error)) == (BODY, http.client.IncompleteRead)


def test_a_length_too_small_hides_the_rest(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.wrong_length(BODY, 8)))
    assert (answer.body, answer.error, bad.bodies["/a"]) == (BODY[:8], None, 10)


@pytest.mark.parametrize("code", [404, 416, 429, 500, 503])
def test_status_is_any_status(bad: BadServer, code: int) -> None:
    answer = ask(bad.script("/a", answers.status(code, retry_after=7, body=b"sorry")))
    assert (answer.status, answer.headers["retry-after"], answer.body) == (code, "7", b"sorry")


def test_status_without_retry_after_has_none(bad: BadServer) -> None:
    assert "retry-after" not in ask(bad.script("/a", answers.status(503))).headers


def test_etag_of_its_own_is_another_one_each_time(bad: BadServer) -> None:
    url = bad.script("/a", answers.etag_of_its_own(BODY))
    first = ask(url)
    second = ask(url, if_none_match=first.headers["etag"])
    assert (first.body, second.body, second.status) == (BODY, BODY, 200)


def test_no_validators_has_none(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.no_validators(BODY)))
    assert {"etag", "last-modified"} & set(answer.headers) == set()


def test_a_weak_etag_is_good_for_asking_but_not_for_ranges(bad: BadServer) -> None:
    url = bad.script("/a", answers.weak(BODY, '"e"'))
    assert ask(url).headers["etag"] == 'W/"e"'
    assert ask(url, if_none_match='W/"e"').status == 304
    assert ask(url, range="bytes=3-", if_range='W/"e"').status == 200


def test_a_redirect_says_where_to(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.redirect("/b", 308)))
    assert (answer.status, answer.headers["location"]) == (308, "/b")


def test_a_redirect_loop_leads_back(bad: BadServer) -> None:
    assert ask(bad.script("/a", answers.redirect_loop())).headers["location"] == "/a"


def test_slow_waits_for_the_test(bad: BadServer) -> None:
    event = threading.Event()
    url = bad.script("/a", answers.slow(BODY, 3, event))
    connection = connect(url)
    connection.request("GET", "/a")
    with connection.getresponse() as response:
        assert response.read(3) == BODY[:3]
        assert bad.bodies["/a"] == 3
        event.set()
        assert response.read() == BODY[3:]
    connection.close()


def test_slow_to_answer_waits_before_its_first_byte(bad: BadServer) -> None:
    event = threading.Event()
    connection = connect(bad.script("/a", answers.slow_to_answer(BODY, event)))
    connection.request("GET", "/a")
    bad.wait_until(lambda server: server.asked("/a"))
    event.set()
    with connection.getresponse() as response:
        assert response.read() == BODY
    connection.close()


def test_drip_sends_everything_in_the_end(bad: BadServer) -> None:
    assert ask(bad.script("/a", answers.drip(BODY, 0.001))).body == BODY


def test_ignores_range_sends_the_whole(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.ignores_range(BODY, '"e"')), range="bytes=3-", if_range='"e"')
    assert (answer.status, answer.body) == (200, BODY)


def test_wrong_range_sends_another_one_than_asked(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.wrong_range(BODY, 1)), range="bytes=3-")
    assert (answer.status, answer.headers["content-range"], answer.body) == (206, "bytes 1-9/10", BODY[1:])


def test_unasked_encoding_says_gzip(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.unasked_encoding(BODY)))
    assert (answer.headers["content-encoding"], answer.body[:2]) == ("gzip", b"\x1f\x8b")


def test_chunked_has_no_length(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.chunked(BODY)))
    assert ("content-length" in answer.headers, answer.body, answer.error) == (False, BODY, None)


def test_a_connection_stays_after_chunks(bad: BadServer) -> None:
    connection = connect(bad.script("/a", answers.chunked(BODY)))
    assert [ask_on(connection, "/a").body for _ in range(3)] == [BODY] * 3
    connection.close()


def test_chunked_answers_304_to_its_etag(bad: BadServer) -> None:
    assert ask(bad.script("/a", answers.chunked(BODY, '"e"')), if_none_match='"e"').status == 304


def test_chunked_cut_lacks_the_last_chunk(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.chunked_cut(BODY, 6)))
    assert (answer.body, type(answer.error)) == (BODY[:6], http.client.IncompleteRead)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reset_ends_without_an_answer(bad: BadServer, method: str) -> None:
    with pytest.raises(ConnectionResetError, match="reset by peer"):
        ask(bad.script("/a", answers.reset()), method)


def test_reset_at_ends_in_the_middle(bad: BadServer) -> None:
    answer = ask(bad.script("/a", answers.reset_at(4, BODY)))
    assert (answer.body, type(answer.error)) == (BODY[:4], ConnectionResetError)


def test_hangs_up_ends_without_an_answer(bad: BadServer) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        ask(bad.script("/a", answers.hangs_up()))


def test_never_answers_waits_for_the_client_to_leave(bad: BadServer) -> None:
    connection = connect(bad.script("/a", answers.never_answers()))
    connection.request("GET", "/a")
    bad.wait_until(lambda server: server.asked("/a"))
    assert connection.sock is not None
    connection.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    "step",
    [answers.never_answers(), answers.drip(BODY, 3600), answers.slow(BODY, 0, threading.Event())],
    ids=["never_answers", "drip", "slow"],
)
def test_leaving_ends_an_answer_that_hangs(step: Step) -> None:
    with misbehaving() as server:
        connection = connect(server.script("/a", step))
        connection.request("GET", "/a")
        server.wait_until(lambda found: found.asked("/a"))
    connection.close()


def test_oversized_headers_are_more_than_a_client_takes(bad: BadServer) -> None:
    with pytest.raises(http.client.LineTooLong):
        ask(bad.script("/a", answers.oversized_headers()))


def test_changing_content_is_not_resumed(bad: BadServer) -> None:
    url = bad.script("/a", answers.changing(b"first", b"second"))
    first = ask(url)
    second = ask(url, range="bytes=3-", if_range=first.headers["etag"])
    assert (first.body, second.status, second.body) == (b"first", 200, b"second")


def test_changing_content_stays_with_the_last(bad: BadServer) -> None:
    url = bad.script("/a", answers.changing(b"first", b"second"))
    assert [ask(url).body for _ in range(3)] == [b"first", b"second", b"second"]
