"""One line on stderr that names a slow operation, if stderr is a terminal.

Invariants:

- The line appears after a second, changes at most ten times a second, and is removed before the verb prints anything
  else.
- Only the process that created the line draws it: a forked worker does not.

It needs no thread and no library, so that a fast verb costs nothing. `add`, `verify` and `extract` have their own
displays.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from manifestlog import progress
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.progress import Step

_PATIENCE_S = 1.0
_PAUSE_S = 0.1
_DEFAULT_WIDTH = 80
_ERASE = "\r\x1b[K"


@contextmanager
def shown(settings: Settings) -> Iterator[None]:
    """Show the steps of the library in this block, unless the user does not want to see them."""
    if settings.quiet or not settings.progress or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    line = StatusLine(sys.stderr)
    try:
        with progress.shown(line.show):
            yield
    finally:
        line.clear()


@contextmanager
def hidden(*, here: bool = True) -> Iterator[None]:
    """Show no steps in this block: another display is there, or the data goes to the terminal and says enough."""
    if here:
        with progress.shown(None):
            yield
    else:
        yield


class StatusLine:
    """The line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pid = os.getpid()
        self._not_before = time.monotonic() + _PATIENCE_S
        self._is_drawn = False

    def show(self, step: Step) -> None:
        """Draw the step if it is time."""
        if os.getpid() != self._pid:
            return
        if step.ends:  # before somebody prints what was found
            self.clear()
            return
        now = time.monotonic()
        if now >= self._not_before:
            self._not_before = now + _PAUSE_S
            self._is_drawn = True
            self._write(_ERASE + _fitting(step))

    def clear(self) -> None:
        """Erase the line, if it is there."""
        if self._is_drawn:
            self._is_drawn = False
            self._write(_ERASE)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone does not end the verb
            self._stream.write(text)
            self._stream.flush()


def _fitting(step: Step) -> str:
    """Return the text of a step, no wider than the terminal: what is wrapped cannot be erased."""
    share = f": {100 * step.done // step.total} %" if step.total else ""
    begin = f"{output.PROGRAM}: {step.what} "
    name = output.clean(os.path.basename(step.path))
    room = max(0, _width() - 1 - len(begin) - len(share))
    return f"{begin}{name[:room]}{share}"


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _DEFAULT_WIDTH
    except (OSError, ValueError):
        return _DEFAULT_WIDTH
