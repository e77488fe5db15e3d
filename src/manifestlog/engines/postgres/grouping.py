"""Threads that add at the same time share one transaction.

The first one to come does the work; those that come while it works wait, and one of them then does the work of all.

Invariants:

- Each addition gets its own answer or its own error. What one of a group is refused does not concern the others.
- A thread that adds inside its own work, as a signal handler does, waits for nobody.

It knows neither the server nor records.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

A = TypeVar("A")
B = TypeVar("B")


@dataclass(slots=True, eq=False)
class _Asked(Generic[A, B]):
    """One addition, and what became of it."""

    what: A
    finished: bool = False
    answer: B | None = None
    error: BaseException | None = None


class Group(Generic[A, B]):
    """The additions of one manifest's threads. `work` takes some, and returns an answer or an error for each."""

    def __init__(self, work: Callable[[list[A]], list[B | Exception]], at_once_max: int) -> None:
        self._work = work
        self._at_once_max = at_once_max
        self._turn = threading.Condition()
        self._waiting: list[_Asked[A, B]] = []
        self._worker: int | None = None

    def do(self, what: A) -> B:
        """Return the answer to this one, together with others or alone."""
        one: _Asked[A, B] = _Asked(what)
        if self._worker == threading.get_ident():
            self._answer([one])
        elif some := self._wait_for_turn(one):
            self._work_on(some)
        if one.error is not None:
            raise one.error
        return one.answer  # type: ignore[return-value] # an answer may itself be None

    def _wait_for_turn(self, one: _Asked[A, B]) -> list[_Asked[A, B]]:
        """Return all that wait, this one among them, when it is this thread's turn; nothing if another has answered."""
        with self._turn:
            self._waiting.append(one)
            try:
                while self._worker is not None and not one.finished:
                    self._turn.wait()
            except BaseException:
                if one in self._waiting:
                    self._waiting.remove(one)
                raise
            if one.finished:
                return []
            self._worker = threading.get_ident()
            others = [each for each in self._waiting if each is not one]
            self._waiting = others[self._at_once_max - 1 :]
            return [one, *others[: self._at_once_max - 1]]

    def _work_on(self, some: list[_Asked[A, B]]) -> None:
        try:
            self._answer(some)
        finally:
            with self._turn:
                self._worker = None
                self._turn.notify_all()

    def _answer(self, some: list[_Asked[A, B]]) -> None:
        try:
            found = self._work([each.what for each in some])
        except BaseException as error:
            for each in some:
                each.error, each.finished = error, True
            raise
        for each, answer in zip(some, found, strict=True):
            if isinstance(answer, Exception):
                each.error = answer
            else:
                each.answer = answer
            each.finished = True
