"""Transactions: the statements between the locks of the sources and the end of the log.

::

    general way   1  BEGIN; lock the lanes of the sources; claim unknown contents; read what the plans need
                  2  (only if some contents were known) read and lock these
                     the plans decide, in the client
                  3  write; take the next numbers of the log; COMMIT; flush
    one addition     if the content is unknown and its source has nothing at that time: one round trip (`single`)

Invariants:

- Locks are taken in one order: lanes, unknown contents, known contents, each sorted; the end of the log last of all.
  That last lock is held while the server writes and commits, never while a client thinks.
- The primary key of `content` picks the winner: the client that inserts second waits, and reads the row in a later
  statement.
- While others write, the commit is asynchronous, so that the end of the log is not locked during a sync; a second
  commit then waits for both. Acknowledged writes are on the disk, as the server's `synchronous_commit` defines it.
- The number of the operation is in the same transaction. A second try first looks for it, and a first try that arrives
  after the second one violates a constraint.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.engines.postgres.limits import OFF, renew, settle, time_to_renew, time_to_write, with_first_lock
from manifestlog.engines.postgres.lookup import BODIES, Known
from manifestlog.engines.postgres.staged import Staged
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from manifestlog.engines.postgres.limits import Limits
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.wire import Reply, Rows
    from manifestlog.model.rows import Row

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_FENCED = """
    SELECT 1 / (count(*) = %s)::int, set_config(%s, %s, true) FROM (
        SELECT 1 FROM unnest(%b::bytea[], %s::bigint[]) AS h(name, token)
        JOIN manifestlog.claim c ON c.name = h.name AND c.token = h.token ORDER BY c.name FOR SHARE OF c) held"""
"""Divides by zero if somebody else has a claim now. Nobody takes one over before the transaction ends."""
LANE = "SELECT set_config(%s, %s, true) FROM manifestlog.lane WHERE manifest_id = %s AND lane = %s FOR UPDATE"
LANES = """
    SELECT set_config(%s, %s, true) FROM manifestlog.lane WHERE manifest_id = %s AND lane = ANY(%s::int[])
    ORDER BY lane FOR UPDATE"""
ALL_LANES = "SELECT set_config(%s, %s, true) FROM manifestlog.lane WHERE manifest_id = %s ORDER BY lane FOR UPDATE"
_METADATA = "SELECT metadata FROM manifestlog.manifest WHERE manifest_id = %s"
_CLAIM = """
    WITH won AS (
        INSERT INTO manifestlog.content (manifest_id, checksum, body)
        SELECT %s, u.checksum, u.body FROM unnest(%b::bytea[], %b::bytea[]) AS u(checksum, body) ORDER BY u.checksum
        ON CONFLICT DO NOTHING RETURNING checksum
    )
    SELECT CASE WHEN count(*) < %s THEN array_agg(checksum) END, count(*) FROM won"""
"""Says which contents were unknown, unless all of them were."""
_KNOWN = BODIES + " ORDER BY checksum FOR UPDATE"
_PUT = """
    INSERT INTO manifestlog.content (manifest_id, checksum, body)
    SELECT %s, u.checksum, u.body FROM unnest(%b::bytea[], %b::bytea[]) AS u(checksum, body) ORDER BY u.checksum
    ON CONFLICT (manifest_id, checksum) DO UPDATE SET body = excluded.body"""
_REMOVE = "DELETE FROM manifestlog.content WHERE manifest_id = %s AND checksum = ANY(%b::bytea[])"
_UNSEE = """
    DELETE FROM manifestlog.sighting s
    USING unnest(%b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[]) AS u(pair, ts, tie, checksum)
    WHERE s.manifest_id = %s AND s.pair = u.pair AND s.ts = u.ts AND s.tie = u.tie AND s.checksum = u.checksum"""
_SEE = """
    INSERT INTO manifestlog.sighting (pair, ts, tie, checksum, source, dataset, manifest_id)
    SELECT u.*, %s::int
    FROM unnest(%b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[])
        AS u(pair, ts, tie, checksum, source, dataset)"""
NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
DONE = """ON CONFLICT (writer) DO UPDATE SET op = CASE WHEN w.op < excluded.op THEN excluded.op END, seq = excluded.seq,
            flushed = greatest(w.flushed, excluded.flushed), answers = excluded.answers, ts = excluded.ts"""
"""What the row `w` of a writer becomes. An operation that was done already fails here: its number becomes null."""


def _log_statement(last_ts: str, changed_ts: str, event_ts: str, more_types: str = "", more_names: str = "") -> str:
    """Return the statement that writes and numbers events, and leaves the answers of their writer.

    It says where times come from: that of the last event, of the last change, and of each event. Those of each may be one
    more column of what is given, with its type and name.
    """
    return f"""
    WITH tick AS (
        UPDATE manifestlog.feed SET seq = seq + %s, records = records + %s, ts = {last_ts},
            changed = CASE WHEN %s THEN {changed_ts} ELSE changed END
        FROM (SELECT {NOW} AS now, set_config('synchronous_commit', %s, true)) n
        WHERE manifest_id = %s RETURNING seq, ts
    ), events AS (
        INSERT INTO manifestlog.log (manifest_id, seq, ts, kind, checksum, source, run, body, details)
        SELECT %s::int, t.seq - %s + u.number, {event_ts}, u.kind, u.checksum, u.source, u.run, u.body, u.details
        FROM tick t, unnest(%s::text[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[]{more_types})
            WITH ORDINALITY AS u(kind, checksum, source, run, body, details{more_names}, number)
    ), mentions AS (
        INSERT INTO manifestlog.mention (manifest_id, what, seq)
        SELECT %s::int, u.what, t.seq - u.back FROM tick t, unnest(%b::bytea[], %s::bigint[]) AS u(what, back)
    ), done AS (
        INSERT INTO manifestlog.writer AS w (writer, manifest_id, op, seq, flushed, answers, ts)
        SELECT %b, %s::int, %s::bigint, t.seq, CASE WHEN %s THEN t.seq ELSE 0 END, %b::bytea, t.ts FROM tick t
        {DONE}
    )
    SELECT seq FROM tick"""


_NEXT_TS = "greatest(ts + 1, n.now)"
_LOG = _log_statement(_NEXT_TS, _NEXT_TS, "t.ts")
_REPLAYED = _log_statement("%s::bigint", "%s::bigint", "u.ts", ", %s::bigint[]", ", ts")
"""The same for events of another manifest, which have times of their own."""
_METADATA_IS = "UPDATE manifestlog.manifest SET metadata = %b WHERE manifest_id = %s"
FLUSH = """
    UPDATE manifestlog.writer SET flushed = seq FROM (SELECT set_config('synchronous_commit', %s, true)) c
    WHERE writer = %b AND op = %s"""
"""Writes the row even if it says so already: whoever lost the connection while the server waited for a standby waits again."""
_WHAT_BECAME = "SELECT op, answers FROM manifestlog.writer WHERE writer = %b FOR UPDATE"


def begin(slot: Slot, limits: Limits) -> None:
    """Send what begins a transaction of one message. Without others, a message is a transaction anyway."""
    if not (slot.has_session and limits.at_once):
        slot.send(BEGIN)
    settle(slot, limits)
    check_claims(slot, limits)


class Times(NamedTuple):
    """The times of events of another manifest, in microseconds: of each, and of the last change of records or metadata."""

    each: list[int]
    changed: int | None


def check_claims(slot: Slot, limits: Limits) -> None:
    """Send what fails if a claim was lost that the transaction depends on."""
    if limits.fence is not None:
        names, tokens = limits.fence
        slot.send(_FENCED, len(names), *with_first_lock(slot, limits), names, tokens)


def lock_lane(slot: Slot, manifest_id: int, lane: int, limits: Limits) -> None:
    """Send what locks a lane."""
    slot.send(LANE, *with_first_lock(slot, limits), manifest_id, lane)


def lock_lanes(slot: Slot, manifest_id: int, lanes: Collection[int], limits: Limits) -> None:
    """Send what locks these lanes."""
    slot.send(LANES, *with_first_lock(slot, limits), manifest_id, sorted(lanes))


def lock_all_lanes(slot: Slot, manifest_id: int, limits: Limits) -> None:
    """Send what locks every lane."""
    slot.send(ALL_LANES, *with_first_lock(slot, limits), manifest_id)


def end(slot: Slot, limits: Limits) -> None:
    """Send what ends a transaction of one message, and waits for the disk to have it."""
    if not (slot.has_session and limits.at_once):
        slot.send("COMMIT")
    if not limits.at_once:
        flush(slot, limits)


def flush(slot: Slot, limits: Limits) -> None:
    """Send what waits for the disk to have the operation that was committed before it."""
    if limits.synchronous != OFF:
        slot.send(FLUSH, limits.synchronous, slot.writer, slot.op)


class Transaction:
    """One transaction of the general way. On an error its slot recovers, which rolls it back."""

    def __init__(self, slot: Slot, manifest_id: int, limits: Limits) -> None:
        self.slot = slot
        self.id = manifest_id
        self.limits = limits
        self.known = Known(slot, manifest_id, self._go_on)
        self.staged = Staged(self.known)
        self.metadata: Row = {}
        self.new_metadata: Row | None = None
        self.times: Times | None = None
        self._begun = False
        self._limited_at: float | None = None
        """When the limit of a transaction with all lanes began; None: it has not all of them."""
        self._claimed: dict[str, bytes] = {}
        """Contents that were unknown, with the record that was inserted for them."""

    def first_try(self) -> Any:
        """Begin, and return the answers of this operation if an earlier try of it has written; else None."""
        slot = self.slot
        with slot.script():
            self._begin()
            became = slot.send(_WHAT_BECAME, slot.writer)
        slot.in_doubt = False
        found = became.rows
        if not found or found[0][0] != slot.op:
            return None
        with slot.script():
            slot.send("ROLLBACK")
            flush(slot, self.limits)
        return codec.loads(found[0][1])

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.slot.send(BEGIN)
            settle(self.slot, self.limits)

    def begin(
        self, lanes: Collection[int] | None, contents: dict[str, bytes] | None = None, rows: Sequence[Row] = ()
    ) -> None:
        """Lock these lanes (None: all), claim the contents that are unknown, and read and lock the others.

        `rows` are additions: what they depend on is read ahead.
        """
        slot, given = self.slot, contents or {}
        with slot.script():
            self._begin()
            check_claims(slot, self.limits)
            if lanes is None:
                self._limited_at = time.monotonic()
                lock_all_lanes(slot, self.id, self.limits)
            else:
                lock_lanes(slot, self.id, lanes, self.limits)
            metadata = slot.send(_METADATA, self.id)
            if given:
                digests, bodies = [bytes.fromhex(one) for one in given], list(given.values())
                claimed = slot.send(_CLAIM, self.id, digests, bodies, len(digests))
                take = self.known.ask_of_sources(list(rows))
        self.metadata = codec.loads(metadata.rows[0][0])
        if given:
            take()
            self._note_claimed(given, claimed.rows)
            self._lock_known(given)

    def _go_on(self) -> None:
        """Renew the limit from time to time: a plan for many records asks for long, and stops at a statement if at all."""
        if self._limited_at is not None and time_to_renew(self._limited_at):
            self._limited_at = time.monotonic()
            with self.slot.script():
                renew(self.slot, self.limits)

    def _note_claimed(self, given: dict[str, bytes], found: Rows) -> None:
        ((digests, count),) = found
        if count == len(given):
            claimed = given
        else:
            claimed = {(checksum := digest.hex()): given[checksum] for digest in digests or ()}
        self._claimed |= claimed
        self.known.note_bodies(claimed, ())

    def _lock_known(self, given: dict[str, bytes]) -> None:
        """Read and lock the contents that are not claimed. One that was forgotten in between is claimed after all."""
        left = given.keys() - self._claimed
        while left:
            left -= self.lock_contents(left)
            if left:
                gone = {one: given[one] for one in sorted(left)}
                digests = [bytes.fromhex(one) for one in gone]
                self._note_claimed(gone, self.slot.rows(_CLAIM, self.id, digests, list(gone.values()), len(gone)))
                left -= self._claimed.keys()

    def lock_contents(self, checksums: Collection[str]) -> set[str]:
        """Read and lock these contents; return those that are known."""
        digests = [bytes.fromhex(one) for one in sorted(checksums)]
        found = self.slot.rows(_KNOWN, self.id, digests)
        self.known.note_bodies(checksums, found)
        return {digest.hex() for digest, _ in found}

    def commit(self, answers: bytes, meanwhile: Callable[[], None] | None = None) -> int | None:
        """Write what was staged, with the answers of this operation, and return the number of its last event.

        If there is nothing to write, end the transaction and return None.
        """
        slot = self.slot
        if not self.staged.log:
            slot.rows("ROLLBACK")
            return None
        slot.in_doubt = True
        with slot.script(meanwhile):
            if self._limited_at is not None:
                renew(slot, self.limits, time_to_write(len(self.staged.log), self.staged.size))
            self._write_contents()
            self._write_sightings()
            if self.new_metadata is not None:
                slot.send(_METADATA_IS, codec.dumps(self.new_metadata), self.id)
            end = self._write_log(answers)
            slot.send("COMMIT")
            if not self.limits.at_once:
                flush(slot, self.limits)
        slot.in_doubt = False
        ((seq,),) = end.rows
        return int(seq)

    def _write_contents(self) -> None:
        staged, slot = self.staged, self.slot
        gone = [bytes.fromhex(one) for one, body in staged.bodies.items() if body is None]
        gone += [bytes.fromhex(one) for one in self._claimed.keys() - staged.bodies.keys()]
        put = {bytes.fromhex(one): body for one, body in staged.bodies.items() if self._must_put(one, body)}
        if put:
            slot.send(_PUT, self.id, list(put), list(put.values()))
        if gone:
            slot.send(_REMOVE, self.id, gone)

    def _must_put(self, checksum: str, body: bytes | None) -> bool:
        return body is not None and self._claimed.get(checksum) != body

    def _write_sightings(self) -> None:
        gone, come = self.staged.sightings()
        if gone:
            keys = [[one.pair for _, one in gone], [one.ts for _, one in gone], [one.tie for _, one in gone]]
            self.slot.send(_UNSEE, *keys, [digest for digest, _ in gone], self.id)
        if come:
            digests, seen = [digest for digest, _ in come], [one for _, one in come]
            columns: list[list[Any]] = [[one.pair for one in seen], [one.ts for one in seen], [one.tie for one in seen]]
            more = [[one.source for one in seen], [one.dataset for one in seen]]
            self.slot.send(_SEE, self.id, *columns, digests, *more)

    def _write_log(self, answers: bytes) -> Reply:
        staged, slot = self.staged, self.slot
        log, count = staged.log, len(staged.log)
        mentions = [(what, count - number) for number, one in enumerate(log, 1) for what in one.mentions]
        columns = [list(column) for column in zip(*(one[:6] for one in log), strict=True)]
        changed = any(one.is_change for one in log)
        level, times = self.limits.level, self.times
        own: tuple[tuple[Any, ...], ...] = ((), (), ())
        if times is not None:
            own = (times.each[-1],), (times.changed,), (times.each,)
        return slot.send(
            _LOG if times is None else _REPLAYED,
            *(count, staged.added, *own[0], changed, *own[1], level, self.id),
            *(self.id, count, *columns, *own[2]),
            *(self.id, [what for what, _ in mentions], [back for _, back in mentions]),
            *(slot.writer, self.id, slot.op, level != OFF, answers),
        )
