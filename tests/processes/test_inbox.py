"""Messages through a pipe, several with one read."""

from __future__ import annotations

import os
import socket
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.workers import inbox
from manifestlog.workers.inbox import Inbox, Outbox, framed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

MESSAGES = [None, "a", ("b", 1), bytes(1000), {"c": [2.5]}]


@pytest.fixture
def pipe() -> Iterator[tuple[Inbox, Connection[Any, Any]]]:
    """What receives, and what to send with."""
    ours, theirs = Pipe()
    with ours, theirs:
        yield Inbox(ours), theirs


Both = tuple[Inbox, "Connection[Any, Any]"]


def test_messages_that_are_written_together_come_together_and_in_order(pipe: Both) -> None:
    found, theirs = pipe
    Outbox(theirs).send([framed(message) for message in MESSAGES])
    assert found.take() == MESSAGES


def test_what_a_connection_sends_is_understood(pipe: Both) -> None:
    found, theirs = pipe
    for message in MESSAGES:
        theirs.send(message)
    assert found.take() == MESSAGES


def test_a_connection_understands_what_is_written() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        Outbox(theirs).send([framed(message) for message in MESSAGES])
        assert [ours.recv() for _ in MESSAGES] == MESSAGES


@pytest.mark.parametrize("long", [False, True])
def test_a_message_that_comes_in_pieces_is_returned_once_and_whole(
    pipe: Both, monkeypatch: pytest.MonkeyPatch, *, long: bool
) -> None:
    found, theirs = pipe
    if long:
        monkeypatch.setattr(inbox, "_LONG_BYTES", 0)
    data, got = b"".join(map(framed, MESSAGES)), []
    for start in range(len(data)):
        Outbox(theirs).send([data[start : start + 1]])
        got += found.take()
    assert got == MESSAGES


def test_a_message_that_its_sender_s_death_has_cut_is_not_returned(pipe: Both) -> None:
    found, theirs = pipe
    Outbox(theirs).send([framed("whole"), framed("cut")[:-1]])
    theirs.close()
    assert found.take() == ["whole"]
    with pytest.raises(EOFError):
        found.take()


def test_what_is_sent_after_the_end_goes_nowhere(pipe: Both, tmp_path: Path) -> None:
    """The descriptor may be another file's by then."""
    _, theirs = pipe
    outbox, number = Outbox(theirs), theirs.fileno()
    theirs.close()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    with pytest.raises(OSError, match="closed"):
        outbox.send([framed("a")])
    for descriptor in {number, other}:
        os.close(descriptor)


def test_a_default_time_limit_of_the_program_s_sockets_is_none_of_the_pipe() -> None:
    """It would make the pipe return at once, also to whoever uses it besides."""
    ours, theirs = Pipe()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        found, sender = Inbox(ours), Outbox(theirs)
    finally:
        socket.setdefaulttimeout(before)
    with ours, theirs:
        assert (os.get_blocking(ours.fileno()), os.get_blocking(theirs.fileno())) == (True, True)
        sender.send([framed("a")])
        assert found.take() == ["a"]


def test_the_pipe_stays_open(pipe: Both) -> None:
    """What receives and sends only borrows its descriptor."""
    found, theirs = pipe
    for message in MESSAGES:
        Outbox(theirs).send([framed(message)])
        assert found.take() == [message]
