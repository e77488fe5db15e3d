"""Connections that are kept: reused by any source and any thread, and replaced when the server has closed them."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Defaults, FetchRequest, Result, plan_all
from manifestlog.extract.fetchers.http import HttpFetcher
from support import answers
from support.badserver import misbehaving
from support.certificates import Authority
from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from extract.running import Here
    from support.badserver import BadServer, Exchange, Step

BODY = pattern(1000)
OTHER = pattern(900, 1)


class Connections:
    """Steps that note which connection each request came on, by the client's port."""

    def __init__(self) -> None:
        self.of: list[int] = []

    def whole(self, body: bytes) -> Step:
        def step(exchange: Exchange) -> None:
            self.of.append(port_of(exchange))
            answers.whole(body)(exchange)

        return step


def port_of(exchange: Exchange) -> int:
    port: int = exchange._connection.getpeername()[1]
    return port


def then_closes(step: Step) -> Step:
    """Answer, and close the connection without announcing it."""

    def both(exchange: Exchange) -> None:
        step(exchange)
        exchange.hang_up()

    return both


def begins_and_closes(exchange: Exchange) -> None:
    """End the connection in the middle of the status line."""
    exchange.frame(b"HTTP/1.1 2")
    exchange.hang_up()


def begins_and_resets(exchange: Exchange) -> None:
    exchange.frame(b"HTTP/1.1 2")
    exchange.reset()


def two(here: Here, bad: BadServer, *steps: Step, **more: object) -> list[Result]:
    """Fetch a source and, on the connection that it leaves, another one that takes these steps."""
    first = source(bad.script("/a", answers.whole(BODY)), source_id="a")
    second = source(bad.script("/b", *steps), source_id="b", **more)
    return [outcome.result for outcome in here.run(first, second).outcomes]


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[BadServer, str]]:
    """A server that speaks TLS, and the file of its authority."""
    authority = Authority.make(tmp_path / "authority")
    with misbehaving(authority.context()) as server:
        yield server, str(authority.ca)


# -- reuse -------------------------------------------------------------------------------------------------------------


def test_sources_of_a_server_share_a_connection(here: Here, bad: BadServer) -> None:
    seen = Connections()
    sources = [source(bad.script(f"/{n}", seen.whole(pattern(100, n))), source_id=str(n)) for n in range(5)]
    here.run(*sources)
    assert (len(seen.of), len(set(seen.of))) == (5, 1)


def test_a_redirect_without_a_body_leaves_its_connection_to_the_target(here: Here, bad: BadServer) -> None:
    seen = Connections()
    bad.script("/b", seen.whole(BODY))

    def redirect(exchange: Exchange) -> None:
        seen.of.append(port_of(exchange))
        exchange.head(302, {"Location": "/b", "Content-Length": "0"})

    here.fetch(bad.script("/a", redirect))
    assert (len(seen.of), len(set(seen.of))) == (2, 1)


def test_threads_share_a_fetcher_and_get_each_their_own_body(bad: BadServer) -> None:
    seen, bodies = Connections(), {f"/{number}": pattern(500, number) for number in range(64)}
    fetcher, waiting = HttpFetcher(Defaults()), [bad.script(path, seen.whole(body)) for path, body in bodies.items()]
    got: dict[str, bytes] = {}

    def work() -> None:
        with suppress(IndexError):
            while url := waiting.pop():
                got[url.removeprefix(bad.url)] = read(fetcher, url)

    in_threads(16, work)
    assert got == bodies
    assert len(set(seen.of)) <= 16


def in_threads(number: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- closed meanwhile --------------------------------------------------------------------------------------------------


def test_a_connection_that_was_closed_while_idle_is_no_failed_attempt(here: Here, bad: BadServer) -> None:
    first = source(bad.script("/a", then_closes(answers.whole(BODY))), source_id="a")
    second = source(bad.script("/b", answers.whole(OTHER)), source_id="b")
    assert [outcome.result for outcome in here.run(first, second).outcomes] == [Result.NEW, Result.NEW]
    assert here.waits == []


@pytest.mark.parametrize("end", [answers.hangs_up(), answers.reset()], ids=["closed", "reset"])
def test_a_kept_connection_that_is_closed_instead_of_an_answer_is_no_failed_attempt(
    here: Here, bad: BadServer, end: Step
) -> None:
    assert two(here, bad, end, answers.whole(OTHER)) == [Result.NEW, Result.NEW]
    assert (len(bad.asked("/b")), here.waits) == (2, [])


def test_a_kept_connection_that_is_closed_is_no_failed_attempt_over_tls(
    here: Here, secure: tuple[BadServer, str]
) -> None:
    server, ca = secure
    first = source(server.script("/a", answers.whole(BODY)), source_id="a", ca=ca)
    second = source(server.script("/b", answers.hangs_up(), answers.whole(OTHER)), source_id="b", ca=ca)
    assert [outcome.result for outcome in here.run(first, second).outcomes] == [Result.NEW, Result.NEW]
    assert (len(server.asked("/b")), here.waits) == (2, [])


def test_a_post_is_sent_again_too(here: Here, bad: BadServer) -> None:
    """It is a query: `extract` repeats it after any failure."""
    assert two(here, bad, answers.hangs_up(), answers.whole(OTHER), method="POST", body="q=1")[1] is Result.NEW
    assert ([asked.body for asked in bad.asked("/b")], here.waits) == ([b"q=1", b"q=1"], [])


def test_a_new_connection_that_is_closed_instead_of_an_answer_is_a_failed_attempt(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.hangs_up(), answers.whole(BODY)))
    assert (len(bad.requests), len(here.waits)) == (2, 1)


@pytest.mark.parametrize("end", [begins_and_closes, begins_and_resets])
def test_a_kept_connection_that_ends_after_the_first_byte_is_a_failed_attempt(
    here: Here, bad: BadServer, end: Step
) -> None:
    two(here, bad, end, answers.whole(OTHER))
    assert (len(bad.asked("/b")), len(here.waits)) == (2, 1)


def test_all_kept_connections_may_be_closed_at_once(bad: BadServer) -> None:
    fetcher, seen, together = HttpFetcher(Defaults()), Connections(), threading.Barrier(4, timeout=PATIENCE_S)

    def waits_for_all(exchange: Exchange) -> None:
        together.wait()
        seen.whole(BODY)(exchange)

    def closes_old_ones(exchange: Exchange) -> None:
        (answers.hangs_up() if port_of(exchange) in seen.of else answers.whole(OTHER))(exchange)

    got: list[bytes] = []
    url = bad.script("/a", waits_for_all)
    in_threads(4, lambda: read(fetcher, url))
    url = bad.script("/b", closes_old_ones)
    in_threads(4, lambda: got.append(read(fetcher, url)))
    assert got == [OTHER] * 4


def read(fetcher: HttpFetcher, url: str) -> bytes:
    with fetcher.open(source(url), FetchRequest()) as response:
        return b"".join(response.blocks())


def test_a_server_that_closes_every_connection_fails_the_source(here: Here, bad: BadServer) -> None:
    assert two(here, bad, answers.hangs_up())[1] is Result.FAILED
    assert len(bad.asked("/b")) == 5  # four attempts, and one request on the kept connection


def test_a_body_that_is_left_unread_does_not_disturb_the_next_one(bad: BadServer) -> None:
    fetcher = HttpFetcher(Defaults())
    with fetcher.open(source(bad.script("/a", answers.whole(BODY))), FetchRequest()):
        pass
    assert read(fetcher, bad.script("/b", answers.whole(OTHER))) == OTHER


# -- dry runs ----------------------------------------------------------------------------------------------------------


def planned(bad: BadServer, *steps: Step) -> list[str]:
    """Plan a source and, on the connection that it leaves, another one that takes these steps."""
    urls = [bad.script("/a", answers.whole(BODY)), bad.script("/b", *steps)]
    return [found.action for found in plan_all(None, [source(url, source_id=url[-1]) for url in urls])]


@pytest.mark.parametrize("end", [answers.hangs_up(), answers.reset()], ids=["closed", "reset"])
def test_a_dry_run_asks_again_when_a_kept_connection_is_closed(bad: BadServer, end: Step) -> None:
    assert planned(bad, end, answers.whole(OTHER)) == ["fetch", "fetch"]
    assert [request.method for request in bad.asked("/b")] == ["HEAD", "HEAD"]


def test_a_dry_run_asks_again_on_a_connection_that_was_closed_while_idle(bad: BadServer) -> None:
    urls = [bad.script("/a", then_closes(answers.whole(BODY))), bad.script("/b", answers.whole(OTHER))]
    found = plan_all(None, [source(url, source_id=url[-1]) for url in urls])
    assert [one.action for one in found] == ["fetch", "fetch"]


def test_a_dry_run_asks_by_get_again_when_a_kept_connection_is_closed(bad: BadServer) -> None:
    """Where the server does not support HEAD, the GET comes on the connection of the HEAD."""
    seen: list[str] = []

    def step(exchange: Exchange) -> None:
        seen.append(exchange.request.method)
        match seen:
            case ["HEAD"]:
                answers.status(405)(exchange)
            case ["HEAD", "GET"]:
                exchange.hang_up()
            case _:
                answers.whole(OTHER)(exchange)

    found = plan_all(None, [source(bad.script("/a", step))])
    assert ([one.action for one in found], seen) == (["fetch"], ["HEAD", "GET", "GET"])


def test_a_dry_run_over_tls_asks_again_when_a_kept_connection_is_closed(secure: tuple[BadServer, str]) -> None:
    server, ca = secure
    first = source(server.script("/a", answers.whole(BODY)), source_id="a", ca=ca)
    second = source(server.script("/b", answers.hangs_up(), answers.whole(OTHER)), source_id="b", ca=ca)
    assert [found.action for found in plan_all(None, [first, second])] == ["fetch", "fetch"]
