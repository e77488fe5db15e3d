"""Loads modules without the garbage collector, which would search them several times and find nothing.

Invariants:

- A program that calls the command line as a function keeps its collector, as it was set.
- Once a verb works, the collector is on, and leaves out what the program has loaded.
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
