"""Decides which source starts next: hosts take turns, within limits for all of them and for each.

Invariants:

- At most `connections` tasks run at once, and at most `connections_per_host` on one host. Two starts on one host are at
  least `request_pause_s` apart. A task may borrow connections that no task waits for, within the same limits.
- The tasks of one host start in their given order. A postponed task comes before those that have not started.
- A host that has asked for a pause starts nothing until it is over. One such answer slows down all requests to that
  host.
- A host that does not answer comes last: it starts a task only if no other host can. Such hosts, and the further tasks
  of hosts that have not answered yet, use at most half of all connections.

Time is an argument, in seconds of any clock that runs evenly. The module does not know sources or processes.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, NamedTuple, TypeVar

Task = TypeVar("Task")


class Limits(NamedTuple):
    """How much may run at once."""

    connections: int
    connections_per_host: int
    request_pause_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Host(Generic[Task]):
    waiting: deque[Task] = field(default_factory=deque)
    postponed: list[tuple[float, int, Task]] = field(default_factory=list)
    """A heap by the time when each may start again."""
    running: int = 0
    not_before: float = -math.inf
    has_answered: bool = False
    is_silent: bool = False
    queued_for: float | None = None
    """The time for which a queue has it; minus infinity in those of hosts that may start now, None without a queue."""

    def startable(self, now: float) -> int:
        """Return how many tasks time allows to start."""
        if self.not_before > now:
            return 0
        return len(self.waiting) + sum(time <= now for time, _, _ in self.postponed)

    def starts_at(self) -> float:
        """Return the earliest time at which a task may start, without regard to limits; infinite without a task."""
        if not self.waiting and not self.postponed:
            return math.inf
        return max(self.not_before, -math.inf if self.waiting else self.postponed[0][0])

    def next_task(self, now: float) -> Task:
        if self.postponed and self.postponed[0][0] <= now:
            return heapq.heappop(self.postponed)[2]
        return self.waiting.popleft()

    def unanswered(self) -> int:
        """Return how many of its running tasks count as unanswered: the first one of a host is a fair trial."""
        if self.is_silent:
            return self.running
        return 0 if self.has_answered else max(0, self.running - 1)


class Schedule(Generic[Task]):
    """The tasks of a run that wait. `take` starts one; each task taken ends with `done` or `postpone`."""

    def __init__(self, tasks: Iterable[tuple[str, Task]], limits: Limits) -> None:
        """Plan tasks, each with the host that it asks."""
        self._limits = limits
        self._hosts: dict[str, _Host[Task]] = {}
        self._ready: deque[_Host[Task]] = deque()
        self._last: deque[_Host[Task]] = deque()
        self._later: list[tuple[float, int, _Host[Task]]] = []
        self._numbers = count()
        self._waiting = self._running = self._unanswered = 0
        for name, task in tasks:
            self._host(name).waiting.append(task)
            self._waiting += 1
        for host in self._hosts.values():
            self._queue(host, -math.inf)

    def _host(self, name: str) -> _Host[Task]:
        if (found := self._hosts.get(name)) is None:
            found = self._hosts[name] = _Host()
        return found

    def _queue(self, host: _Host[Task], now: float) -> None:
        """Put a host where it waits for its turn, unless it has no task or no room: then the end of a task queues it."""
        starts_at = host.starts_at()
        if starts_at == math.inf or host.running >= self._limits.connections_per_host:
            return
        if host.queued_for is not None and host.queued_for <= starts_at:
            return
        if starts_at > now:
            host.queued_for = starts_at
            heapq.heappush(self._later, (starts_at, next(self._numbers), host))
            return
        host.queued_for = -math.inf
        (self._last if host.is_silent else self._ready).append(host)

    def take(self, now: float) -> Task | None:
        """Start a task; return None if none may start now."""
        while self._later and self._later[0][0] <= now:
            starts_at, _, host = heapq.heappop(self._later)
            if host.queued_for == starts_at:  # else it was queued again, for an earlier time
                self._requeue(host, now)
        if self._running >= self._limits.connections:
            return None
        for queue in (self._ready, self._last, self._ready):  # a host of the second may belong into the first by now
            if (found := self._turn(queue, now)) is not None:
                return self._start(found, now)
        return None

    def _requeue(self, host: _Host[Task], now: float) -> None:
        host.queued_for = None
        self._queue(host, now)

    def _turn(self, queue: deque[_Host[Task]], now: float) -> _Host[Task] | None:
        """Return the next host of a queue that may start a task."""
        for _ in range(len(queue)):
            host = queue.popleft()
            if host.starts_at() > now or host.is_silent is not (queue is self._last):
                self._requeue(host, now)  # something has changed since it was queued
            elif self._may_start(host):
                host.queued_for = None
                return host
            else:
                queue.append(host)
        return None

    def _may_start(self, host: _Host[Task]) -> bool:
        if host.has_answered and not host.is_silent:
            return True
        return (host.running == 0 and not host.is_silent) or self._unanswered < max(1, self._limits.connections // 2)

    def _start(self, host: _Host[Task], now: float) -> Task:
        task = host.next_task(now)
        self._waiting -= 1
        self._count(host, 1)
        host.not_before = max(host.not_before, now + self._limits.request_pause_s)
        self._queue(host, now)
        return task

    def _count(self, host: _Host[Task], change: int) -> None:
        self._unanswered -= host.unanswered()
        self._running += change
        host.running += change
        self._unanswered += host.unanswered()

    def _mark(self, host: _Host[Task], *, answered: bool) -> None:
        self._unanswered -= host.unanswered()
        host.has_answered, host.is_silent = host.has_answered or answered, not answered
        self._unanswered += host.unanswered()

    def done(self, name: str, now: float, *, answered: bool | None = True) -> None:
        """Note that a task of this host has ended, and whether the host answered; None if it was not asked."""
        host = self._host(name)
        self._count(host, -1)
        if answered is not None:
            self._mark(host, answered=answered)
        self._queue(host, now)

    def postpone(
        self, name: str, task: Task, now: float, pause_s: float, *, answered: bool | None = True, is_held: bool = False
    ) -> None:
        """Take back a task until after a pause; with `is_held`, the whole host starts nothing before that."""
        host = self._host(name)
        heapq.heappush(host.postponed, (now + pause_s, next(self._numbers), task))
        self._waiting += 1
        if is_held:
            host.not_before = max(host.not_before, now + pause_s)
        self.done(name, now, answered=answered)

    def spare(self, name: str, now: float) -> int:
        """Return how many further connections a running task of this host may use: those that no task waits for.

        Less than 0 says how many of those that were lent are needed now.
        """
        host, limits = self._host(name), self._limits
        here, others = host.startable(now), (one for one in self._hosts.values() if one is not host)
        elsewhere = sum(
            min(one.startable(now), limits.connections_per_host - one.running) for one in others if self._may_start(one)
        )
        found = min(limits.connections_per_host - host.running, limits.connections - self._running - elsewhere) - here
        if found <= 0:
            return found
        return 0 if host.not_before > now else min(found, 1 if limits.request_pause_s else found)

    def lend(self, name: str, now: float, change: int) -> None:
        """Count more or fewer connections of a task that runs; its host has answered."""
        host = self._host(name)
        self._mark(host, answered=True)
        self._count(host, change)
        if change > 0:
            host.not_before = max(host.not_before, now + self._limits.request_pause_s)
        self._queue(host, now)

    def pause_s(self, now: float) -> float | None:
        """Return in how many seconds a task may start by time alone, infinite if none may; None if no task waits."""
        if not self._waiting:
            return None
        return max(0.0, self._later[0][0] - now) if self._later else math.inf
