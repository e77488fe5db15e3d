"""The events that a run in worker processes reports to its caller, in the caller's process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class WorkersStarted(NamedTuple):
    """The workers have started. A display may start threads only now, because forking with threads is unsafe."""

    total_bytes: Callable[[threading.Event], int]
    """Counts the total bytes, which may take a while. Setting the event ends it early."""


class Progress(NamedTuple):
    """The workers have read `bytes_read` more bytes. Sent a few times per second."""

    bytes_read: int
