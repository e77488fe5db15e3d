"""The progress bar of `add` and `verify`: on a terminal only, on stderr only."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output


class Bar(Protocol):
    """Where progress is shown, or not."""

    def advance(self, count: int) -> None:
        """So many bytes more."""

    def say(self, text: str) -> None:
        """A line that stays."""


class NoBar:
    """Says what has to be said and shows nothing else."""

    def advance(self, count: int) -> None:
        """Nobody looks."""

    def say(self, text: str) -> None:
        output.complain(text)


@contextmanager
def shown(settings: Settings, count_bytes: Callable[[threading.Event], int]) -> Iterator[Bar]:
    """A bar where there is somebody to see it; `count_bytes` finds out the total beside the work."""
    if settings.quiet or not settings.progress or not sys.stderr.isatty() or not threads_left():
        yield NoBar()
        return
    from manifestlog.cli.ui.bar import RichBar  # noqa: PLC0415 -- rich is slow to import, and nobody else needs it

    bar = RichBar()
    enough = threading.Event()
    counter = threading.Thread(target=lambda: bar.set_total(count_bytes(enough)), name="count", daemon=True)
    with bar.progress:
        counter.start()
        try:
            yield bar
        finally:
            enough.set()
            counter.join()


def threads_left() -> bool:
    """Whether a thread can be started, as a display needs: without one the work goes on unwatched."""
    thread = threading.Thread(target=int, name="try", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True
