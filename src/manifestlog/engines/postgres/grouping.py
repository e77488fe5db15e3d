"""Threads that add at the same time share one transaction.

The first one to come does the work; those that come while it works wait, and one of them then does the work of all.

Invariants:

- Each addition gets its own answer or its own error. What one of a group is refused does not concern the others.
- A thread that adds inside its own work, as a signal handler does, waits for nobody.
- A thread is woken when its addition is answered, or when it is its turn to work, and not before.

It knows neither the server nor records.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

A = TypeVar("A")
B = TypeVar("B")


@dataclass(slots=True, eq=False)
class _Asked(Generic[A, B]):
    """One addition, and what became of it."""

    what: A
    thread: int = field(default_factory=threading.get_ident)
    is_answered: bool = False
    answer: B | None = None
    error: BaseException | None = None
    is_left: bool = False
    """Whether its thread does not wait for it any more."""
    turn: threading.Lock | None = None
    """Free when it is answered, or when its thread has to work."""


class Group(Generic[A, B]):
    """The additions of one manifest's threads. `work` takes some, and returns an answer or an error for each."""

    def __init__(self, work: Callable[[list[A]], list[B | Exception]], at_once_max: int) -> None:
        self._work = work
        self._at_once_max = at_once_max
        self._lock = threading.Lock()
        self._waiting: list[_Asked[A, B]] = []
        self._taken: list[_Asked[A, B]] = []
        """Those that are worked on, without the worker's own."""
        self._worker: int | None = None

    def do(self, what: A) -> B:
        """Return the answer to this one, together with others or alone."""
        one: _Asked[A, B] = _Asked(what)
        if self._worker == one.thread:
            self._answer([one])
        else:
            self._take_turn(one)
        if one.error is not None:
            raise one.error
        return one.answer  # type: ignore[return-value] # an answer may itself be None

    def _take_turn(self, one: _Asked[A, B]) -> None:
        try:
            self._begin(one)
            if one.turn is not None:
                one.turn.acquire()
            if not one.is_answered:
                self._answer([one, *self._take()])
        finally:
            self._end(one)

    def _begin(self, one: _Asked[A, B]) -> None:
        """Let this one's thread work, if no other does; else queue it."""
        with self._lock:
            if self._worker is None:
                self._worker = one.thread
            else:
                one.turn = threading.Lock()
                one.turn.acquire()
                self._waiting.append(one)

    def _take(self) -> list[_Asked[A, B]]:
        """Return those that wait, as many as work together with one more."""
        with self._lock:
            self._taken = self._waiting[: self._at_once_max - 1]
            del self._waiting[: self._at_once_max - 1]
            return self._taken

    def _end(self, one: _Asked[A, B]) -> None:
        """Wake the threads that have their answers, and the next worker. An interrupt may have left some unanswered."""
        with self._lock:
            one.is_left = True
            if not one.is_answered and one in self._waiting:
                self._waiting.remove(one)
            if self._worker != one.thread:
                return
            taken, self._taken = self._taken, []
            self._waiting[:0] = [each for each in taken if not each.is_answered and not each.is_left]
            awake = [each for each in taken if each.is_answered]
            following = self._waiting.pop(0) if self._waiting else None
            self._worker = None if following is None else following.thread
        for each in (*awake, *([] if following is None else [following])):
            if each.turn is not None:
                each.turn.release()

    def _answer(self, some: list[_Asked[A, B]]) -> None:
        try:
            found = self._work([each.what for each in some])
        except BaseException as error:
            for each in some:
                each.error, each.is_answered = error, True
            raise
        for each, answer in zip(some, found, strict=True):
            if isinstance(answer, Exception):
                each.error = answer
            else:
                each.answer = answer
            each.is_answered = True
