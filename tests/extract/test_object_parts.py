"""Parts in an object store: what an interruption leaves at each step, and what becomes of it."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import wait_until
from extract.builders import source
from extract.running import pattern, sha256
from extract.stores import PART
from extract.test_content_encoding import encoded
from extract.test_stop_one import stopped
from manifestlog.extract import Result
from manifestlog.extract.part_state import PartState
from manifestlog.extract.paths import SourcePaths, part_state_path
from support import answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extract.stores import There
    from manifestlog.extract import ETLSource
    from support.badserver import BadServer

SMALL = pattern(1000)
LARGE = pattern(2 * PART + 1000)
ETAG = '"one"'
BOTH = pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])


def key(path: object) -> str:
    """The key of a URL in the folder of a test."""
    return f"raw/{str(path).partition('/raw/')[2]}"


def leave(there: There, one: ETLSource, body: bytes | None, state: PartState | None = None) -> SourcePaths:
    """Put a part, as a killed run leaves it."""
    paths = SourcePaths.of(there.data_dir, one)
    if body is not None:
        there.bucket.put(key(paths.part), body)
    if state is not None:
        there.bucket.put(key(part_state_path(paths.part)), state.as_text().encode())
    return paths


def intent(there: There, one: ETLSource, body: bytes) -> PartState:
    target = SourcePaths.of(there.data_dir, one).target
    return PartState(ETAG).complete(sha256(body), target, datetime.now(UTC).isoformat())


# -- a crash at each step ----------------------------------------------------------------------------------------------


@pytest.fixture
def one(bad: BadServer) -> ETLSource:
    return source(bad.script("/a", answers.whole(LARGE, ETAG)), source_id="a", dataset="systems")


def test_a_part_without_a_state_is_fetched_again(there: There, one: ETLSource) -> None:
    leave(there, one, LARGE)
    assert (there.one(one).bytes_fetched, there.files) == (len(LARGE), ["systems/a"])


def test_a_part_with_an_intent_is_published_without_a_request(there: There, one: ETLSource, bad: BadServer) -> None:
    leave(there, one, LARGE, intent(there, one, LARGE))
    there.one(one)
    assert (there.body(), there.files) == (LARGE, ["systems/a"])
    assert [request.headers.get("if-none-match") for request in bad.requests] == [ETAG]


def test_an_object_that_was_published_is_registered(there: There, one: ETLSource) -> None:
    paths = leave(there, one, LARGE, intent(there, one, LARGE))
    there.bucket.put(key(paths.target), LARGE)
    assert (there.one(one).bytes_fetched, there.files) == (0, ["systems/a"])


def test_an_object_whose_part_is_gone_is_registered(there: There, one: ETLSource) -> None:
    paths = leave(there, one, None, intent(there, one, LARGE))
    there.bucket.put(key(paths.target), LARGE)
    assert (there.one(one).bytes_fetched, there.files) == (0, ["systems/a"])


def test_a_part_that_differs_from_its_intent_is_fetched_again(there: There, one: ETLSource) -> None:
    leave(there, one, LARGE[:-1] + b"x", intent(there, one, LARGE))
    assert (there.one(one).bytes_fetched, there.body()) == (len(LARGE), LARGE)


def test_a_state_without_a_part_is_deleted(there: There, one: ETLSource) -> None:
    leave(there, one, None, intent(there, one, LARGE))
    there.one(one)
    assert there.files == ["systems/a"]


def test_an_invalid_state_is_no_state(there: There, one: ETLSource) -> None:
    paths = leave(there, one, LARGE)
    there.bucket.put(key(part_state_path(paths.part)), b"{")
    assert (there.one(one).bytes_fetched, there.files) == (len(LARGE), ["systems/a"])


def test_an_old_state_never_describes_new_bytes(there: There, bad: BadServer) -> None:
    """The server has other content, whose first bytes are kept too; then it has the old content again."""
    new = pattern(len(LARGE), 1)
    url = bad.script(
        "/a",
        answers.cut_at(PART + 10, LARGE, ETAG),
        answers.cut_at(2 * PART, new, '"two"'),
        answers.whole(LARGE, ETAG),
    )
    for _ in range(3):
        there.fetch(url, retries=0)
    assert there.body() == LARGE


# -- interrupted -------------------------------------------------------------------------------------------------------


@BOTH
def test_what_came_before_a_cut_is_kept(there: There, bad: BadServer, body: bytes) -> None:
    there.fetch(bad.script("/a", answers.cut_at(len(body) - 10, body, ETAG)), retries=0)
    part, state = there.bucket.keys
    assert (there.bucket.get(part), json.loads(there.bucket.get(state))["etag"]) == (body[:-10], ETAG)


@BOTH
def test_a_download_that_is_cut_often_is_resumed_each_time(there: There, bad: BadServer, body: bytes) -> None:
    cuts = [answers.cut_at(len(body) // 4 * (number + 1), body, ETAG) for number in range(1)]
    url = bad.script("/a", *cuts, rest_cut_at(body, len(body) // 2), answers.whole(body, ETAG))
    outcome = there.fetch(url)
    assert (outcome.error, outcome.bytes_fetched, there.body()) == (None, len(body), body)


def rest_cut_at(body: bytes, end: int) -> Any:
    """The right answer to a range, cut at this byte of the content."""

    def step(exchange: Any) -> None:
        reply = answers.right_reply(exchange.request, answers.Content(body, ETAG))
        start = len(body) - len(reply.payload)
        exchange.head(reply.status, reply.headers)
        exchange.body(reply.payload[: end - start])
        exchange.reset()

    return step


def test_a_stopped_download_is_resumed(there: There, bad: BadServer) -> None:
    go_on = threading.Event()
    one = source(bad.script("/a", answers.slow(LARGE, PART + 1000, go_on, ETAG), answers.whole(LARGE, ETAG)))
    stopped(there, one, lambda: there.bucket.uploads)
    outcome = there.one(one)
    assert (outcome.result, there.body(one.source_id, one.dataset)) == (Result.NEW, LARGE)
    assert outcome.bytes_fetched < len(LARGE)


def test_an_upload_that_somebody_has_ended_fails_its_source_alone(there: There, bad: BadServer) -> None:
    go_on = threading.Event()

    def end_it() -> None:
        wait_until(lambda: there.bucket.uploads)
        there.bucket.abort(there.bucket.uploads[0])
        go_on.set()

    url = bad.script("/a", answers.slow(LARGE, PART + (1 << 20), go_on, ETAG), answers.whole(LARGE, ETAG))
    other = source(bad.script("/b", answers.whole(SMALL)), source_id="b", dataset="systems")
    ending = threading.Thread(target=end_it)
    ending.start()
    report = there.run(source(url, source_id="a", dataset="systems"), other)
    ending.join()
    (failure,) = report.failures
    assert (failure.error or "").endswith(".part: another process has ended this upload: run again")
    assert there.fetch(url).result is Result.NEW


# -- encoded -----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_is_decoded(there: There, bad: BadServer, body: bytes, encoding: str, encode: Any) -> None:
    there.fetch(bad.script("/api.json", encoded(encode(body), encoding)))
    assert (there.body(), there.files) == (body, ["systems/api.json"])


def test_a_small_body_may_be_large_when_it_is_decoded(there: There, bad: BadServer) -> None:
    body = bytes(2 * PART)
    there.fetch(bad.script("/api.json", encoded(gzip.compress(body))))
    assert (there.body(), there.files) == (body, ["systems/api.json"])


@BOTH
def test_a_body_that_is_not_encoded_as_it_says_is_refused(there: There, bad: BadServer, body: bytes) -> None:
    outcome = there.fetch(bad.script("/api.json", encoded(body)))
    assert ("does not match its Content-Encoding" in (outcome.error or ""), there.files) == (True, [])


# -- rejected ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_rejected_body_is_kept_apart(there: There, bad: BadServer, body: bytes) -> None:
    outcome = there.fetch(bad.script("/a.json", answers.whole(body)), bytes_max=999)
    (rejected,) = there.bucket.keys
    assert (there.bucket.get(rejected), rejected.endswith(".rejected")) == (body, True)
    assert (outcome.error or "").startswith(f"{there.bucket.url}/{rejected}: the download was rejected")


@BOTH
def test_a_body_that_differs_from_its_pin_is_kept_apart(there: There, bad: BadServer, body: bytes) -> None:
    one = source(bad.script("/a.json", answers.whole(body)), checksum="ab" * 32)
    assert "the configuration pins" in (there.one(one).error or "")
    assert [name.rpartition(".")[2] for name in there.files] == ["rejected"]


@BOTH
def test_expectations_see_both_ends_of_a_body(there: There, bad: BadServer, body: bytes) -> None:
    whole = b"PAR1" + body + b"PAR1"
    there.fetch(bad.script("/a.parquet", answers.whole(whole)), starts_with="parquet")
    assert there.body() == whole


def test_a_page_in_place_of_data_gives_a_warning(there: There, bad: BadServer) -> None:
    page = answers.whole(b"<html>down</html>", headers={"Content-Type": "text/html"})
    url = bad.script("/api", answers.whole(SMALL), page)
    there.fetch(url)
    assert "the previous content was not HTML" in (there.fetch(url).warning or "")


def test_notes_of_freshness_are_kept_in_the_store(there: There, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(SMALL, ETAG))
    there.fetch(url, stale_after="1d")
    assert there.files == [".parts/.manifestlog.seen", "systems/a"]


@pytest.fixture(autouse=True)
def _restored(there: There) -> Iterator[None]:
    """Every test here leaves no upload behind."""
    yield
    assert there.bucket.uploads == []
