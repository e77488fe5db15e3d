"""The dry run of one source: the result of a real run, without the body."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Defaults, Plan, plan_all
from support import answers

if TYPE_CHECKING:
    from extract.running import Here
    from support.badserver import BadServer, Exchange, Step

BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
TUESDAY = "Tue, 02 Jan 2024 00:00:00 GMT"


def plan(here: Here, url: str, **defaults: Any) -> Plan:
    (found,) = plan_all(here.manifest, [source(url, source_id="a", dataset="systems")], defaults=Defaults(**defaults))
    return found


def methods(bad: BadServer) -> list[str]:
    return [request.method for request in bad.requests]


def to_head(said: Step, then: Step) -> Step:
    """Respond to `HEAD` differently than to `GET`."""
    return lambda exchange: (said if exchange.request.method == "HEAD" else then)(exchange)


def refused(status: int, then: Step | None = None) -> Step:
    return to_head(answers.status(status), then or answers.whole(BODY, ETAG))


EMPTY = to_head(answers.exactly(200, {"Content-Length": "0", "Connection": "close"}), answers.whole(BODY, ETAG))

otherwise = pytest.mark.parametrize(
    "step", [*map(refused, (400, 403, 404, 405, 501)), EMPTY], ids=["400", "403", "404", "405", "501", "empty"]
)


@otherwise
def test_a_server_that_answers_head_otherwise_is_asked_as_a_run_would(here: Here, bad: BadServer, step: Step) -> None:
    found = plan(here, bad.script("/a", step))
    assert (found.action, found.why, found.length_bytes) == ("fetch", "it has no record", len(BODY))


@otherwise
def test_a_server_that_answers_head_otherwise_may_have_nothing_new(here: Here, bad: BadServer, step: Step) -> None:
    url = bad.script("/a", step)
    here.fetch(url)
    assert plan(here, url).action == "unchanged"


def test_the_body_is_not_read(here: Here, bad: BadServer) -> None:
    def until_gone(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(BODY))})
        exchange.body(BODY[:1])
        exchange.wait_until_gone()

    assert plan(here, bad.script("/a", refused(403, until_gone))).action == "fetch"


def test_a_server_that_answers_head_is_asked_once(here: Here, bad: BadServer) -> None:
    plan(here, bad.script("/a", answers.whole(BODY)))
    assert methods(bad) == ["HEAD"]


def test_nothing_new_is_believed_also_of_no_length(here: Here, bad: BadServer) -> None:
    url = bad.script(
        "/a", answers.whole(BODY, ETAG), answers.exactly(304, {"Content-Length": "0", "Connection": "close"})
    )
    here.fetch(url)
    assert (plan(here, url).action, methods(bad)) == ("unchanged", ["GET", "HEAD"])


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_request_that_a_run_could_not_send_fails(here: Here, bad: BadServer, status: int) -> None:
    found = plan(here, bad.script("/a", answers.status(status)))
    assert (found.action, found.why.partition(":")[0]) == ("failed", f"HTTP {status}")


def test_a_file_that_is_empty_fails(here: Here, bad: BadServer) -> None:
    found = plan(here, bad.script("/a", answers.whole(b"")))
    assert (found.action, "empty file" in found.why) == ("failed", True)


def test_an_older_file_at_another_address_would_be_fetched(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/2024-02.csv", answers.whole(BODY, last_modified=TUESDAY)))
    assert plan(here, bad.script("/2024-01.csv", answers.whole(OTHER, last_modified=MONDAY))).action == "fetch"


# -- compressed in transit ---------------------------------------------------------------------------------------------

GZIP = {"Content-Encoding": "gzip"}


def test_a_length_counts_where_the_body_is_kept_as_it_comes(here: Here, bad: BadServer) -> None:
    told = GZIP | {"ETag": ETAG, "Content-Length": str(len(OTHER)), "Connection": "close"}
    url = bad.script("/a.json", answers.whole(BODY, ETAG, headers=GZIP), answers.exactly(200, told))
    here.fetch(url, decode=False)
    assert plan(here, url, decode=False).action == "fetch"


def test_the_length_of_a_compressed_body_is_not_compared(here: Here, bad: BadServer) -> None:
    url = bad.script("/a.json", answers.whole(gzip.compress(BODY), headers=GZIP))
    here.fetch(url)
    assert plan(here, url).why == "the server sends no validator, so a change cannot be ruled out"


def test_an_unsupported_encoding_would_fail(here: Here, bad: BadServer) -> None:
    url = bad.script("/a.json", answers.whole(BODY, headers={"Content-Encoding": "br"}))
    found = plan(here, url, decode=True)
    assert (found.action, "decode = false" in found.why) == ("failed", True)
