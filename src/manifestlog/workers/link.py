"""What every worker process that reads files does beside its work: it tells how far it is, and ends when it is asked to.

Invariants:

- A stop is a flag, looked at between two blocks: it never comes in the middle of anything else.
- A worker never outlives the process that started it.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.workers.pool import end_with_parent

_TELL_EVERY_S = 0.1


class StopAskedError(Exception):
    """The parent wants this worker to end."""


class Hand:
    """A worker's connection to whoever started it."""

    def __init__(self, parent: Connection[Any, Any]) -> None:
        self.parent = parent
        self.stop = False
        self._unsaid = 0
        self._said_at = time.monotonic()

    def begin(self, settings: Settings, log_level: int) -> None:
        """Take over a process: its signals, its end, what it logs."""
        # Ctrl-C reaches the whole process group; the parent decides what it means, and says so with SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ask_stop)
        end_with_parent()
        output.hear_library(settings, least=log_level)

    def _ask_stop(self, _number: int, _frame: object) -> None:
        # A flag, not an exception: this may be in the middle of an append.
        self.stop = True

    def heard(self, count: int) -> None:
        """So many bytes more were read; raises `StopAskedError`."""
        if self.stop:
            raise StopAskedError
        self._unsaid += count
        if time.monotonic() - self._said_at > _TELL_EVERY_S:
            self.say()

    def say(self) -> None:
        """Tell what was not told yet."""
        if self._unsaid:
            with suppress(OSError):
                self.parent.send(self._unsaid)
        self._unsaid, self._said_at = 0, time.monotonic()
