"""A large body over several connections at once (`segments`): from servers that give ranges, and from those that misbehave."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import finish, wait_until
from extract.builders import source
from extract.running import pattern, sha256
from extract.runs import counts, entry
from manifestlog.extract import Progress, Result, ranges, receive_ranges
from manifestlog.extract.part_file import PartFile
from manifestlog.extract.paths import SourcePaths
from support import answers
from support.children import PATIENCE_S

if TYPE_CHECKING:
    from extract.running import Here
    from extract.runs import Home
    from manifestlog.extract import Outcome
    from support.badserver import BadServer, Exchange, Request, Step

BODY, OTHER = pattern(40_000), pattern(40_000, 1)
LARGE = pattern(6 << 20, 2)
"""Large enough for three ranges without a change of the minimum."""
FEW = 500


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide bodies of some kB, and open a connection again soon after one has failed."""
    monkeypatch.setattr(ranges, "RANGE_BYTES_MIN", 1000)
    monkeypatch.setattr(receive_ranges, "_BACKOFF_MIN_S", 0.02)


def is_range(request: Request) -> bool:
    """Return whether a request asks for a range that ends before the body does, as only a further connection does."""
    return not request.headers.get("range", "-").endswith("-")


def span(text: str) -> tuple[int, int]:
    first, last = text.removeprefix("bytes=").split("-")
    return int(first), int(last) + 1


def asked_ranges(bad: BadServer) -> list[str]:
    return [request.headers["range"] for request in bad.requests if is_range(request)]


class Server:
    """Answers the first request slowly: the rest of its body comes when so many requests for ranges are answered."""

    def __init__(self, until: int, body: bytes = BODY, etag: str = '"a"', few: int = FEW) -> None:
        self.body, self.etag, self.few = body, etag, few
        self.now = self.most = 0
        self._until = until
        self._answered = 0
        self._lock = threading.Lock()
        self.enough = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.answer(exchange)
        finally:
            with self._lock:
                self.now -= 1

    def answer(self, exchange: Exchange) -> None:
        if not is_range(exchange.request):
            answers.slow(self.body, self.few, self.enough, self.etag)(exchange)
            return
        self.answer_range(exchange)
        with self._lock:
            self._answered += 1
            if self._answered >= self._until:
                self.enough.set()

    def answer_range(self, exchange: Exchange) -> None:
        answers.whole(self.body, self.etag)(exchange)


class Instead(Server):
    """Answers requests for ranges by this step."""

    def __init__(self, step: Step, until: int = 1) -> None:
        super().__init__(until)
        self._step = step

    def answer_range(self, exchange: Exchange) -> None:
        self._step(exchange)


def fetch(here: Here, url: str, **defaults: Any) -> Outcome:
    wanted = {"segments": 4, "connections": 8} | defaults
    return here.fetch(url, **wanted)


def divided(here: Here, bad: BadServer, step: Step, **defaults: Any) -> Outcome:
    """Fetch what this step sends."""
    return fetch(here, bad.script("/a", step), **defaults)


# -- several connections -----------------------------------------------------------------------------------------------


def test_a_large_body_arrives_over_several_connections(here: Here, bad: BadServer) -> None:
    """All four are there at once: each waits for the others."""
    barrier = threading.Barrier(4, timeout=PATIENCE_S)

    def step(exchange: Exchange) -> None:
        if not is_range(exchange.request):
            exchange.head(200, {"ETag": '"a"', "Content-Length": str(len(BODY))})
            exchange.body(BODY[:FEW])
            barrier.wait()
            exchange.body(BODY[FEW:])
            return
        if len(asked_ranges(bad)) <= 3:
            barrier.wait()
        answers.whole(BODY, '"a"')(exchange)

    assert (divided(here, bad, step).result, here.body() == BODY, here.files) == (Result.NEW, True, ["systems/a"])


def test_the_hash_is_that_of_the_whole_body(here: Here, bad: BadServer) -> None:
    divided(here, bad, Server(3))
    assert here.record().checksum == sha256(BODY)


def test_a_range_is_requested_by_the_validator_of_the_content(here: Here, bad: BadServer) -> None:
    divided(here, bad, Server(3))
    assert {request.headers.get("if-range") for request in bad.requests if is_range(request)} == {'"a"'}


def test_no_byte_is_requested_twice(here: Here, bad: BadServer) -> None:
    divided(here, bad, Server(3))
    spans = sorted(map(span, asked_ranges(bad)))
    assert len(spans) >= 3
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_source_may_have_segments_of_its_own(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", Server(1))
    here.run(source(url, source_id="a", dataset="systems", segments=2), connections=8)
    assert asked_ranges(bad)


def test_progress_counts_all_connections(here: Here, bad: BadServer) -> None:
    divided(here, bad, Server(3))
    told = [event for event in here.events if isinstance(event, Progress)]
    assert {event.bytes_total for event in told} == {len(BODY)}
    assert [event.bytes_done for event in told] == sorted(event.bytes_done for event in told)


def test_workers_divide_bodies_too(home: Home, bad: BadServer) -> None:
    server = Server(1, LARGE, few=100_000)
    home.configure(entry(bad.script("/large", server)), jobs=2, connections=2, segments=3)
    assert counts(home.run()) == {"new": 1}
    home.check({"large": LARGE})
    assert asked_ranges(bad)


def in_turn(*steps: Step) -> Step:
    """Do one of these at each request; the last one repeats."""
    left = list(steps)

    def step(exchange: Exchange) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return step


# -- one connection ----------------------------------------------------------------------------------------------------


def one_connection(bad: BadServer) -> bool:
    return len(bad.requests) == 1


def test_without_segments_one_connection_fetches_all(here: Here, bad: BadServer) -> None:
    divided(here, bad, answers.whole(BODY, '"a"'), segments=1)
    assert one_connection(bad)


def test_a_small_body_is_not_divided(here: Here, bad: BadServer) -> None:
    divided(here, bad, answers.whole(BODY[:1999], '"a"'))
    assert one_connection(bad)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(answers.whole(BODY), id="no validator"),
        pytest.param(answers.weak(BODY, '"a"'), id="weak validator"),
        pytest.param(answers.chunked(BODY, '"a"'), id="no length"),
        pytest.param(answers.unasked_encoding(BODY, '"a"'), id="encoded"),
    ],
)
def test_a_body_that_cannot_be_divided_safely_is_not(here: Here, bad: BadServer, step: Step) -> None:
    assert divided(here, bad, step).result is Result.NEW
    assert one_connection(bad)


def test_the_answer_to_a_post_is_not_divided(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, '"a"'))
    here.run(source(url, source_id="a", method="POST", body="q", segments=4), connections=8)
    assert one_connection(bad)


# -- servers that misbehave --------------------------------------------------------------------------------------------


def test_a_server_that_ignores_ranges_sends_all_over_the_first_connection(here: Here, bad: BadServer) -> None:
    outcome = divided(here, bad, Instead(answers.ignores_range(BODY, '"a"')))
    assert (outcome.result, here.body() == BODY, here.waits) == (Result.NEW, True, [])


def test_a_server_that_ignores_ranges_is_not_asked_for_many(here: Here, bad: BadServer) -> None:
    divided(here, bad, Instead(answers.ignores_range(BODY, '"a"')))
    assert len(asked_ranges(bad)) <= 3


def changed_in_the_middle(here: Here, bad: BadServer, then: Step) -> Outcome:
    """Requests for ranges find other content; the next whole request does, too."""
    server = Instead(then)
    url = bad.script("/a", server)

    def later(exchange: Exchange) -> None:
        if is_range(exchange.request):
            bad.script("/a", answers.whole(OTHER, '"b"'))
            then(exchange)
            server.enough.set()
        else:
            server(exchange)

    bad.script("/a", later)
    return fetch(here, url)


def test_content_that_changes_meanwhile_is_fetched_anew(here: Here, bad: BadServer) -> None:
    assert changed_in_the_middle(here, bad, answers.whole(OTHER, '"b"')).result is Result.NEW
    assert (here.body() == OTHER, here.record().etag, len(here.waits)) == (True, '"b"', 1)


def test_ranges_of_other_content_are_not_used(here: Here, bad: BadServer) -> None:
    """A server that ignores `If-Range`."""

    def ignores_if_range(exchange: Exchange) -> None:
        exchange.request = without(exchange.request, "if-range")
        answers.whole(OTHER, '"b"')(exchange)

    changed_in_the_middle(here, bad, ignores_if_range)
    assert here.body() == OTHER


def without(request: Request, header: str) -> Request:
    return replace(request, headers={name: value for name, value in request.headers.items() if name != header})


def test_a_range_of_another_length_is_not_used(here: Here, bad: BadServer) -> None:
    changed_in_the_middle(here, bad, answers.whole(OTHER[:30_000], '"a"'))
    assert here.body() == OTHER


def test_after_a_range_of_other_content_one_connection_fetches_all(here: Here, bad: BadServer) -> None:
    """So a server whose ranges are never right delivers nevertheless."""
    divided(here, bad, Instead(answers.wrong_range(BODY, 1, '"a"')))
    assert (here.body() == BODY, len(here.waits)) == (True, 1)


def test_a_range_with_wrong_bytes_is_found_by_the_pin(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", Instead(answers.whole(BODY[:20_000] + OTHER[20_000:], '"a"'), 3))
    (outcome,) = here.run(
        source(url, source_id="a", checksum=sha256(BODY)), connections=8, segments=4, retries=0
    ).outcomes
    assert (outcome.result, "pins" in (outcome.error or ""), len(here.manifest)) == (Result.FAILED, True, 0)


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
def test_a_server_that_refuses_further_connections_delivers_over_one(here: Here, bad: BadServer, code: int) -> None:
    outcome = divided(here, bad, Instead(answers.status(code), 2))
    assert (outcome.result, here.body() == BODY, here.waits) == (Result.NEW, True, [])


def test_a_further_connection_comes_no_earlier_than_the_server_asks(here: Here, bad: BadServer) -> None:
    times: list[float] = []

    def busy(exchange: Exchange) -> None:
        times.append(time.monotonic())
        (answers.status(503, 1) if len(times) < 2 else answers.whole(BODY, '"a"'))(exchange)

    divided(here, bad, Instead(busy, 2), segments=2)
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("end", [answers.hangs_up(), answers.reset(), answers.cut_at(300, BODY, '"a"')])
def test_a_connection_that_is_cut_leaves_its_range_to_the_others(here: Here, bad: BadServer, end: Step) -> None:
    """That costs the source no attempt."""
    server = Instead(in_turn(end, end, answers.whole(BODY, '"a"')), 4)
    assert (divided(here, bad, server).result, here.body() == BODY, here.waits) == (Result.NEW, True, [])


def test_the_first_connection_may_be_cut_as_well(here: Here, bad: BadServer) -> None:
    together = threading.Barrier(2, timeout=PATIENCE_S)

    def step(exchange: Exchange) -> None:
        if is_range(exchange.request) or len(bad.requests) > 2:
            if len(bad.requests) == 2:
                together.wait()
            answers.whole(BODY, '"a"')(exchange)
            return
        exchange.head(200, {"ETag": '"a"', "Content-Length": str(len(BODY))})
        exchange.body(BODY[:FEW])
        together.wait()
        exchange.hang_up()

    assert (divided(here, bad, step, segments=2).result, here.body() == BODY) == (Result.NEW, True)


# -- resuming ----------------------------------------------------------------------------------------------------------


def all_cut(here: Here, bad: BadServer, **then: Any) -> Outcome:
    """A run whose connections are all cut after some bytes, then one that is not disturbed."""
    seen: list[str] = []

    def step(exchange: Exchange) -> None:
        seen.append(exchange.request.headers.get("range", ""))
        if not is_range(exchange.request):
            exchange.head(200, {"ETag": '"a"', "Content-Length": str(len(BODY))})
            exchange.body(BODY[:FEW])
            wait_until(lambda: len(seen) >= 4)
            exchange.hang_up()
        else:
            wait_until(lambda: len(seen) >= 4)
            answers.cut_at(2000, BODY, '"a"')(exchange)

    url = bad.script("/a", step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receive_ranges, "_BACKOFF_MIN_S", 60.0)  # no connection replaces them
        assert fetch(here, url, retries=0).result is Result.FAILED
    bad.script("/a", answers.whole(BODY, '"a"'))
    return fetch(here, url, **then)


def test_the_next_run_fetches_only_what_is_missing(here: Here, bad: BadServer) -> None:
    assert (all_cut(here, bad).result, here.body() == BODY) == (Result.NEW, True)
    first, again = asked_ranges(bad)[:3], asked_ranges(bad)[3:]
    arrived = [(start, start + 2000) for start, _ in map(span, first)]
    assert again
    assert not any(start < there_end and there < end for there, there_end in arrived for start, end in map(span, again))


def test_without_segments_the_next_run_goes_on_behind_the_first_gap(here: Here, bad: BadServer) -> None:
    outcome = all_cut(here, bad, segments=1)
    assert (outcome.bytes_fetched, here.body() == BODY) == (len(BODY) - FEW, True)


def test_what_was_received_in_order_goes_on_in_ranges(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(10_000, BODY, '"a"'))
    fetch(here, url, segments=1, retries=0)
    barrier = threading.Barrier(2, timeout=PATIENCE_S)

    def step(exchange: Exchange) -> None:
        if len(bad.requests) <= 3:
            barrier.wait()
        answers.whole(BODY, '"a"')(exchange)

    bad.script("/a", answers.slow(BODY, FEW, (server := Server(1)).enough, '"a"'))
    bad.script("/a", server)
    fetch(here, url)
    assert (here.body() == BODY, [r.headers.get("range") for r in bad.requests][1]) == (True, "bytes=10000-")


def test_other_content_in_the_next_run_starts_again(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(OTHER, '"b"'))
    all_cut_url = bad.url + "/a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receive_ranges, "_BACKOFF_MIN_S", 60.0)
        bad.script("/a", Cut())
        assert fetch(here, all_cut_url, retries=0).result is Result.FAILED
    bad.script("/a", answers.whole(OTHER, '"b"'))
    assert (fetch(here, all_cut_url).result, here.body() == OTHER) == (Result.NEW, True)


def test_a_killed_run_is_resumed(home: Home, bad: BadServer) -> None:
    """As far as it was noted."""
    stalls = Stalling(LARGE, 1_600_000)
    home.configure(entry(bad.script("/large", stalls)), jobs=1, segments=2)
    process = home.start()
    wait_until(lambda: len(noted(home)) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    missing = len(LARGE) - sum(end - start for start, end in noted(home))
    bad.script("/large", answers.whole(LARGE, '"a"'))
    result = home.run()
    home.check({"large": LARGE})
    assert result.json["bytes_fetched"] <= missing + (1 << 20)


def noted(home: Home) -> list[tuple[int, int]]:
    """Return the ranges in the state of the only source."""
    one = source("http://host/large", source_id="large", dataset="dumps")
    found = PartFile(SourcePaths.of(home.data, one))
    return [(start, end) for start, end in found.ranges()] if found.state else []


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits", [{"connections": 3}, {"connections": 8, "connections_per_host": 3}], ids=["all", "of the host"]
)
def test_it_uses_no_more_connections_than_it_may(here: Here, bad: BadServer, limits: dict[str, int]) -> None:
    server = Server(2)
    divided(here, bad, server, segments=16, **limits)
    assert (here.body() == BODY, server.most <= 3) == (True, True)


def test_a_single_connection_is_not_divided(here: Here, bad: BadServer) -> None:
    divided(here, bad, answers.whole(BODY, '"a"'), connections=1)
    assert one_connection(bad)


def test_a_source_that_waits_gets_a_connection_back(here: Here, bad: BadServer) -> None:
    """The other one is asked again while the large body still holds all connections of the host."""
    asked_again = threading.Event()
    held = threading.Event()

    def large(exchange: Exchange) -> None:
        if is_range(exchange.request) and len(asked_ranges(bad)) >= 2:
            held.set()
        reply = answers.right_reply(exchange.request, answers.Content(LARGE, '"a"'))
        exchange.head(reply.status, reply.headers)
        for start in range(0, len(reply.payload), 1000):
            exchange.body(reply.payload[start : start + 1000])
            if not asked_again.is_set():
                time.sleep(0.02)

    def fails_first(exchange: Exchange) -> None:
        held.wait(PATIENCE_S)
        answers.status(500)(exchange)

    def then(exchange: Exchange) -> None:
        asked_again.set()
        answers.whole(b"small")(exchange)

    sources = [
        source(bad.script("/large", large), source_id="large", segments=8),
        source(bad.script("/small", fails_first, then), source_id="small"),
    ]
    report = here.run(*sources, connections=4, connections_per_host=4, backoff_s=0.5)
    assert [outcome.result for outcome in report.outcomes] == [Result.NEW, Result.NEW]
    assert report.outcomes[0].source_id == "small"


# -- stops -------------------------------------------------------------------------------------------------------------


class Stalling(Server):
    """Sends so many bytes over each connection, then nothing."""

    def __init__(self, body: bytes, size_bytes: int) -> None:
        super().__init__(99, body)
        self.size_bytes = size_bytes

    def answer(self, exchange: Exchange) -> None:
        reply = answers.right_reply(exchange.request, answers.Content(self.body, self.etag))
        exchange.head(reply.status, reply.headers)
        exchange.body(reply.payload[: self.size_bytes])
        exchange.wait_until_gone()


class Cut(Server):
    """Cuts each of four connections after some bytes."""

    def __init__(self) -> None:
        super().__init__(99)
        self.seen = 0

    def answer(self, exchange: Exchange) -> None:
        self.seen += 1
        reply = answers.right_reply(exchange.request, answers.Content(self.body, self.etag))
        exchange.head(reply.status, reply.headers)
        exchange.body(reply.payload[:FEW])
        wait_until(lambda: self.seen >= 4)
        exchange.hang_up()


def stopped_after(home: Home, bad: BadServer, connections: int) -> float:
    """Stop a run whose connections all stall; return how long it took to end."""
    home.configure(entry(bad.script("/large", Stalling(LARGE, 200_000))), jobs=1, segments=connections)
    process = home.start()
    wait_until(lambda: bad.bodies["/large"] == connections * 200_000)
    wait_until(lambda: home.part_bytes("large") > 0)
    began = time.monotonic()
    process.terminate()
    assert finish(process).code == 130
    return time.monotonic() - began


def test_a_stop_ends_all_connections_soon(home: Home, bad: BadServer) -> None:
    assert stopped_after(home, bad, 3) < 10


def test_a_stopped_run_has_noted_all_that_arrived(home: Home, bad: BadServer) -> None:
    stopped_after(home, bad, 3)
    assert sum(end - start for start, end in noted(home)) == 3 * 200_000


# -- a disk that fails -------------------------------------------------------------------------------------------------


def test_a_full_disk_fails_the_source(here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def full(fd: int, data: Any, position: int) -> int:
        if position > 20_000:
            raise OSError(28, "No space left on device")
        return real(fd, data, position)

    monkeypatch.setattr(os, "pwrite", full)
    outcome = divided(here, bad, Server(3))
    assert (outcome.result, "No space left" in (outcome.error or ""), ".part" in (outcome.error or "")) == (
        Result.FAILED,
        True,
        True,
    )
