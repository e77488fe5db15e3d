"""Additions: one in a round trip where that is possible, a batch in one transaction, and those of waiting threads together.

Invariants:

- A batch is written whole or not at all. Of threads that share a transaction, each gets its own answer or error.
- The answer `duplicate` promises a record on disk: if its writer may not have waited for that, this one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.engines.postgres import reading, single, upkeep
from manifestlog.engines.postgres.grouping import Group
from manifestlog.engines.postgres.lookup import Known
from manifestlog.errors import ManifestError
from manifestlog.model import codec
from manifestlog.model.rows import as_seen_by, source_key
from manifestlog.model.verdict import Verdict
from manifestlog.model.writes import Added, plan_add

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manifestlog.engines.postgres.connections import Slot
    from manifestlog.engines.postgres.operation import Writer
    from manifestlog.engines.postgres.writing import Transaction
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details
    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Rules

_TOGETHER_MAX = 64


class Addition(NamedTuple):
    """One content to record."""

    record: Encoded
    live: bool = False
    details: Details | None = None


class Additions:
    """What adds to one manifest. `metadata` are those of the opening, for plans about unknown contents."""

    def __init__(self, writer: Writer, metadata: Row) -> None:
        self._writer = writer
        self._rules: Rules = writer.rules(metadata)
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
        found = self._write(some)
        errors = [one for one in found if isinstance(one, Exception)]
        if errors:
            raise errors[0]
        return [one for one in found if isinstance(one, Added)]

    def _together(self, some: list[Addition]) -> list[Added | Exception]:
        if len(some) > 1:
            return self._write(some, each_for_itself=True)
        one = some[0]
        (lane,) = self._writer.lanes(one.record[2][:1])
        prepared = single.ready(one.record, self._rules, lane, live=one.live, details=one.details)

        def first(slot: Slot) -> list[Added | Exception] | None:
            answer = (
                None if prepared is None else single.add(slot, self._writer.id, prepared, self._writer.fenced_limits)
            )
            if answer is None:
                answer = self._duplicate(slot, one)
            return None if answer is None else [answer]

        return self._write(some, first)

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
    ) -> list[Added | Exception]:
        records = [one.record for one in some]
        rows: list[Row] = [codec.loads(record[0]) for record in records]
        lanes = self._writer.lanes(source_id for record in records for source_id in record[2])
        contents = {record[1]: record[0] for record in reversed(records)}

        def work(tx: Transaction) -> tuple[list[Added | Exception], list[Any]]:
            tx.begin(lanes, contents, rows)
            rules = self._writer.rules(tx.metadata)
            answers = [_planned(tx, one, rules, each_for_itself=each_for_itself) for one in some]
            return answers, [one.verdict if isinstance(one, Added) else str(one) for one in answers]

        def recall(slot: Slot, told: list[str]) -> list[Added | Exception]:
            known = Known(slot, self._writer.id)
            return [_recalled(known, verdict, row) for verdict, row in zip(told, rows, strict=True)]

        answers = self._writer.write(work, recall, first)
        self._confirm([record[1] for record, answer in zip(records, answers, strict=True) if _is_duplicate(answer)])
        return answers

    def _confirm(self, checksums: list[str]) -> None:
        level = self._writer.limits.synchronous
        if checksums and level is not None:
            self._writer.pool.call(lambda slot: upkeep.confirm(slot, self._writer.id, checksums, level))


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
