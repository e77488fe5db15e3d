"""Collects the signals that end a service, a verb that runs until it is stopped, and makes its pauses end with them."""

import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from manifestlog.workers.interrupts import Interrupts

_WAIT_S_MAX = 86400.0
"""Some systems refuse a wait of years."""


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT during the block; the second one of a kind has its usual effect."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        del frame
        caught.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ending:
    """The SIGTERM and SIGINT that have come, and a pause that the first of them ends."""

    def __init__(self, caught: list[int], wakes: socket.socket) -> None:
        self.caught = caught
        self._wakes = wakes
        """Readable once a signal has come. An `Event` would not do: a handler that sets it may wait for its own thread."""

    def pause(self, seconds: float) -> None:
        """Wait so long, or until a signal comes; return at once if one has come."""
        until = time.monotonic() + seconds
        while not self.caught and (left_s := until - time.monotonic()) > 0:
            select.select([self._wakes], [], [], min(left_s, _WAIT_S_MAX))
            with suppress(BlockingIOError):  # the time is over
                self._wakes.recv(64)


@contextmanager
def noted() -> Iterator[Ending]:
    """Note SIGTERM and SIGINT during the block, however many: nothing in it is interrupted."""
    wakes, woken = socket.socketpair()
    with wakes, woken, Interrupts() as interrupts:
        wakes.setblocking(False)
        woken.setblocking(False)
        former = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        try:
            yield Ending(interrupts.heard, wakes)
        finally:
            signal.set_wakeup_fd(former)
