"""A source that is stopped, killed or claimed in the middle: the bytes are kept, and another run resumes."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import Here, pattern
from manifestlog import DownloadManifestManager
from manifestlog.extract import ETLSource, Outcome, Result
from manifestlog.extract.claims import Claims
from manifestlog.extract.download import extract
from manifestlog.workers.stop import Stop, StopAskedError
from support import answers
from support.children import PATIENCE_S
from support.records import QUICK, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.badserver import BadServer, Exchange
    from support.children import Link, Start

BODY = pattern(1000)
ETAG = '"a"'


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def has_part(data_dir: Path, size_bytes: int) -> bool:
    """Return whether this much of a body is on the disk."""
    return any(os.path.getsize(part) >= size_bytes for part in data_dir.rglob("*.part"))


@contextmanager
def stopping(true: Callable[[], object]) -> Iterator[Stop]:
    """A stop requested by a signal as soon as this is true."""
    stop, thread = Stop(), threading.get_ident()

    def ask() -> None:
        wait_until(true)
        signal.pthread_kill(thread, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop.ask)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield stop
    finally:
        asking.join()
        signal.signal(signal.SIGUSR1, before)


def stopped(here: Here, one: ETLSource, true: Callable[[], object]) -> None:
    """Stop a source as soon as this is true."""
    with Claims(here.manifest, here.data_dir) as claims, stopping(true) as stop, pytest.raises(StopAskedError):
        extract(here.context(claims, stop=stop), one)


def slow(bad: BadServer) -> str:
    """The URL of a body that stalls after 400 bytes, and is complete the next time."""
    return bad.script("/a", answers.slow(BODY, 400, threading.Event(), ETAG), answers.whole(BODY, ETAG))


# -- stopped -----------------------------------------------------------------------------------------------------------


def test_a_body_that_drips_can_be_stopped(here: Here, bad: BadServer) -> None:
    one = source(bad.script("/a", answers.drip(BODY, 0.05, ETAG)))
    stopped(here, one, lambda: has_part(here.data_dir, 3))
    part = here.part.read_bytes()
    assert (BODY.startswith(part), 3 <= len(part) < len(BODY)) == (True, True)


def test_a_body_that_stalls_can_be_stopped(here: Here, bad: BadServer) -> None:
    stopped(here, source(slow(bad)), lambda: has_part(here.data_dir, 400))
    assert here.part.read_bytes() == BODY[:400]


def test_an_answer_that_does_not_come_can_be_stopped(here: Here, bad: BadServer) -> None:
    stopped(here, source(bad.script("/a", answers.never_answers())), lambda: bad.requests)
    assert here.files == []


def test_a_pause_can_be_stopped(here: Here, bad: BadServer) -> None:
    stopped(here, source(bad.script("/a", answers.status(503, 500))), lambda: here.waits)
    assert len(bad.requests) == 1


def test_a_pause_ends_though_the_signal_came_right_before_its_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel sleeps on, since the signal came before; the next check ends the pause."""
    stop, sleep = Stop(), time.sleep

    def late(seconds: float) -> None:
        sleep(seconds)
        with suppress(StopAskedError):  # requested before, raised only now
            stop.ask()

    monkeypatch.setattr(time, "sleep", late)
    began = time.monotonic()
    with pytest.raises(StopAskedError):
        stop.sleep(20)
    assert time.monotonic() - began < 10


def test_nothing_begins_once_it_is_stopped(here: Here, bad: BadServer) -> None:
    stop = Stop()
    stop.ask()
    with Claims(here.manifest, here.data_dir) as claims, pytest.raises(StopAskedError):
        extract(here.context(claims, stop=stop), source(bad.script("/a", answers.whole(BODY))))
    assert bad.requests == []


def test_a_stopped_download_is_resumed(here: Here, bad: BadServer) -> None:
    one = source(slow(bad))
    stopped(here, one, lambda: has_part(here.data_dir, 400))
    outcome = here.one(one)
    assert (outcome.result, outcome.bytes_fetched, here.body(one.source_id, one.dataset)) == (Result.NEW, 600, BODY)


def test_a_stopped_download_is_no_longer_claimed(here: Here, bad: BadServer) -> None:
    one = source(slow(bad))
    with Claims(here.manifest, here.data_dir) as claims, stopping(lambda: has_part(here.data_dir, 400)) as stop:
        with pytest.raises(StopAskedError):
            extract(here.context(claims, stop=stop), one)
        assert here.one(one).result is Result.NEW


def test_a_stopped_download_registers_nothing(here: Here, bad: BadServer) -> None:
    stopped(here, source(slow(bad)), lambda: has_part(here.data_dir, 400))
    assert here.manifest.records == {}


# -- killed, claimed ---------------------------------------------------------------------------------------------------


def fetch_in_child(link: Link, path: Path, data_dir: Path, url: str) -> Outcome:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        return Here(manifest, data_dir).fetch(url)


@pytest.mark.usefixtures("no_small_bodies")
def test_the_part_of_a_killed_process_is_resumed(here: Here, bad: BadServer, start: Start, path: Path) -> None:
    url = slow(bad)
    child = start(fetch_in_child, path, here.data_dir, url)
    wait_until(lambda: has_part(here.data_dir, 400))
    child.kill()
    child.join()
    outcome = here.fetch(url)
    assert (outcome.bytes_fetched, here.body(), here.files) == (600, BODY, ["systems/a"])


def test_a_source_that_another_process_has_is_left_to_it(here: Here, bad: BadServer, start: Start, path: Path) -> None:
    url = slow(bad)
    start(fetch_in_child, path, here.data_dir, url)
    wait_until(lambda: has_part(here.data_dir, 400))
    assert here.fetch(url).result is Result.CLAIMED


def test_a_source_that_another_run_of_this_process_holds_is_skipped(here: Here, bad: BadServer) -> None:
    url, inner = bad.url + "/a", []

    def step(exchange: Exchange) -> None:
        inner.append(here.fetch(url).result)
        answers.whole(BODY)(exchange)

    bad.script("/a", step)
    assert (here.fetch(url).result, inner) == (Result.NEW, [Result.CLAIMED])


def test_a_source_that_another_run_holds_is_skipped_through_any_link_to_the_directory(
    here: Here, bad: BadServer, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(here.data_dir)
    url, inner = bad.url + "/a", []

    def step(exchange: Exchange) -> None:
        inner.append(Here(here.manifest, tmp_path / "link").fetch(url).result)
        answers.whole(BODY)(exchange)

    bad.script("/a", step)
    assert (here.fetch(url).result, inner) == (Result.NEW, [Result.CLAIMED])


def test_a_source_that_is_left_to_another_run_is_no_failure(here: Here, bad: BadServer) -> None:
    url, inner = bad.url + "/a", []

    def step(exchange: Exchange) -> None:
        inner.append(here.fetch(url))
        answers.whole(BODY)(exchange)

    bad.script("/a", step)
    here.fetch(url)
    assert [(outcome.error, outcome.bytes_fetched, outcome.bytes_saved) for outcome in inner] == [(None, 0, 0)]
