"""The usual addition in one round trip: one unknown content of a source that has nothing else at that time.

Under the lock of the lane, the server writes the plan that fits its state, or nothing.

Usually a first statement takes the lock, so that the next one sees everything written before. A client that is alone
sends both in one statement. This statement sees the state before it had the lock, so it fails if others have written
meanwhile.

Invariants:

- It ends with its round trip: nobody waits for this client while a lock is held.
- Every write moves the end of the log. So a client that has the lock, and finds the end where it saw it, has seen all
  writes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.engines.postgres.fresh import numbered
from manifestlog.engines.postgres.writing import DONE, NOW, begin, end, lock_lane
from manifestlog.model import codec

if TYPE_CHECKING:
    from manifestlog.engines.postgres.fresh import Fresh
    from manifestlog.engines.postgres.limits import Limits
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.wire import Rows
    from manifestlog.model.verdict import Verdict
    from manifestlog.model.writes import Added

_SEEN = """
    WITH fact AS MATERIALIZED (
        SELECT EXISTS (SELECT 1 FROM manifestlog.sighting WHERE manifest_id = {manifest} AND pair = {pair}) AS has_other
        WHERE"""
_LOCKED_AND_SEEN = """
    WITH locked AS MATERIALIZED (
        SELECT 1 FROM manifestlog.lane WHERE manifest_id = {manifest} AND lane = {lane} FOR UPDATE
    ), fact AS MATERIALIZED (
        SELECT EXISTS (SELECT 1 FROM manifestlog.sighting WHERE manifest_id = {manifest} AND pair = {pair}) AS has_other,
            e.seq, e.records
        FROM locked, manifestlog.feed e WHERE e.manifest_id = {manifest} AND"""
_OP_UNLESS_OTHERS_CAME = "CASE WHEN t.seq = f.seq + 1 AND t.records = f.records + 1 THEN {op} END"
"""Null, which the table refuses, if others have written since the facts were read."""


def _adding(op: str) -> str:
    """Return the statement from its condition on, which leaves this as the number of the operation."""
    return f"""
        NOT EXISTS (SELECT 1 FROM manifestlog.sighting
                WHERE manifest_id = {{manifest}} AND source = {{source}} AND ts = {{ts}})
            AND NOT ({{live}} AND EXISTS (SELECT 1 FROM manifestlog.sighting
                WHERE manifest_id = {{manifest}} AND pair = {{pair}} AND ts >= {{ts}}))
    ), won AS (
        INSERT INTO manifestlog.content (manifest_id, checksum, body)
        SELECT {{manifest}}, {{checksum}}, {{body}} FROM fact ON CONFLICT DO NOTHING RETURNING 1
    ), seen AS (
        INSERT INTO manifestlog.sighting (manifest_id, pair, ts, tie, checksum, source, dataset)
        SELECT {{manifest}}, {{pair}}, {{ts}}, {{tie}}, {{checksum}}, {{source}}, {{dataset}} FROM won RETURNING 1
    ), tick AS (
        UPDATE manifestlog.feed SET seq = seq + 1, records = records + 1, ts = greatest(ts + 1, n.now),
            changed = greatest(ts + 1, n.now)
        FROM (SELECT {NOW} AS now, set_config('synchronous_commit', {{level}}, true)) n
        WHERE manifest_id = {{manifest}} AND EXISTS (SELECT 1 FROM seen) RETURNING seq, ts, records
    ), events AS (
        INSERT INTO manifestlog.log (manifest_id, seq, ts, kind, checksum, source, run, body, details)
        SELECT {{manifest}}, t.seq, t.ts, 'put', {{checksum}}, {{source}}, {{run}}::bytea, {{body}},
            CASE WHEN f.has_other THEN {{other_details}}::bytea ELSE {{details}}::bytea END
        FROM tick t, fact f
    ), done AS (
        INSERT INTO manifestlog.writer AS w (writer, manifest_id, op, seq, flushed, answers, ts)
        SELECT {{writer}}, {{manifest}}, {op}, t.seq, CASE WHEN {{level}} = 'off' THEN 0 ELSE t.seq END,
            CASE WHEN f.has_other THEN {{other_answers}}::bytea ELSE {{answers}}::bytea END, t.ts
        FROM tick t, fact f
        {DONE}
    )"""


_MENTIONED = """, mentions AS (
        INSERT INTO manifestlog.mention (manifest_id, what, seq)
        SELECT {manifest}, u.what, t.seq FROM tick t, unnest({mentions}::bytea[]) AS u(what)
    )"""
_FOUND = " SELECT f.has_other, t.seq FROM tick t, fact f"


class _Parameters(NamedTuple):
    manifest: int
    lane: int
    pair: bytes
    source: bytes
    ts: int
    live: bool
    checksum: bytes
    body: bytes
    tie: int
    dataset: bytes
    level: str
    run: bytes | None
    details: bytes | None
    other_details: bytes | None
    writer: bytes
    op: int
    answers: bytes
    other_answers: bytes
    mentions: tuple[bytes, ...]


def _statements(seen: str, op: str) -> tuple[str, str]:
    """Return the statement for an event that mentions nothing, and the one for any other."""
    add = seen + _adding(op)
    return numbered(add + _FOUND, _Parameters), numbered(add + _MENTIONED + _FOUND, _Parameters)


_AFTER_LOCK = _statements(_SEEN, "{op}")
_ALONE = _statements(_LOCKED_AND_SEEN, _OP_UNLESS_OTHERS_CAME)


def add(slot: Slot, manifest_id: int, lane: int, one: Fresh, limits: Limits, *, live: bool) -> tuple[Added, int] | None:
    """Write this addition, and return its answer and the number of its event; None if nothing was written."""
    answers, other_answers = (_told(answer.verdict) for answer in one.answers)
    given = _Parameters(
        *(manifest_id, lane, one.pair, one.source, one.ts, live, one.checksum, one.body, one.tie, one.dataset),
        *(limits.level, one.run, one.details, one.other_details, slot.writer, slot.op, answers, other_answers),
        one.mentions,
    )
    slot.in_doubt = True
    rows = _alone(slot, given) if limits.is_alone and slot.has_session else _after_lock(slot, given, limits)
    slot.in_doubt = False
    return (one.answers[rows[0][0]], rows[0][1]) if rows else None


def _alone(slot: Slot, given: _Parameters) -> Rows:
    return slot.rows(*_filled(_ALONE, given))


def _after_lock(slot: Slot, given: _Parameters, limits: Limits) -> Rows:
    with slot.script():
        begin(slot, limits)
        lock_lane(slot, given.manifest, given.lane, limits)
        found = slot.send(*_filled(_AFTER_LOCK, given))
        end(slot, limits)
    return found.rows


def _filled(statements: tuple[str, str], given: _Parameters) -> tuple[Any, ...]:
    """Return the statement that fits, and its parameters."""
    statement, mentioning = statements
    return (mentioning, *given) if given.mentions else (statement, *given[:-1])


@lru_cache
def _told(verdict: Verdict) -> bytes:
    return codec.dumps([verdict])
