"""Pages of the log: the statements that find the events for a query, and the event where a time begins.

Invariants:

- A page has every line in its range that the query matches, and perhaps others. Its reader filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.staged import OTHER_INPUTS
from manifestlog.engines.postgres.values import hashed
from manifestlog.model.events import EventKind
from manifestlog.model.verdict import Verdict

if TYPE_CHECKING:
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.model.events import Query

PAGE_EVENTS = 1000
_COLUMNS = "seq, ts, kind, checksum, body, details"
_RANGE = "manifest_id = %s AND seq BETWEEN %s AND %s"
_KEYED = "manifest_id = %s AND seq + 0 BETWEEN %s AND %s"
"""So that no plan looks for a key along the numbers, through the whole log."""
_PROBES = 32
_TIMES = "SELECT seq, ts FROM manifestlog.log WHERE manifest_id = %s AND seq = ANY(%s::bigint[]) ORDER BY seq"


class Line(NamedTuple):
    """One row of the log."""

    seq: int
    ts: int
    kind: str
    checksum: bytes | None
    body: bytes | None
    details: bytes | None


class Wanted(NamedTuple):
    """What a statement looks for: conditions on `log` and on `mention`, each with its parameter. None: no such part."""

    log: str | None = None
    mention: str | None = None
    value: object = None
    kinds: tuple[str, ...] = ()


def wanted(query: Query) -> Wanted:
    """Return what finds the events of a query: its rarest mark."""
    if query.checksums is not None:
        digests = [bytes.fromhex(one) for one in sorted(query.checksums)]
        return Wanted("checksum = ANY(%b::bytea[])", "what = ANY(%b::bytea[])", digests)
    if query.source_id is not None:
        return Wanted("source = %b", "what = %b", hashed(query.source_id))
    if query.other_inputs:
        return Wanted(None, "what = %b", OTHER_INPUTS)
    if query.run is not None:
        return Wanted("run = %b", None, hashed(query.run))
    return Wanted(kinds=tuple(sorted({EventKind.PUT if isinstance(one, Verdict) else one for one in query.kinds})))


class Page(NamedTuple):
    """How to read pages of the log."""

    manifest_id: int
    wanted: Wanted = Wanted()
    reverse: bool = False

    def read(self, slot: Slot, first: int, last: int, count: int) -> list[Line]:
        """Return at most `count` lines with numbers from `first` to `last`; fewer only if there are no more."""
        direction = "DESC" if self.reverse else "ASC"
        order, keyed = f"ORDER BY seq {direction} LIMIT %s", f"ORDER BY seq + 0 {direction} LIMIT %s"
        span = (self.manifest_id, first, last)
        log, mention, value, kinds = self.wanted
        parts = [(table, one) for table, one in (("log", log), ("mention", mention)) if one is not None]
        if parts:
            union = " UNION ".join(
                f"(SELECT seq FROM manifestlog.{table} WHERE {_KEYED} AND {one} {keyed})" for table, one in parts
            )
            statement = f"SELECT {_COLUMNS} FROM manifestlog.log WHERE manifest_id = %s AND seq IN ({union}) {order}"
            given = [parameter for _ in parts for parameter in (*span, value, count)]
            return [Line(*one) for one in slot.rows(statement, self.manifest_id, *given, count)]
        condition = f"{_RANGE} AND kind = ANY(%s::text[])" if kinds else _RANGE
        if kinds and EventKind.PUT not in kinds:
            condition += " AND kind <> 'put'"  # as the index has it
        statement = f"SELECT {_COLUMNS} FROM manifestlog.log WHERE {condition} {order}"
        given = [*span, list(kinds), count] if kinds else [*span, count]
        return [Line(*one) for one in slot.rows(statement, *given)]


def search(slot: Slot, manifest_id: int, ts: int, first: int, last: int) -> int:
    """Return the number of the first event from `first` on that is not earlier; `last + 1` if there is none."""
    while first <= last:
        step = max(1, (last - first + 1) // _PROBES)
        places = [*range(first, last, step), last]
        found = slot.rows(_TIMES, manifest_id, places)
        later = [int(seq) for seq, when in found if when >= ts]
        earlier = [int(seq) for seq, when in found if when < ts]
        first = max(earlier, default=first - 1) + 1
        if not later:
            return last + 1
        if later[0] <= first:
            return first
        last = later[0]
        if step == 1:
            return later[0]
    return first
