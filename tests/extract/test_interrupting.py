"""A fetcher that is interrupted: every thread that waits in it returns at once, and nothing looks complete."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Defaults, FetchRequest, RemoteFetcher
from manifestlog.extract.fetchers.protocol import interrupt
from manifestlog.workers.stop import StopAskedError
from support import answers
from support.badserver import misbehaving
from support.certificates import Authority
from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifestlog.extract import ETLSource
    from support.badserver import BadServer, Exchange

BODY = pattern(1000)
SLOW = Defaults(timeout_connect_s=600, timeout_read_s=600)
"""Nothing ends by itself while a test runs."""


@dataclass
class Fetch:
    """A fetch in a thread of its own."""

    fetcher: RemoteFetcher
    one: ETLSource
    got: bytes = b""
    error: BaseException | None = None
    has_begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self.fetcher.open(self.one, FetchRequest()) as response:
                for block in response.blocks():
                    self.got += block
                    self.has_begun.set()
        except BaseException as error:
            self.error = error

    def end(self) -> BaseException | None:
        """Wait for the end, and return its error."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "it still waits"
        return self.error


@pytest.fixture
def fetcher() -> RemoteFetcher:
    return RemoteFetcher(SLOW)


def first_bytes_only(exchange: Exchange) -> None:
    """A body without a length: its end is the connection's."""
    exchange.head(200, {"Connection": "close"})
    exchange.body(BODY[:400])
    exchange.wait_until_gone()


def test_a_wait_for_an_answer_ends(bad: BadServer, fetcher: RemoteFetcher) -> None:
    fetch = Fetch(fetcher, source(bad.script("/a", answers.never_answers())))
    bad.wait_until(lambda s: s.requests)
    fetcher.interrupt()
    assert isinstance(fetch.end(), StopAskedError)


def test_a_cut_body_without_a_length_does_not_look_complete(bad: BadServer, fetcher: RemoteFetcher) -> None:
    fetch = Fetch(fetcher, source(bad.script("/a", first_bytes_only)))
    assert fetch.has_begun.wait(PATIENCE_S)
    fetcher.interrupt()
    assert (type(fetch.end()), fetch.got) == (StopAskedError, BODY[:400])


def test_a_body_over_tls_ends(tmp_path: Path, fetcher: RemoteFetcher) -> None:
    authority = Authority.make(tmp_path / "authority")
    with misbehaving(authority.context()) as server:
        fetch = Fetch(fetcher, source(server.script("/a", first_bytes_only), ca=str(authority.ca)))
        assert fetch.has_begun.wait(PATIENCE_S)
        fetcher.interrupt()
        assert (type(fetch.end()), fetch.got) == (StopAskedError, BODY[:400])


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


def test_a_handshake_ends(silent: socket.socket, fetcher: RemoteFetcher) -> None:
    fetch = Fetch(fetcher, source(f"https://127.0.0.1:{silent.getsockname()[1]}/a"))
    connection, _ = silent.accept()
    with closing(connection):
        assert connection.recv(1)  # it has sent its first message, and waits
        fetcher.interrupt()
        assert isinstance(fetch.end(), StopAskedError)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere timeout_connect_s ends it")
def test_a_connection_that_is_not_accepted_ends(fetcher: RemoteFetcher) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as full, closing(socket.socket()) as filling:
        filling.connect(full.getsockname())  # the queue is full: the kernel drops further requests
        fetch = Fetch(fetcher, source(f"http://127.0.0.1:{full.getsockname()[1]}/a"))
        wait_until_connecting(full.getsockname()[1])
        fetcher.interrupt()
        assert isinstance(fetch.end(), StopAskedError)


def wait_until_connecting(port: int) -> None:
    """Wait until some socket has sent its request for a connection to a port of loopback."""
    wanted, waited = f"0100007F:{port:04X} 02", threading.Event()
    for _ in range(int(PATIENCE_S * 100)):
        with open("/proc/net/tcp", encoding="ascii") as file:
            if wanted in file.read():
                return
        waited.wait(0.01)
    pytest.fail("no socket connects")


def test_all_threads_end(bad: BadServer, fetcher: RemoteFetcher) -> None:
    fetches = [Fetch(fetcher, source(bad.script(f"/{n}", answers.never_answers()))) for n in range(16)]
    bad.wait_until(lambda s: len(s.requests) == 16)
    fetcher.interrupt()
    assert {type(fetch.end()) for fetch in fetches} == {StopAskedError}


def test_nothing_is_requested_afterwards(bad: BadServer, fetcher: RemoteFetcher) -> None:
    fetcher.interrupt()
    with pytest.raises(StopAskedError), fetcher.open(source(bad.script("/a", answers.whole(BODY))), FetchRequest()):
        pass
    assert bad.requests == []


def test_a_kept_connection_is_not_used_afterwards(bad: BadServer, fetcher: RemoteFetcher) -> None:
    one = source(bad.script("/a", answers.whole(BODY)))
    Fetch(fetcher, one).end()
    fetcher.interrupt()
    assert (type(Fetch(fetcher, one).end()), len(bad.requests)) == (StopAskedError, 1)


def test_a_file_of_a_store_is_not_opened_afterwards(tmp_path: Path, fetcher: RemoteFetcher) -> None:
    (tmp_path / "a").write_bytes(BODY)
    one = source((tmp_path / "a").as_uri())
    Fetch(fetcher, one).end()
    fetcher.interrupt()
    assert isinstance(Fetch(fetcher, one).end(), StopAskedError)


def test_a_fetcher_that_cannot_be_interrupted_is_left_alone() -> None:
    class Own:
        """A user's fetcher, with the two methods that it must have."""

        open = probe = RemoteFetcher.open

    interrupt(Own())  # type: ignore[arg-type]
