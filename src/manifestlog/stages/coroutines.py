"""The event loop of a worker whose function is an `async def`; imported only by such workers, because asyncio is slow
to import.

Invariants:

- The loop runs in a thread of its own. The thread of an item waits for the item's coroutine.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING

from manifestlog.stages import function
from manifestlog.workers.stop import StopAskedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Outcome


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="event-loop", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def cancel(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel everything that runs on a loop of another thread."""
    loop.call_soon_threadsafe(_cancel_all, loop)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def awaited(caller: function.Caller, loop: asyncio.AbstractEventLoop, item: Item) -> Outcome:
    """Wait for the coroutine of an item. Raises `StopAskedError` if it was cancelled."""
    try:
        return asyncio.run_coroutine_threadsafe(caller.awaited(item), loop).result()
    except CancelledError:
        raise StopAskedError from None
