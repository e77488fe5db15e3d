"""Several additions in one round trip: unknown contents of sources that have nothing else at those times.

It is for batches, and for additions of threads that wait for each other. Either all of them fit the state of the
server, or nothing is written.

Invariants:

- It ends with its round trip: nobody waits for this client while a lock is held.
- No two additions have the same content, or the same source at the same time. So each plan is valid whatever happens to
  the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg

from manifestlog.engines.postgres.fresh import fresh, numbered
from manifestlog.engines.postgres.wire import array
from manifestlog.engines.postgres.writing import DONE, NOW, begin, end, lock_lanes
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from manifestlog.engines.postgres.fresh import Fresh
    from manifestlog.engines.postgres.limits import Limits
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.wire import Array
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details
    from manifestlog.model.writes import Added, Rules

# Facts are scalar queries: the server may make a join of EXISTS, and read a whole index for it.
_ADD = f"""
    WITH fact AS MATERIALIZED (
        SELECT g.*, g.again OR (SELECT 1 FROM manifestlog.sighting s
                WHERE s.manifest_id = {{manifest}} AND s.pair = g.pair LIMIT 1) IS NOT NULL AS has_other,
            (SELECT 1 FROM manifestlog.content c WHERE c.manifest_id = {{manifest}} AND c.checksum = g.checksum) IS NULL
            AND (SELECT 1 FROM manifestlog.sighting s
                WHERE s.manifest_id = {{manifest}} AND s.source = g.source AND s.ts = g.ts LIMIT 1) IS NULL
            AND (NOT {{live}} OR (SELECT 1 FROM manifestlog.sighting s
                WHERE s.manifest_id = {{manifest}} AND s.pair = g.pair AND s.ts >= g.ts LIMIT 1) IS NULL) AS fits
        FROM unnest({{checksums}}::bytea[], {{bodies}}::bytea[], {{pairs}}::bytea[], {{moments}}::bigint[], {{ties}}::bigint[],
            {{sources}}::bytea[], {{datasets}}::bytea[], {{runs}}::bytea[], {{again}}::boolean[],
            {{details}}::bytea[], {{other_details}}::bytea[])
            WITH ORDINALITY AS g(checksum, body, pair, ts, tie, source, dataset, run, again, new, other, number)
    ), told AS MATERIALIZED (
        SELECT convert_to('["' || string_agg(CASE WHEN has_other THEN {{changed}}::text ELSE {{new}}::text END, '","'
            ORDER BY number) || '"]', 'UTF8') AS answers FROM fact
    ), won AS (
        INSERT INTO manifestlog.content (manifest_id, checksum, body)
        SELECT {{manifest}}, checksum, body FROM fact WHERE (SELECT bool_and(fits) FROM fact)
        ORDER BY checksum RETURNING 1
    ), seen AS (
        INSERT INTO manifestlog.sighting (manifest_id, pair, ts, tie, checksum, source, dataset)
        SELECT {{manifest}}, pair, ts, tie, checksum, source, dataset FROM fact
        WHERE (SELECT count(*) FROM won) > 0 RETURNING 1
    ), tick AS (
        UPDATE manifestlog.feed SET seq = seq + {{total}}, records = records + {{total}}, ts = greatest(ts + 1, n.now),
            changed = greatest(ts + 1, n.now)
        FROM (SELECT {NOW} AS now, set_config('synchronous_commit', {{level}}, true)) n
        WHERE manifest_id = {{manifest}} AND (SELECT count(*) FROM seen) > 0 RETURNING seq, ts
    ), events AS (
        INSERT INTO manifestlog.log (manifest_id, seq, ts, kind, checksum, source, run, body, details)
        SELECT {{manifest}}, t.seq - {{total}} + f.number, t.ts, 'put', f.checksum, f.source, f.run, f.body,
            CASE WHEN f.has_other THEN f.other ELSE f.new END
        FROM tick t, fact f
    ), mentions AS (
        INSERT INTO manifestlog.mention (manifest_id, what, seq)
        SELECT {{manifest}}, m.what, t.seq - m.back FROM tick t, unnest({{mentions}}::bytea[], {{back}}::bigint[]) AS m(what, back)
    ), done AS (
        INSERT INTO manifestlog.writer AS w (writer, manifest_id, op, seq, flushed, answers, ts)
        SELECT {{writer}}, {{manifest}}, {{op}}, t.seq, CASE WHEN {{level}} = 'off' THEN 0 ELSE t.seq END, told.answers, t.ts
        FROM tick t, told
        {DONE}
    )
    SELECT told.answers, t.seq FROM tick t, told"""


class _Parameters(NamedTuple):
    """What the statement takes, in this order; first the columns of `Fresh`."""

    checksums: Sequence[bytes]
    bodies: Sequence[bytes]
    pairs: Sequence[bytes]
    moments: Sequence[int]
    ties: Sequence[int]
    sources: Sequence[bytes]
    datasets: Sequence[bytes]
    runs: Sequence[bytes | None]
    details: Sequence[bytes | None]
    other_details: Sequence[bytes | None]
    again: Sequence[bool]
    mentions: Sequence[bytes]
    back: Sequence[int]
    new: str
    changed: str
    total: int
    live: bool
    manifest: int
    level: str
    writer: bytes
    op: int


_STATEMENT = numbered(_ADD, _Parameters)


class Ready(NamedTuple):
    """Additions that one statement can write."""

    columns: tuple[Array, ...]
    """Their columns, as `Fresh` has them, without mentions and answers."""
    mentions: list[tuple[bytes, int]]
    """What events mention, each with the number of events after it."""
    again: list[bool]
    """Whether an earlier one has the same source and dataset."""
    answers: tuple[Added, Added]
    """The answers of the two plans, which all of them have."""
    live: bool


def ready(additions: Iterable[tuple[Encoded, bool, Details | None]], rules: Rules) -> Ready | None:
    """Return these additions (record, live, details) with their plans; None if some depend on each other, or on what is known."""
    some: list[Fresh] = []
    lives: set[bool] = set()
    for record, live, details in additions:
        one = fresh(record, rules, live=live, details=details)
        if one is None:
            return None
        lives.add(live)
        some.append(one)
    *columns, mentions, answers = zip(*some, strict=True)
    checksums, _, pairs, moments, _, sources, *_ = columns
    total, again = len(some), _again(pairs)
    are_apart = len(set(checksums)) == len(set(zip(sources, moments, strict=True))) == total
    if not are_apart or len(lives) > 1 or answers.count(answers[0]) < total or (lives == {True} and any(again)):
        return None
    mentioned = [(what, total - number) for number, one in enumerate(mentions, 1) for what in one]
    return Ready(tuple(map(array, columns)), mentioned, again, answers[0], lives == {True})


def _again(pairs: Iterable[bytes]) -> list[bool]:
    """Return for each of them whether an earlier one is the same."""
    first: dict[bytes, int] = {}
    return [first.setdefault(pair, place) != place for place, pair in enumerate(pairs)]


def add(
    slot: Slot,
    manifest_id: int,
    lanes: Collection[int],
    given: Ready,
    limits: Limits,
    meanwhile: Callable[[], None] | None,
) -> tuple[list[Added], int] | None:
    """Write these additions, and return their answers and the number of the last event; None if nothing was written."""
    new, changed = given.answers
    mentions, back = [what for what, _ in given.mentions], [back for _, back in given.mentions]
    others = (len(given.again), given.live, manifest_id, limits.level, slot.writer, slot.op)
    parameters = (*given.columns, given.again, mentions, back, str(new.verdict), str(changed.verdict), *others)
    slot.in_doubt = True
    try:
        with slot.script(meanwhile):
            begin(slot, limits)
            lock_lanes(slot, manifest_id, lanes, limits)
            found = slot.send(_STATEMENT, *parameters)
            end(slot, limits)
    except psycopg.errors.UniqueViolation:  # another source had one of the contents at the same moment
        slot.recover()
        slot.in_doubt = False
        return None
    slot.in_doubt = False
    rows = found.rows
    if not rows:
        return None
    told = codec.loads(rows[0][0])
    return [new if verdict == new.verdict else changed for verdict in told], rows[0][1]
