"""Makes several files or directories durable at the same time.

A disk takes little longer for eight syncs at once than for one, because the file system writes its journal for all that
wait. One after the other, they take eight times as long.

Invariants:

- On return, what has no error in the answer survives a power cut.
- No thread outlives a call. Few paths need none, and a system that refuses one only costs time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

THREADS_FROM = 4
"""With fewer paths, threads cost more than they save."""
_THREADS_MAX = 8


def sync_all(sync: Callable[[str], None], paths: Collection[str]) -> dict[str, OSError]:
    """Call `sync` with each of these paths, and return the errors by path."""
    paths = sorted(paths)  # a replayed crash makes the same calls
    found: Iterable[OSError | None] = ()
    with suppress(RuntimeError):  # the system refuses another thread
        if len(paths) >= THREADS_FROM:
            found = _in_threads(sync, paths)
    found = found or [_tried(sync, path) for path in paths]
    return {path: error for path, error in zip(paths, found, strict=True) if error is not None}


def _in_threads(sync: Callable[[str], None], paths: Collection[str]) -> list[OSError | None]:
    with ThreadPoolExecutor(min(len(paths), _THREADS_MAX), "sync") as threads:
        return list(threads.map(partial(_tried, sync), paths))


def _tried(sync: Callable[[str], None], path: str) -> OSError | None:
    try:
        sync(path)
    except OSError as error:
        return error
    return None
