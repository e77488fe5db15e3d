"""Stop requests from outside: Ctrl-C and SIGTERM, counted instead of raised."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Counts Ctrl-C and SIGTERM inside the context, where they raise nothing."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        """The numbers of the signals, in the order in which they came."""
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def _hear(self, number: int, _frame: object) -> None:
        self.heard.append(number)

    def asked(self) -> int:
        """Return the number of stop requests."""
        return len(self.heard)

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread receives signals, and its code handles them
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
