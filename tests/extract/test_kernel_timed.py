"""Plain connections, whose waits the kernel bounds."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from extract.running import pattern
from manifestlog.extract import Result
from manifestlog.extract.fetchers.kernel_timed import KernelTimedSocket
from support import answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extract.running import Here
    from support.badserver import BadServer, Exchange

BODY = pattern(1000)


@contextmanager
def connected(send_s: float = 0.1, receive_s: float = 0.1) -> Iterator[tuple[KernelTimedSocket, socket.socket]]:
    """A socket of ours, and its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server, KernelTimedSocket() as ours:
        ours.settimeout(send_s)
        ours.connect(server.getsockname())
        ours.leave_to_kernel(receive_s)
        theirs, _ = server.accept()
        with theirs:
            yield ours, theirs


def test_a_wait_for_bytes_ends() -> None:
    with connected() as (ours, _), pytest.raises(BlockingIOError):
        ours.recv(1)


def test_a_wait_for_bytes_ends_with_none_in_a_file() -> None:
    with connected() as (ours, _), ours.makefile("rb", buffering=0) as file:
        assert file.read(1) is None


def test_a_wait_for_room_ends_as_one_of_python_does() -> None:
    with connected() as (ours, _), pytest.raises(TimeoutError) as caught:
        ours.sendall(bytes(1 << 26))
    assert (caught.value.errno, caught.value.__context__) == (None, None)


def test_a_limit_below_a_microsecond_is_no_wait_for_ever() -> None:
    with connected(receive_s=1e-9) as (ours, _), pytest.raises(BlockingIOError):
        ours.recv(1)


def test_a_later_limit_of_python_changes_nothing() -> None:
    with connected(receive_s=60.0) as (ours, theirs):
        ours.settimeout(0.0)
        threading.Timer(0.05, theirs.sendall, [b"a"]).start()
        assert ours.recv(1) == b"a"


def test_a_shutdown_by_another_thread_ends_a_wait() -> None:
    with connected(receive_s=60.0) as (ours, _):
        threading.Timer(0.05, ours.shutdown, [socket.SHUT_RDWR]).start()
        assert ours.recv(1) == b""


# -- in a run ----------------------------------------------------------------------------------------------------------


def stalls_without_length(exchange: Exchange) -> None:
    """Send half a body that only the end of the connection ends, and nothing more."""
    exchange.head(200, {"Connection": "close"})
    exchange.body(BODY[:500])
    with suppress(ConnectionError):
        exchange.wait_until_gone()


def stalled_body(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", stalls_without_length), timeout_read_s=0.3, retries=0)
    assert outcome.result is Result.FAILED
    assert "no data within timeout_read_s" in (outcome.error or "")


def test_a_body_of_unknown_length_that_stops_is_not_taken_for_complete(here: Here, bad: BadServer) -> None:
    stalled_body(here, bad)


def test_a_server_that_says_nothing_is_not_waited_for(here: Here, bad: BadServer) -> None:
    def says_nothing(exchange: Exchange) -> None:
        with suppress(ConnectionError):
            exchange.wait_until_gone()

    error = here.fetch(bad.script("/a", says_nothing), timeout_read_s=0.3, retries=0).error
    assert error is not None
    assert "no data within timeout_read_s" in error


def test_a_source_after_a_late_one_gets_its_own_body(here: Here, bad: BadServer) -> None:
    """The connection of a response that came too late is not used again."""
    assert here.fetch(bad.script("/a", stalls_without_length), timeout_read_s=0.3, retries=0).error
    here.fetch(bad.script("/b", answers.whole(BODY)), source_id="b")
    assert here.body("b") == BODY
