"""Groups what several threads do at the same time: one of them, the leader, does it for all that wait.

Invariants:

- If there is no leader, a thread that arrives becomes the leader at once: there is no timer, and a single thread never
  waits.
- A thread that arrives while a group is being processed waits for the next group. When the leader is done it wakes its
  group, and the first waiting thread becomes the next leader.
- Each item is in exactly one group, whatever the leader raises.

It does not know what is grouped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Place(Generic[Item]):
    """An item that waits."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_done = False
        self.woken = threading.Lock()
        self.woken.acquire()


class Grouping(Generic[Item]):
    """The threads of a process that do the same thing at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Place[Item]] = []
        self._is_led = False

    def join(self, item: Item, act: Callable[[list[Item]], None]) -> None:
        """Return when the item's group is done: by `act` of this call, or of another thread's. `act` must not raise."""
        place = _Place(item)
        with self._lock:
            self._waiting.append(place)
            leads, self._is_led = not self._is_led, True
        if not leads:
            place.woken.acquire()
            if place.is_done:
                return
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            act([one.item for one in group])
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            for one in group:
                one.is_done = True
                one.woken.release()
            if following is not None:
                following.woken.release()
