"""Additions: one per round trip if possible, a batch in one transaction, and those of waiting threads together.

Invariants:

- A batch is written completely or not at all. Of threads that share a transaction, each gets its own answer or error.
- The answer `duplicate` promises a record on the disk: if its writer may not have waited for the disk, this client
  does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.engines.postgres import reading, single, together
from manifestlog.engines.postgres.ahead import Ahead
from manifestlog.engines.postgres.fresh import fresh
from manifestlog.engines.postgres.grouping import Group
from manifestlog.engines.postgres.lookup import Known
from manifestlog.errors import ManifestError
from manifestlog.model import codec
from manifestlog.model.rows import as_seen_by, source_key
from manifestlog.model.verdict import Verdict
from manifestlog.model.writes import Added, plan_add

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manifestlog.engines.postgres.operation import Writer
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.together import Ready
    from manifestlog.engines.postgres.writing import Transaction
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details
    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Rules

_TOGETHER_MAX = 64
_OF_UNKNOWN = frozenset({Verdict.NEW, Verdict.CHANGED})


class Addition(NamedTuple):
    """One content to record."""

    record: Encoded
    live: bool = False
    details: Details | None = None


class Batch(NamedTuple):
    """Contents to record together, and their plans if all of them may be unknown."""

    some: Sequence[Addition]
    ready: Ready | None


class Additions:
    """What adds to one manifest. `metadata` are those of the opening, for plans about unknown contents."""

    def __init__(self, writer: Writer, metadata: Row) -> None:
        self._writer = writer
        self._rules: Rules = writer.rules(metadata)
        self._were_unknown = True
        """Whether the last batch had unknown contents only, as the next one then may."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget who waits: in a forked child nobody does."""
        self._group: Group[Addition, Added] = Group(self._together, _TOGETHER_MAX)

    def add(self, one: Addition) -> Added:
        """Record one content, together with those of other threads that wait; alone if it depends on a claim."""
        if self._writer.pool.fence is not None:
            (answer,) = self._together([one])
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self._group.do(one)

    def add_batch(self, some: Sequence[Addition]) -> list[Added]:
        """Record many contents, all or none."""
        return self._add_batch(self._batch(some), None)

    def add_batches(self, batches: Iterable[Sequence[Addition]]) -> Iterator[list[Added]]:
        """Record each batch, all of it or nothing. The next one is prepared while the server writes this one."""
        ahead, pool = Ahead(map(self._batch, batches)), self._writer.pool
        while (batch := ahead.take()) is not None:
            yield self._add_batch(batch, lambda: pool.elsewhere(ahead.fetch))

    def _batch(self, some: Sequence[Addition]) -> Batch:
        return Batch(some, together.ready(some, self._rules) if self._were_unknown else None)

    def _add_batch(self, batch: Batch, meanwhile: Callable[[], None] | None) -> list[Added]:
        found = self._note(self._write(batch.some, self._at_once(batch, meanwhile), meanwhile=meanwhile))
        errors = [one for one in found if isinstance(one, Exception)]
        if errors:
            raise errors[0]
        return [one for one in found if isinstance(one, Added)]

    def _note(self, answers: list[Added | Exception]) -> list[Added | Exception]:
        self._were_unknown = all(isinstance(one, Added) and one.verdict in _OF_UNKNOWN for one in answers)
        return answers

    def _at_once(
        self, batch: Batch, meanwhile: Callable[[], None] | None = None
    ) -> Callable[[Slot], list[Added | Exception] | None] | None:
        """Return what writes a batch in one round trip, if it has unknown contents only; None if that cannot be."""
        writer, ready = self._writer, batch.ready
        if ready is None:
            return None

        def first(slot: Slot) -> list[Added | Exception] | None:
            lanes = writer.lanes(one.record[2][0] for one in batch.some)
            found = together.add(slot, writer.id, lanes, ready, writer.limits, meanwhile)
            if found is None:
                return None
            answers, seq = found
            writer.note(seq, len(answers))
            return list(answers)

        return first

    def _together(self, some: list[Addition]) -> list[Added | Exception]:
        if len(some) > 1:
            return self._note(self._write(some, self._at_once(self._batch(some)), each_for_itself=True))
        (one,) = some

        def first(slot: Slot) -> list[Added | Exception] | None:
            answer = self._single(slot, one) or self._duplicate(slot, one)
            return None if answer is None else [answer]

        return self._write(some, first)

    def _single(self, slot: Slot, one: Addition) -> Added | None:
        writer, record = self._writer, one.record
        prepared = fresh(record, self._rules, live=one.live, details=one.details)
        if prepared is None:
            return None
        (lane,) = writer.lanes(record[2])
        found = single.add(slot, writer.id, lane, prepared, writer.limits, live=one.live)
        if found is None:
            return None
        answer, seq = found
        writer.note(seq, 1)
        return answer

    def _duplicate(self, slot: Slot, one: Addition) -> Added | None:
        """Return the answer if this addition writes nothing, from one snapshot and without a lock; else None."""
        known = reading.ahead(slot, self._writer.id, [one.record])
        plan = plan_add(known, one.record, self._rules, live=one.live, details=one.details)
        if plan.record is not None or plan.details is not None:
            return None
        return plan.answer

    def _write(
        self,
        some: Sequence[Addition],
        first: Callable[[Slot], list[Added | Exception] | None] | None = None,
        *,
        each_for_itself: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Added | Exception]:
        def work(tx: Transaction) -> tuple[list[Added | Exception], list[Any]]:
            records = [one.record for one in some]
            lanes = self._writer.lanes(source_id for record in records for source_id in record[2])
            tx.begin(lanes, {record[1]: record[0] for record in reversed(records)}, _rows(some))
            rules = self._writer.rules(tx.metadata)
            answers = [_planned(tx, one, rules, each_for_itself=each_for_itself) for one in some]
            return answers, [one.verdict if isinstance(one, Added) else str(one) for one in answers]

        def recall(slot: Slot, told: list[str]) -> list[Added | Exception]:
            known = Known(slot, self._writer.id)
            return [_recalled(known, verdict, row) for verdict, row in zip(told, _rows(some), strict=True)]

        answers = self._writer.write(work, recall, first, meanwhile)
        if known := [one.record[1] for one, answer in zip(some, answers, strict=True) if _is_duplicate(answer)]:
            self._writer.confirm(known)
        return answers


def _rows(some: Iterable[Addition]) -> list[Row]:
    return [codec.loads(one.record[0]) for one in some]


def _planned(tx: Transaction, one: Addition, rules: Rules, *, each_for_itself: bool) -> Added | Exception:
    try:
        plan = plan_add(tx.staged, one.record, rules, live=one.live, details=one.details)
    except ManifestError as error:
        if each_for_itself:
            return error
        raise
    tx.staged.take(plan)
    return plan.answer


def _recalled(known: Known, told: str, given: Row) -> Added | Exception:
    """Return the answer of an earlier try again, with the record as it is now."""
    if told not in set(Verdict):
        return ManifestError(told)
    now = known.row(given["checksum"])
    return Added(Verdict(told), None if now is None else as_seen_by(now, source_key(given)))


def _is_duplicate(answer: Added | Exception) -> bool:
    return isinstance(answer, Added) and answer.verdict is Verdict.DUPLICATE
