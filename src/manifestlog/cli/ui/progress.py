"""The progress bar of `add` and `verify` on stderr, if that is a terminal, and the test whether any display may be
shown.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, status_line


class Bar(Protocol):
    """A display of progress."""

    def advance(self, count: int) -> None:
        """Add `count` bytes to the bytes done."""

    def say(self, text: str) -> None:
        """Print a permanent line."""


class NoBar:
    """Prints permanent lines, and shows no progress."""

    def advance(self, count: int) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        output.error(text)


@contextmanager
def shown(settings: Settings, count_bytes: Callable[[threading.Event], int]) -> Iterator[Bar]:
    """Show a bar if stderr is a terminal. `count_bytes` counts the total in a thread beside the work."""
    if not may_draw(settings):
        yield NoBar()
        return
    from manifestlog.cli.ui.bar import RichBar  # noqa: PLC0415 -- rich is slow to import, and only this branch needs it

    bar = RichBar()
    enough = threading.Event()
    counter = threading.Thread(target=lambda: bar.set_total(count_bytes(enough)), name="count", daemon=True)
    with bar.progress, status_line.hidden():
        counter.start()
        try:
            yield bar
        finally:
            enough.set()
            counter.join()


def may_draw(settings: Settings) -> bool:
    """Return whether stderr is a terminal on which a display may change while the work goes on."""
    return not settings.quiet and settings.progress and sys.stderr.isatty() and _has_thread_left()


def _has_thread_left() -> bool:
    """Return whether a thread can be started. A display needs one; without it the work continues undisplayed."""
    thread = threading.Thread(target=int, name="try", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True
