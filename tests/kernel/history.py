"""Whether what many processes were told about one checksum can be true: a checker of linearizability.

Invariants:

- A checksum is there or not; each operation says what it saw of that, and what it left. The operations of a history are
  right when each can be given one moment between its beginning and its end, so that all of them agree in that order.
- What a killed process had begun may have happened or not, but not after its death.

This one rule says: what was acknowledged is there, one of many wins, nobody reads the past, nothing comes back.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Moment = tuple[bool, frozenset[int]]
    """Whether the checksum is there, and which of the open operations have had their moment."""


class Op(NamedTuple):
    """Something that somebody did with a checksum, between two times of one clock."""

    start: int
    end: int
    saw: bool | None
    """Whether the checksum was there before; None when the answer does not tell."""
    left: bool | None
    """Whether it was there afterwards; None when the operation changes nothing."""
    sure: bool
    """Whether it happened; a killed process's last operation may not have."""
    who: str


def contradiction(ops: Iterable[Op]) -> str | None:
    """None when there is an order in which every answer is right; else the first answer that no order explains."""
    open_ops: dict[int, Op] = {}
    moments: set[Moment] = {(False, frozenset())}
    for is_end, number, op in _events(ops):
        if not is_end:
            open_ops[number] = op
            continue
        reached = _closure(moments, open_ops)
        if op.sure:
            reached = {moment for moment in reached if number in moment[1]}
            if not reached:
                others = sorted(open_ops.values(), key=attrgetter("start"))
                return f"{op} cannot be; there were {sorted({there for there, _ in moments})}, open {others}"
        del open_ops[number]
        moments = {(there, done - {number}) for there, done in reached}
    return None


def _events(ops: Iterable[Op]) -> Iterator[tuple[bool, int, Op]]:
    """Beginnings and ends in the order of time; of one time, beginnings first."""
    numbered = list(enumerate(ops))
    begins = ((op.start, False, number, op) for number, op in numbered)
    ends = ((op.end, True, number, op) for number, op in numbered)
    for _, is_end, number, op in sorted(chain(begins, ends), key=lambda event: event[:3]):
        yield is_end, number, op


def _closure(moments: set[Moment], open_ops: dict[int, Op]) -> set[Moment]:
    """Every moment that can be reached by letting open operations happen."""
    reached = set(moments)
    waiting = list(moments)
    while waiting:
        there, done = waiting.pop()
        for number, op in open_ops.items():
            if number in done or op.saw not in (None, there):
                continue
            after: Moment = (there if op.left is None else op.left, done | {number})
            if after not in reached:
                reached.add(after)
                waiting.append(after)
    return reached
