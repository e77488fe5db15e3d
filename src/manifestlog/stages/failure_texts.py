"""Failure texts: what the failure of an item says of its work, and what it advises.

Invariants:

- No text is empty.
- A text names the class of an exception only if a function or a loop has raised it: its author knows what that is. Whoever
  runs a command need not know Python.
- Advice is in the terms of whoever does the work: keys of the configuration for a command, calls for a function or a loop.

`error_texts` tells errors around the work.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from manifestlog.error_texts import named
from manifestlog.stages.definition import CommandWork, FunctionWork
from manifestlog.stages.errors import OutputError

if TYPE_CHECKING:
    from manifestlog.stages.definition import Work


def text_of_work(error: BaseException) -> str:
    """Return what went wrong in a function, or in the block of a loop: the class and message of the error that it raised."""
    if isinstance(error, OutputError):
        return str(error)
    return named(error) if str(error).strip() else f"{type(error).__name__} without a message{_place(error)}"


def _place(error: BaseException) -> str:
    """Return where an error was raised, as the end of a sentence; nothing if that is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    return f", raised in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def if_nothing(work: Work | None) -> str:
    """Return how this work says that there is nothing to write for an item. A loop has no work of its own."""
    if isinstance(work, CommandWork):
        if work.nothing_exit is None:
            return "set nothing_exit, and let the command exit with that code if there is nothing to write"
        return f"let the command exit with {work.nothing_exit} (nothing_exit) if there is nothing to write"
    if isinstance(work, FunctionWork):
        return "return nothing() if there is nothing to write"
    return "call done(nothing()) of the item if there is nothing to write"
