"""Groups the additions of threads that add at the same time, so that they share one transaction.

The first thread does the work. Threads that arrive meanwhile wait, and one of them then does the work of all. A thread
that was answered is likely to return at once. So the next worker waits for such threads, for a part of the time that
the last work took; otherwise it would start alone, and all others would wait for two transactions instead of one.

Invariants:

- Each addition gets its own answer or its own error. If one of a group is refused, that does not affect the others.
- A thread that adds inside its own work, as a signal handler does, waits for no other thread.
- A thread is woken only when its addition is answered, or when it is its turn to work.
- A single thread does not wait: a worker expects only as many threads as there were at the end of the last work.

It does not know the server or records.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

A = TypeVar("A")
B = TypeVar("B")

_PATIENCE, _PATIENCE_S_MAX = 0.5, 0.005
"""For which part of the last work's time the next one waits for others, and for how long at most."""
_NAP_S = 1.0
"""A Ctrl-C that comes at the very moment at which a thread begins to wait does not end its wait. So no wait is long."""


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
        self._expected = 1
        """How many were here when the last work was done."""
        self._last_s = 0.0
        """How long that has taken."""
        self._wanted = 0
        """How many have to wait until `_come` is set; 0: nobody waits for it."""
        self._come = threading.Event()

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
            while one.turn is not None and not one.turn.acquire(timeout=_NAP_S):
                pass
            if not one.is_answered:
                self._await_others()
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
                if len(self._waiting) == self._wanted:
                    self._come.set()

    def _await_others(self) -> None:
        """Let those that were here a moment ago come back."""
        others = min(self._expected, self._at_once_max) - 1
        if others <= 0:
            return
        with self._lock:
            if len(self._waiting) >= others:
                return
            self._wanted = others
            self._come.clear()
        self._come.wait(min(_PATIENCE * self._last_s, _PATIENCE_S_MAX))
        self._wanted = 0

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
        began = time.monotonic()
        try:
            found = self._work([each.what for each in some])
        except BaseException as error:
            for each in some:
                each.error, each.is_answered = error, True
            raise
        self._last_s, self._expected = time.monotonic() - began, len(some) + len(self._waiting)
        for each, answer in zip(some, found, strict=True):
            if isinstance(answer, Exception):
                each.error = answer
            else:
                each.answer = answer
            each.is_answered = True
