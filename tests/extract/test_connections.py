"""Many transfers at once: limits for all and for each host, pauses, and hosts that are busy, slow or mute."""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import finish
from extract.builders import source
from extract.runs import Home, counts, entry
from manifestlog.extract import Defaults, PipelineOrchestrator
from manifestlog.extract.attempts import host_of
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog import DownloadManifestManager
    from support.badserver import BadServer, Exchange, Step


def together(number: int) -> Step:
    """Answer when this many requests are there at once."""
    barrier = threading.Barrier(number)

    def step(exchange: Exchange) -> None:
        barrier.wait(30)
        answers.whole(exchange.request.path.encode())(exchange)

    return step


class Counted:
    """Answers after a moment, and counts how many requests were there at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self._lock:
            self.now -= 1
        answers.whole(exchange.request.path.encode())(exchange)


def urls(server: BadServer, number: int, *steps: Step, name: str = "a") -> list[str]:
    return [server.script(f"/{name}-{n}", *steps) for n in range(number)]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_one_worker_has_many_transfers_in_the_air(home: Home, bad: BadServer) -> None:
    home.configure(*map(entry, urls(bad, 6, together(6))), jobs=1, connections=12)
    assert counts(home.run()) == {"new": 6}


def test_workers_share_the_transfers(home: Home, bad: BadServer) -> None:
    home.configure(*map(entry, urls(bad, 6, together(6))), jobs=3, connections=12)
    assert counts(home.run()) == {"new": 6}


def test_no_more_transfers_run_than_connections(home: Home, bad: BadServer) -> None:
    step = Counted()
    home.configure(*map(entry, urls(bad, 12, step)), jobs=2, connections=3)
    assert (counts(home.run()), step.most <= 3) == ({"new": 12}, True)


def test_no_more_transfers_run_to_one_host_than_it_may_have(home: Home, bad: BadServer) -> None:
    step = Counted()
    home.configure(*map(entry, urls(bad, 12, step)), jobs=2, connections=12, connections_per_host=2)
    assert (counts(home.run()), step.most <= 2) == ({"new": 12}, True)


def test_requests_to_one_host_are_apart(home: Home, bad: BadServer) -> None:
    """Four sources start three pauses apart."""
    home.configure(*map(entry, urls(bad, 4, answers.whole(b"some"))), jobs=1, request_pause_s=0.5)
    assert home.run().json["seconds"] > 1.5


# -- busy, slow and mute hosts -----------------------------------------------------------------------------------------


def test_one_429_slows_all_requests_to_its_host(home: Home, bad: BadServer) -> None:
    """While one source waits as the server asked, none of the others is requested."""
    first = bad.script("/first", answers.status(429, retry_after=2), answers.whole(b"first"))
    others = urls(bad, 20, answers.whole(b"other"))
    home.configure(*map(entry, [first, *others]), jobs=1, connections_per_host=1)
    home.run()
    assert [request.path for request in bad.requests][:2] == ["/first", "/first"]


def test_a_host_that_is_busy_does_not_hold_up_another(home: Home, bad: BadServer) -> None:
    """Both transfers would wait for the busy host otherwise."""
    busy = [
        bad.script(f"/busy-{n}", answers.status(503, retry_after=3), answers.whole(str(n).encode())) for n in range(2)
    ]
    with misbehaving() as other:
        done = threading.Event()

        def last(exchange: Exchange) -> None:
            answers.whole(b"last")(exchange)
            if len(bad.requests) <= 2:
                done.set()  # the busy host still has its pause

        free = [*urls(other, 5, answers.whole(b"some")), other.script("/last", last)]
        home.configure(*map(entry, [*busy, *free]), jobs=1, connections=2)
        result = home.run()
    assert (result.code, done.is_set()) == (0, True)


def test_mute_hosts_do_not_hold_up_another(home: Home) -> None:
    """Their sources fill no more than half of all connections, and one each."""
    with ExitStack() as servers, misbehaving() as fast:
        mute = [servers.enter_context(misbehaving()) for _ in range(2)]
        silent = list(
            itertools.chain.from_iterable(
                urls(one, 9, answers.never_answers(), name=f"mute-{n}") for n, one in enumerate(mute)
            )
        )
        seen = threading.Event()

        def last(exchange: Exchange) -> None:
            answers.whole(b"last")(exchange)
            seen.set()

        free = [*urls(fast, 30, answers.whole(b"some")), fast.script("/last", last)]
        home.configure(*map(entry, [*silent, *free]), jobs=2, connections=8)
        process = home.start()
        assert seen.wait(40)
        process.terminate()
        finish(process)


def test_a_source_that_waits_for_its_next_attempt_can_be_stopped(home: Home, bad: BadServer) -> None:
    """No worker sleeps for it: the run itself waits."""
    home.configure(entry(bad.script("/later", answers.status(503, retry_after=500))), jobs=1)
    process = home.start()
    bad.wait_until(lambda s: len(s.requests) == 1)
    process.terminate()
    assert finish(process).code == 130


def test_a_source_fails_after_its_retries_though_other_workers_make_them(home: Home, bad: BadServer) -> None:
    home.configure(entry(bad.script("/a", answers.status(500))), jobs=2, retries=2, backoff_s=0.01)
    result = home.run()
    assert (counts(result), len(bad.requests)) == ({"failed": 1}, 3)
    assert "3 attempts failed" in result.json["failures"][0]["error"]


# -- the user's own fetcher --------------------------------------------------------------------------------------------


class OwnFetcher:
    """Notes which thread of which process calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, one: Any, _request: Any) -> Any:
        (self.folder / f"{os.getpid()}-{threading.get_native_id()}-{one.source_id}").touch()
        raise OSError("it has no file")

    def probe(self, one: Any, request: Any) -> Any:
        raise NotImplementedError


class SafeFetcher(OwnFetcher):
    """Meets other threads in `open`."""

    thread_safe = True
    barrier = threading.Barrier(4)

    def open(self, one: Any, request: Any) -> Any:
        self.barrier.wait(20)
        return super().open(one, request)


def fetch_with(manifest: DownloadManifestManager, folder: Path, fetcher: OwnFetcher) -> list[list[str]]:
    """Fetch four sources with this fetcher; return (process, thread, source) of each call."""
    sources = [source(f"own://host/{n}", source_id=str(n)) for n in range(4)]
    defaults = Defaults(jobs=1, connections=8)
    orchestrator = PipelineOrchestrator(manifest, fetcher, data_dir=folder.parent / "data", defaults=defaults)
    orchestrator.run(sources, asked_to_stop=int)
    return [name.split("-") for name in os.listdir(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


def test_a_fetcher_is_called_by_one_thread_of_a_process(manifest: DownloadManifestManager, folder: Path) -> None:
    """Nothing demands that it is thread-safe: the main thread of each worker calls it, where a stop interrupts it."""
    calls = fetch_with(manifest, folder, OwnFetcher(folder))
    assert (len(calls), {process == thread for process, thread, _ in calls}) == (4, {True})


def test_a_fetcher_that_is_thread_safe_is_called_by_several(manifest: DownloadManifestManager, folder: Path) -> None:
    calls = fetch_with(manifest, folder, SafeFetcher(folder))
    assert len({thread for _, thread, _ in calls}) == 4


# -- which host a source asks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.org/a", "https://example.org"),
        ("https://EXAMPLE.org:443/a", "https://example.org"),
        ("http://example.org:80/a", "http://example.org"),
        ("http://example.org:8080/a", "http://example.org:8080"),
        ("https://user:secret@example.org/a", "https://example.org"),
        ("ftp://example.org/a", "ftp://example.org"),
        ("s3://bucket/a", "s3://bucket"),
        ("simplecache::https://example.org/a", "https://example.org"),
        ("file:///srv/a", ""),
        ("http://[::1]:8080/a", "http://[::1]:8080"),
    ],
)
def test_the_host_of_a_source(url: str, host: str) -> None:
    assert host_of(url) == host
