"""A worker's link to whoever started it: it tells how far it is, and notices when it is asked to stop.

Invariants:

- A stop is a flag, looked at between two blocks: it never comes in the middle of anything else.
- Progress is told at most ten times a second, however small the blocks are.

The same link serves work that is done without worker processes: `send` is then a plain function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from manifestlog.workers.stop import Stop, StopAskedError

_TELL_EVERY_S = 0.1


class WorkerLink:
    """What a worker sends its messages with; `stop` says whether it shall end."""

    def __init__(self, send: Callable[[Any], None], stop: Stop | None = None) -> None:
        self.send = send
        self.stop = stop or Stop()
        self._untold = 0
        self._told_at = time.monotonic()

    def advance(self, count: int) -> None:
        """So many bytes more were read; raises `StopAskedError`."""
        if self.stop.asked:
            raise StopAskedError
        self._untold += count
        if time.monotonic() - self._told_at > _TELL_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Tell what was not told yet."""
        if self._untold:
            with suppress(OSError):
                self.send(self._untold)
        self._untold, self._told_at = 0, time.monotonic()
