"""The usual addition in one round trip: unknown content of a source that has nothing else at that time.

The client plans it for each of the two states that the source may be in, and the server writes the plan that fits the
state that it finds under the lock of the lane, or nothing.

Invariants:

- `model.writes` decides, as everywhere: the server only compares what it has with what the plans were made for.
- It ends with its round trip: nobody waits for this client while a lock is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.staged import logged
from manifestlog.engines.postgres.values import Seen, seen_in
from manifestlog.engines.postgres.writing import BEGIN, LANE, NOW, check_claims, flush, settle
from manifestlog.model import codec
from manifestlog.model.events import EventKind
from manifestlog.model.rows import Sighting
from manifestlog.model.writes import plan_add

if TYPE_CHECKING:
    from manifestlog.engines.postgres.connections import Slot
    from manifestlog.engines.postgres.staged import Logged
    from manifestlog.engines.postgres.writing import Limits
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details
    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Added, Rules

_ADD = f"""
    WITH fact AS MATERIALIZED (
        SELECT EXISTS (SELECT 1 FROM manifestlog.sighting WHERE manifest_id = %s AND pair = %b) AS has_other
        WHERE NOT EXISTS (SELECT 1 FROM manifestlog.sighting WHERE manifest_id = %s AND source = %b AND ts = %s)
            AND NOT (%s AND EXISTS (SELECT 1 FROM manifestlog.sighting WHERE manifest_id = %s AND pair = %b AND ts >= %s))
    ), won AS (
        INSERT INTO manifestlog.content (manifest_id, checksum, body) SELECT %s, %b, %b FROM fact
        ON CONFLICT DO NOTHING RETURNING checksum
    ), seen AS (
        INSERT INTO manifestlog.sighting (manifest_id, pair, ts, tie, checksum, source, dataset)
        SELECT %s::int, %b::bytea, %s::bigint, %s::bigint, won.checksum, %b::bytea, %b::bytea FROM won
    ), tick AS (
        UPDATE manifestlog.feed SET seq = seq + 1, records = records + 1, ts = greatest(ts + 1, n.now),
            changed = greatest(ts + 1, n.now)
        FROM (SELECT {NOW} AS now) n
        WHERE manifest_id = %s AND EXISTS (SELECT 1 FROM won) RETURNING seq, ts
    ), events AS (
        INSERT INTO manifestlog.log (manifest_id, seq, ts, kind, checksum, source, run, body, details)
        SELECT %s::int, t.seq, t.ts, 'put', %b::bytea, %b::bytea, %b::bytea, %b::bytea,
            CASE WHEN f.has_other THEN %b::bytea ELSE %b::bytea END
        FROM tick t, fact f
    ), mentions AS (
        INSERT INTO manifestlog.mention (manifest_id, what, seq)
        SELECT %s::int, u.what, t.seq FROM tick t, unnest(%b::bytea[]) AS u(what)
    ), done AS (
        INSERT INTO manifestlog.writer AS w (writer, manifest_id, op, seq, flushed, answers, ts)
        SELECT %b, %s::int, %s::bigint, t.seq, 0, CASE WHEN f.has_other THEN %b::bytea ELSE %b::bytea END, {NOW}
        FROM tick t, fact f
        ON CONFLICT (writer) DO UPDATE SET op = CASE WHEN w.op < excluded.op THEN excluded.op END,
            seq = excluded.seq, answers = excluded.answers, ts = excluded.ts
    )
    SELECT f.has_other FROM tick, fact f"""


class _Assumed:
    """A manifest that does not know the content, and of its source has only an earlier sighting, or none."""

    def __init__(self, latest: Sighting | None) -> None:
        self._latest = latest

    def might_know(self, checksum: str, source_id: str) -> bool:
        del checksum, source_id
        return self._latest is not None

    def row(self, checksum: str) -> None:
        del checksum

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        del source_id, dataset, moment
        return [] if self._latest is None else [self._latest]


class Ready(NamedTuple):
    """An addition with its two plans: for a source without a record in its dataset, and for one that has some."""

    record: Encoded
    live: bool
    lane: int
    seen: Seen
    event: Logged
    details: tuple[bytes | None, bytes | None]
    answers: tuple[Added, Added]


def ready(record: Encoded, rules: Rules, lane: int, *, live: bool, details: Details | None) -> Ready | None:
    """Return the addition with its plans; None for one that needs the general way."""
    raw, checksum, source_ids = record
    row: Row = codec.loads(raw)
    if len(source_ids) != 1 or "also_seen" in row:
        return None
    before = Sighting(("", 0), row["dataset"], "")
    plans = [plan_add(_Assumed(one), record, rules, live=live, details=details) for one in (None, before)]
    if any(plan.record is not record or plan.answer.row is not None for plan in plans):
        return None
    (seen,) = seen_in(row)
    events = [logged(EventKind.PUT, checksum, row, raw, plan.details or {}) for plan in plans]
    answers = plans[0].answer, plans[1].answer
    return Ready(record, live, lane, seen, events[0], (events[0].details, events[1].details), answers)


def add(slot: Slot, manifest_id: int, one: Ready, limits: Limits) -> Added | None:
    """Write this addition, or nothing if the manifest is in another state; then return None."""
    raw, (pair, ts, tie, source, dataset), event = one.record[0], one.seen, one.event
    digest, (new, other) = event.checksum, one.details
    told = [codec.dumps([answer.verdict]) for answer in one.answers]
    slot.in_doubt = True
    with slot.script():
        if not slot.has_session:  # else a script without BEGIN is one transaction
            slot.send(BEGIN)
        settle(slot, limits)
        check_claims(slot, limits)
        slot.send(LANE, manifest_id, one.lane)
        found = slot.send(
            _ADD,
            *(manifest_id, pair, manifest_id, source, ts, one.live, manifest_id, pair, ts),
            *(manifest_id, digest, raw),
            *(manifest_id, pair, ts, tie, source, dataset),
            manifest_id,
            *(manifest_id, digest, event.source, event.run, raw, other, new),
            *(manifest_id, list(event.mentions)),
            *(slot.writer, manifest_id, slot.op, told[1], told[0]),
        )
        if slot.has_session:
            slot.end_transaction()
        else:
            slot.send("COMMIT")
        flush(slot, limits)
    slot.in_doubt = False
    return one.answers[found.rows[0][0]] if found.rows else None
