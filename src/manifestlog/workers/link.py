"""A worker's link to its parent: it reports progress, and receives stop requests.

Invariants:

- A stop request is a flag, which the worker checks between two blocks. It interrupts nothing else.
- The link reports progress at most ten times per second, however small the blocks are.

Work without worker processes uses the same link, with a plain function as `send`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from manifestlog.workers.inbox import Outbox, framed
from manifestlog.workers.stop import Stop, StopAskedError

_TELL_EVERY_S = 0.1


class Sender:
    """The sending end of a pipe, for several threads."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._outbox = Outbox(pipe)
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Send a message whole."""
        data = framed(message)
        with self._lock:
            self._outbox.send([data])


def _nothing() -> None:
    """Wake nothing."""


def _ignore(_: Any) -> None:
    """Ignore the message."""


class WorkerLink:
    """Sends a worker's messages. `stop` is the request to end."""

    def __init__(self, send: Callable[[Any], None], stop: Stop | None = None) -> None:
        self.send = send
        self.stop = stop or Stop()
        self.interrupt: Callable[[], None] = _nothing
        """Wakes the threads of this worker that wait, after a stop request; set by the work itself."""
        self.on_told: Callable[[Any], None] = _ignore
        """Receives what the run tells this worker besides tasks; set by the work itself."""
        self._untold = 0
        self._told_at = time.monotonic()

    def advance(self, count: int) -> None:
        """Count `count` more bytes as read. Raises `StopAskedError`."""
        if self.stop.asked:
            raise StopAskedError
        self._untold += count
        if time.monotonic() - self._told_at > _TELL_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send the progress that was not sent yet."""
        if self._untold:
            with suppress(OSError):
                self.send(self._untold)
        self._untold, self._told_at = 0, time.monotonic()
