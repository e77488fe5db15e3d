"""One source on a server that misbehaves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Progress, Result
from support import answers

if TYPE_CHECKING:
    from extract.running import Here
    from support.badserver import BadServer

BODY = pattern(100_000)
ETAG = '"one"'


@pytest.mark.parametrize("cut", [0, 1, *range(10_000, 100_000, 10_000), 99_999])
def test_what_is_cut_is_gone_on_with(here: Here, bad: BadServer, cut: int) -> None:
    url = bad.script("/a", answers.cut_at(cut, BODY, ETAG), answers.whole(BODY, ETAG))
    assert here.fetch(url).result is Result.NEW
    assert here.body() == BODY
    assert bad.bodies["/a"] == len(BODY)


def test_a_rest_is_asked_for_by_range_and_etag(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(5000, BODY, ETAG), answers.whole(BODY, ETAG)))
    headers = {name.lower(): value for name, value in bad.asked("/a")[1].headers.items()}
    assert (headers["range"], headers["if-range"]) == ("bytes=5000-", ETAG)


def test_many_cuts_in_one_body_need_no_more_retries_than_one(here: Here, bad: BadServer) -> None:
    body = pattern(12 << 20)
    url = bad.script("/a", *[answers.cut_at(2 << 20, body, ETAG)] * 5, answers.whole(body, ETAG))
    assert here.fetch(url, retries=1).result is Result.NEW


def test_a_server_that_always_cuts_and_gives_nothing_to_go_on_with_is_given_up(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(2 << 20, pattern(3 << 20)))
    assert here.fetch(url, retries=2).result is Result.FAILED
    assert len(bad.asked("/a")) <= 5


def test_the_next_run_goes_on_where_this_one_failed(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(60_000, BODY, ETAG), answers.status(404), answers.whole(BODY, ETAG))
    assert here.fetch(url).result is Result.FAILED
    assert here.fetch(url).bytes_fetched == 40_000


def test_content_that_changes_in_the_middle_is_begun_anew(here: Here, bad: BadServer) -> None:
    other = pattern(90_000, seed=1)
    here.fetch(bad.script("/a", answers.cut_at(50_000, BODY, ETAG), answers.whole(other, '"two"')))
    assert here.body() == other


def test_a_weak_etag_is_nothing_to_go_on_with(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(50_000, BODY, 'W/"w"'), answers.weak(BODY, 'W/"w"')))
    assert "range" not in {name.lower() for name in bad.asked("/a")[1].headers}
    assert here.body() == BODY


def test_a_weak_etag_is_kept_and_asked_with_as_it_came(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.weak(BODY, 'W/"w"'))
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED
    assert here.record().etag == 'W/"w"'


def test_last_modified_alone_is_asked_with(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, last_modified="Tue, 14 Nov 2023 22:13:20 GMT"))
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


@pytest.mark.parametrize("said", [len(BODY) + 1, 2 * len(BODY)])
def test_less_than_was_said_is_no_content(here: Here, bad: BadServer, said: int) -> None:
    url = bad.script("/a", answers.wrong_length(BODY, said))
    assert here.fetch(url, retries=1, timeout_read_s=2.0).result is Result.FAILED
    assert len(here.manifest) == 0


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_is_busy_is_asked_again_when_it_wants(here: Here, bad: BadServer, code: int) -> None:
    url = bad.script("/a", answers.status(code, retry_after=1), answers.whole(BODY))
    assert here.fetch(url).result is Result.NEW
    assert [wait.pause_s for wait in here.waits] == [1.0]


def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.status(503, retry_after=10_000)))
    assert "10000 s" in (outcome.error or "")
    assert here.waits == []


def test_retries_end(here: Here, bad: BadServer) -> None:
    assert here.fetch(bad.script("/a", answers.status(500)), retries=2).result is Result.FAILED
    assert len(bad.asked("/a")) == 3


def test_a_new_etag_on_every_request_is_refreshed_and_kept_once(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.etag_of_its_own(BODY))
    results = [here.fetch(url).result for _ in range(3)]
    assert results == [Result.NEW, Result.REFRESHED, Result.REFRESHED]
    assert here.files == ["systems/a"]


def test_without_validators_the_same_content_is_unchanged(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.no_validators(BODY))
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED
    assert here.files == ["systems/a"]


def test_a_redirect_is_followed(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    here.fetch(bad.script("/a", answers.redirect("/b")))
    assert here.body() == BODY


def test_a_redirect_loop_fails_at_once(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.redirect_loop()), redirects_max=4)
    assert "4 redirects" in (outcome.error or "")
    assert here.waits == []


def test_headers_of_a_source_do_not_follow_to_another_server(here: Here, bad: BadServer) -> None:
    from support.badserver import misbehaving

    with misbehaving() as other:
        target = other.script("/b", answers.whole(BODY))
        url = bad.script("/a", answers.redirect(target))
        here.one(source(url, headers={"X-Key": "very-secret", "Authorization": "Bearer very-secret"}))
        (asked,) = other.asked("/b")
    assert "very-secret" not in str(asked.headers)
    assert "very-secret" in str(bad.asked("/a")[0].headers)


def test_404_fails_and_the_next_run_fetches(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.status(404), answers.whole(BODY))
    assert here.fetch(url).result is Result.FAILED
    assert here.fetch(url).result is Result.NEW


def test_a_server_that_never_answers_is_given_up(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.never_answers()), retries=0, timeout_read_s=0.2)
    assert "timeout_read_s" in (outcome.error or "")


def test_a_refused_connection_is_said(here: Here) -> None:
    outcome = here.fetch("http://127.0.0.1:1/a", retries=0)
    assert "refused" in (outcome.error or "")


@pytest.mark.parametrize(
    "step",
    [answers.reset(), answers.hangs_up(), answers.reset_at(50_000, BODY, ETAG), answers.chunked_cut(BODY, 50_000)],
    ids=["reset", "hangs up", "reset in the middle", "chunks that end"],
)
def test_a_broken_connection_is_tried_again(here: Here, bad: BadServer, step: object) -> None:
    here.fetch(bad.script("/a", step, answers.whole(BODY, ETAG)))  # type: ignore[arg-type]
    assert here.body() == BODY


def test_chunks_are_a_body(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.chunked(BODY)))
    assert here.body() == BODY


def test_a_rest_of_something_else_is_not_put_behind_the_beginning(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(50_000, BODY, ETAG), answers.wrong_range(BODY, 7), answers.whole(BODY, ETAG))
    here.fetch(url)
    assert here.body() == BODY


def test_a_server_that_ignores_ranges_sends_all_of_it(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.cut_at(50_000, BODY, ETAG), answers.ignores_range(BODY, ETAG)))
    assert here.body() == BODY


def test_an_encoding_that_nobody_asked_for_is_stored_as_it_came(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture
) -> None:
    here.fetch(bad.script("/a", answers.unasked_encoding(BODY)))
    assert here.body()[:2] == b"\x1f\x8b"
    assert "encoded as gzip" in caplog.text


def test_headers_without_end_are_a_failure(here: Here, bad: BadServer) -> None:
    assert here.fetch(bad.script("/a", answers.oversized_headers()), retries=0).result is Result.FAILED


def test_an_empty_body_is_no_record(here: Here, bad: BadServer) -> None:
    assert "empty" in (here.fetch(bad.script("/a", answers.whole(b""))).error or "")
    assert (len(here.manifest), here.files) == (0, [])


def test_one_byte_a_second_can_be_stopped_and_is_kept(here: Here, bad: BadServer) -> None:
    """Asked to stop while a body drips: what has come is kept, and the next run goes on with it."""
    from manifestlog.extract.claims import Claims
    from manifestlog.extract.download import extract
    from manifestlog.extract.stopping import StopAskedError

    go_on = threading.Event()
    url = bad.script("/a", answers.slow(BODY, 1000, go_on, ETAG), answers.whole(BODY, ETAG))
    with Claims(here.data_dir) as claims:
        desk = here.desk(claims)

        def tell(event: object) -> None:
            if isinstance(event, Progress):
                desk.stop.asked = True

        stopped = here.desk(claims, stop=desk.stop)
        object.__setattr__(stopped, "tell", tell)
        with pytest.raises(StopAskedError):
            extract(stopped, source(url, source_id="a", dataset="systems"))
    go_on.set()
    assert here.part.stat().st_size > 0
    assert here.fetch(url).result is Result.NEW
    assert here.body() == BODY


def test_a_pinned_content_that_is_another_is_set_aside(here: Here, bad: BadServer) -> None:
    outcome = here.one(source(bad.script("/a", answers.whole(BODY)), checksum="ab" * 32))
    assert outcome.result is Result.FAILED
    assert len(here.manifest) == 0
    (rejected,) = here.files
    assert rejected.endswith(".rejected")
