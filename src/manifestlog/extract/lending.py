"""Lends a download the connections that no source waits for: the messages between the run and its workers.

Invariants:

- A download has one connection of its own. It uses further ones only after the run has granted them.
- The run may reduce a grant. A connection counts until the download reports that it no longer holds it, or ends.

::

    worker → run      Wants     how many further connections a download holds, and how many it could use
    run → worker      Granted   how many it may have

`schedule` knows which connections are free.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from manifestlog.extract.schedule import Schedule

_ASK_EVERY_S = 1.0


class Wants(NamedTuple):
    """What a download tells the run. Connections are those beyond its first."""

    number: int
    """Which answer belongs to it."""
    source: tuple[str, str]
    host: str
    held: int
    wanted: int


class Granted(NamedTuple):
    """The run's answer."""

    number: int
    connections: int


class Lender:
    """The run's side: it knows how many connections each download has beyond its first."""

    def __init__(self, schedule: Schedule[Any]) -> None:
        self._schedule = schedule
        self._lent: dict[tuple[str, str], tuple[str, int]] = {}

    def answer(self, asked: Wants, now: float) -> Granted:
        """Note what a download holds, and grant it what nobody waits for."""
        self._count(asked, asked.held, now)
        granted = min(asked.wanted, max(0, asked.held + self._schedule.spare(asked.host, now)))
        self._count(asked, max(asked.held, granted), now)
        return Granted(asked.number, granted)

    def _count(self, asked: Wants, held: int, now: float) -> None:
        _, before = self._lent.get(asked.source, (asked.host, 0))
        self._schedule.lend(asked.host, now, held - before)
        self._lent[asked.source] = asked.host, held

    def end(self, source: tuple[str, str], now: float) -> None:
        """Take everything back: the turn of this source has ended."""
        if (lent := self._lent.pop(source, None)) is not None:
            self._schedule.lend(lent[0], now, -lent[1])


class Loan:
    """The further connections of one download."""

    def __init__(self, number: int, source: tuple[str, str], host: str, send: Callable[[Any], None]) -> None:
        self.granted = 0
        self.changed = threading.Event()
        """Set with each answer."""
        self.number = number
        self._source, self._host, self._send = source, host, send
        self._told: tuple[int, int] | None = None
        self._next_at = 0.0

    def ask(self, held: int, wanted: int) -> None:
        """Tell the run what has changed, or once a second that nothing has: others may wait by now."""
        now = time.monotonic()
        if (held, wanted) == self._told and (now < self._next_at or not held | wanted):
            return
        self._told, self._next_at = (held, wanted), now + _ASK_EVERY_S
        self._send(Wants(self.number, self._source, self._host, held, wanted))


class Lending:
    """The loans of a process."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self._numbers = itertools.count()
        self._loans: dict[int, Loan] = {}

    def begin(self, source: tuple[str, str], host: str) -> Loan:
        """Return the loan of a download that begins."""
        number = next(self._numbers)
        loan = self._loans[number] = Loan(number, source, host, self._send)
        return loan

    def end(self, loan: Loan) -> None:
        """Forget a loan. The run takes its connections back when the source's turn ends."""
        self._loans.pop(loan.number, None)

    def take(self, answer: Granted) -> None:
        """Receive an answer; one that comes too late is ignored."""
        if (loan := self._loans.get(answer.number)) is not None:
            loan.granted = answer.connections
            loan.changed.set()
