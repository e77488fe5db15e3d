"""Makes several files or directories durable at the same time.

A disk takes little longer for eight syncs at once than for one, because the file system writes its journal once for all
waiting syncs. One after another, they take eight times as long.

Invariants:

- On return, every path without an error in the answer survives a power cut.
- No thread outlives a call. A few paths need no threads, and if the system refuses a thread, that only costs time.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

THREADS_FROM = 4
"""With fewer paths, threads cost more than they save."""
_THREADS_MAX = 8


def sync_all(sync: Callable[[str], None], paths: Collection[str]) -> dict[str, OSError]:
    """Call `sync` with each of these paths, and return the errors by path."""
    ordered = sorted(paths)  # a replayed crash makes the same calls
    count = min(len(ordered), _THREADS_MAX) if len(ordered) >= THREADS_FROM else 1
    shares = [ordered[number::count] for number in range(count)]
    try:
        found = _in_threads(sync, shares) if count > 1 else [_errors(sync, ordered)]
    except RuntimeError:  # the system refuses another thread
        found = [_errors(sync, ordered)]
    return {path: error for some in found for path, error in some.items()}


def _in_threads(sync: Callable[[str], None], shares: list[list[str]]) -> list[dict[str, OSError]]:
    futures = import_module("concurrent.futures")  # slow to import, and few runs need it
    with futures.ThreadPoolExecutor(len(shares), "sync") as threads:
        return list(threads.map(partial(_errors, sync), shares))


def _errors(sync: Callable[[str], None], paths: Iterable[str]) -> dict[str, OSError]:
    found: dict[str, OSError] = {}
    for path in paths:
        try:
            sync(path)
        except OSError as error:
            found[path] = error
    return found
