"""Loads modules while the garbage collector is off, because it would search them several times and find nothing.

Invariants:

- If a program calls the command line as a function, its collector stays as it was set.
- While a verb works, the collector is on, but ignores the loaded modules.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def begin() -> None:
    """Stop the collector until `end`; for a process of our own only."""
    gc.disable()


def end() -> None:
    """Start the collector, if `begin` has stopped it."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Stop the collector for the block, which loads what only one verb needs."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
