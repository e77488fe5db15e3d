"""Reports the progress of slow operations: reading a whole manifest to open, convert, check, repair or list it.

::

    with progress.shown(lambda step: print(f"{step.what} {step.path}: {step.done} of {step.total}")):
        manager = DownloadManifestManager(path)

Invariants:

- The innermost `shown` of the same thread, or of the same asyncio task, gets the reports. Without one, nothing happens.
- Reporting changes no result: an operation takes the same steps with and without it.

It neither draws nor logs. The command line draws.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Step(NamedTuple):
    """The progress of one operation on one file; there are many steps a second."""

    what: str
    """What is being done, such as `reading`."""
    path: str
    done: int
    total: int
    """In the unit of `done`: bytes or records; 0 if it is unknown."""

    @property
    def ends(self) -> bool:
        """Whether the operation is done."""
        return 0 < self.total <= self.done


_show: ContextVar[Callable[[Step], object] | None] = ContextVar("manifestlog_progress", default=None)


@contextmanager
def shown(show: Callable[[Step], object] | None) -> Iterator[None]:
    """Call `show` at each step of this thread in the block; with None, do nothing. An exception ends the operation."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def tell(what: str, path: str, done: int, total: int = 0) -> None:
    """Take a step."""
    show = _show.get()
    if show is not None:
        show(Step(what, path, done, total))


def over(blocks: Iterator[bytes], path: str, total: int) -> Iterator[bytes]:
    """Yield the blocks of a file of `total` bytes, and take a step after each."""
    return blocks if _show.get() is None else _told(blocks, path, total)


def _told(blocks: Iterator[bytes], path: str, total: int) -> Iterator[bytes]:
    done = 0
    for block in blocks:
        done += len(block)
        tell("reading", path, done, total)
        yield block
