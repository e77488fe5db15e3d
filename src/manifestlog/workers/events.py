"""What a run in worker processes tells whoever started it, in the process that started it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class WorkersStarted(NamedTuple):
    """The workers run. A display that uses threads begins now: a process is better forked without any."""

    total_bytes: Callable[[threading.Event], int]
    """Finds out how many bytes there are in all, which may take a while; it ends early once the event is set."""


class Progress(NamedTuple):
    """So many bytes more were read; told a few times a second."""

    bytes_read: int
