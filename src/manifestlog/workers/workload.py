"""The pool's record of one worker process: its tasks, and how many more it can take."""

from __future__ import annotations

from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from manifestlog.workers.inbox import Inbox, Outbox
from manifestlog.workers.messages import Given


@dataclass(slots=True, eq=False)
class Turn:
    """A task, and how often it has lost its worker."""

    task: Any
    losses: int = 0
    is_suspect: bool = False
    """Whether it may have killed its workers, and runs alone."""


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process and its tasks."""

    process: BaseProcess
    inbox: Inbox
    outbox: Outbox
    room: int
    """How many tasks it may have at once."""
    turns: dict[int, Turn] = field(default_factory=dict)
    unsent: list[bytes] = field(default_factory=list)
    """Messages for it that go out together."""
    is_ending: bool = False
    """Whether it was told that there is no more to do."""

    @property
    def free(self) -> int:
        if self.is_ending or any(one.is_suspect for one in self.turns.values()):
            return 0
        return self.room - len(self.turns)

    def assign(self, turn: Turn) -> Given:
        number = next(number for number in range(self.room) if number not in self.turns)
        self.turns[number] = turn
        return Given(number, turn.task)
