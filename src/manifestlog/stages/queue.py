"""The queue of a run: hands out batches of items, and decides about those that failed or lost their worker.

Invariants:

- A batch takes about `BATCH_S` seconds, estimated from earlier batches, and no worker gets more than its share of the
  remaining items.
- A failed item waits here for its next attempt, and occupies no worker: `backoff_s`, then twice that, up to
  `PAUSE_MAX_S`.
- An item whose worker died runs again alone; after two workers have died with it, it has failed.

Pure: it reads no clock and no manifest.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from manifestlog.stages.worker import Again, Batch, BatchDone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.stages.definition import Stage
    from manifestlog.stages.items import ItemTask

BATCH_S = 0.5
BATCH_MAX = 256
_GROWTH = 4
PAUSE_MAX_S = 300.0


class Queue:
    """The items of a run, for its workers."""

    def __init__(
        self,
        items: Iterator[ItemTask],
        total: int,
        stage: Stage,
        clock: Callable[[], float],
        *,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._items = items
        self._left = total
        """How many items were not handed out yet."""
        self._is_over = False
        self._clock = clock
        self._workers = stage.jobs
        self._retries, self._backoff_s = stage.retries, stage.backoff_s
        self._size, self._size_max = 1, batch_max
        self._waiting: list[tuple[float, int, ItemTask]] = []
        self._number = 0
        self._alone: deque[ItemTask] = deque()
        self._losses: dict[str, int] = {}

    def take(self) -> Batch | None:
        """Return the next batch; None if there is none now."""
        if self._alone:
            return Batch((self._alone.popleft(),))
        found = self._due()
        if not found:
            share = math.ceil(self._left / (2 * self._workers)) or 1
            found = list(islice(self._items, min(self._size, share)))
            self._left = max(0, self._left - len(found))
            self._is_over = not found
        return Batch(tuple(found)) if found else None

    def _due(self) -> list[ItemTask]:
        found: list[ItemTask] = []
        while self._waiting and self._waiting[0][0] <= self._clock() and len(found) < self._size:
            found.append(heapq.heappop(self._waiting)[2])
        return found

    def pause_s(self) -> float | None:
        """Return in how many seconds `take` may return a batch by time alone, infinite if then none; None if none waits."""
        if self._alone:
            return 0.0
        if self._waiting:
            return max(0.0, self._waiting[0][0] - self._clock())
        return None if self._is_over else math.inf

    def done(self, batch: BatchDone) -> None:
        """Take in how long a batch took."""
        count = len(batch.finished) + len(batch.failed)
        if count:
            fitting = int(BATCH_S / max(batch.seconds / count, 1e-6))
            self._size = max(1, min(fitting, self._size * _GROWTH, self._size_max))

    def again(self, failed: Again) -> float | None:
        """Let a failed item wait for its next attempt; return the pause, or None if there is none left."""
        task = failed.task
        if failed.is_final or task.attempt > self._retries:
            return None
        pause = min(self._backoff_s * 2.0 ** (task.attempt - 1), PAUSE_MAX_S)
        self._number += 1
        heapq.heappush(self._waiting, (self._clock() + pause, self._number, task._replace(attempt=task.attempt + 1)))
        return pause

    def lost(self, batch: Batch) -> list[ItemTask]:
        """Take back the items of a worker that died; return those that two workers have died of."""
        given_up = []
        alone = len(batch.items) == 1
        for task in batch.items:
            self._losses[task.key] = self._losses.get(task.key, 0) + alone
            if self._losses[task.key] > 1:
                given_up.append(task)
            else:
                self._alone.append(task._replace(is_doubtful=True, was_lost=True))
        return given_up
