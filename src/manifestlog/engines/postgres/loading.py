"""Creates a manifest in a database from an image of another one, in one transaction.

::

    BEGIN; a row for the manifest, or the locks of an empty one
    COPY the contents; COPY their observations; COPY some events, COPY what they mention, and so on
    the end of the log; COMMIT, which waits for the disk

Invariants:

- Nobody sees any of it before the commit, and a client that is killed leaves nothing.
- A COPY is as long as possible, and its rows are made during the COPY, so the server works at the same time.
- Nothing is decided: contents and events are written as they are. Only an event's time that is earlier than the time of
  the event before it is set to that time, because times in the log never go back.
"""

from __future__ import annotations

import logging
import secrets
from itertools import chain, islice
from typing import TYPE_CHECKING

import psycopg

from manifestlog import progress
from manifestlog.copy_errors import ManifestExistsError
from manifestlog.engines.postgres import catalog, copy_rows, reading
from manifestlog.engines.postgres.limits import OFF, Limits, settle
from manifestlog.engines.postgres.staged import logged_event
from manifestlog.engines.postgres.upkeep import SYNCHRONOUS
from manifestlog.engines.postgres.values import event_micros
from manifestlog.engines.postgres.writing import ALL_LANES, BEGIN, Times
from manifestlog.model import codec
from manifestlog.model.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manifestlog.engines.postgres.catalog import Stored
    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.writing import Transaction
    from manifestlog.engines.protocol import Image, Location
    from manifestlog.model.events import Event

log = logging.getLogger(__name__)

_IDS_AHEAD_MAX = 20_000
"""A manifest that is created meanwhile gets the next number; if that were ours, it would have to wait for our commit.

A copy takes half of this on average, so the column has numbers for 200,000 copies.
"""
_EVENTS_AT_ONCE = 100_000
"""What they mention waits in memory."""
_ROWS_A_WRITE = 200
_METADATA_IS = "UPDATE manifestlog.manifest SET metadata = %b WHERE manifest_id = %s"
_END_IS = """
    UPDATE manifestlog.feed SET seq = %s, ts = %s, records = %s, changed = NULL, cut_seq = %s, cut_ts = %s
    WHERE manifest_id = %s"""
_TABLES = ("content", "sighting", "log", "mention")


def load(pool: Pool, image: Image) -> Stored:
    """Make the manifest. On return it is on disk. Raises `ManifestExistsError`, `ServerError`."""
    stored = pool.once(lambda slot: _Load(pool, slot, image).run())
    pool.call(_analyze)
    log.info(
        "%s: made of a copy: %d records, %d events", pool.location.display, len(image.snapshot), image.events_total
    )
    return stored


def _analyze(slot: Slot) -> None:
    """Let the planner know of the new rows."""
    for table in _TABLES:
        slot.rows(f"ANALYZE manifestlog.{table}")


class _Load:
    """One load, over one connection."""

    def __init__(self, pool: Pool, slot: Slot, image: Image) -> None:
        self._limits = Limits(*pool.times, OFF)
        self._synchronous = pool.synchronous
        self._location: Location = pool.location
        self._slot = slot
        self._image = image
        self._done = 0

    def run(self) -> Stored:
        slot, image = self._slot, self._image
        stored = self._begun()
        self._copy(copy_rows.CONTENT, self._contents(stored.manifest_id))
        self._copy(copy_rows.SIGHTING, self._sightings(stored.manifest_id))
        seq, ts = self._write_events(stored.manifest_id)
        cut_seq, cut_ts = (0, None) if image.reach is None else (1, event_micros(image.reach))
        slot.rows(_END_IS, seq, ts, len(image.snapshot), cut_seq, cut_ts, stored.manifest_id)
        slot.rows(SYNCHRONOUS, self._synchronous)
        slot.in_doubt = True
        slot.rows("COMMIT")
        slot.in_doubt = False
        return stored

    def _begun(self) -> Stored:
        """Begin, with a row of the manifest that nobody else can change."""
        slot, name, metadata = self._slot, self._location.name, self._image.metadata
        while True:
            with slot.script():
                slot.send(BEGIN)
                settle(slot, self._limits)
            try:
                stored = catalog.find(slot, name)
                if stored is None:
                    catalog.create(slot, name, metadata, self._synchronous, 1 + secrets.randbelow(_IDS_AHEAD_MAX))
                    stored = catalog.find(slot, name)
                else:
                    self._take_over(stored)
            except psycopg.errors.UniqueViolation:  # another program has created it, or one with the same number
                slot.recover()
                continue
            assert stored is not None
            return stored._replace(metadata=metadata)

    def _take_over(self, stored: Stored) -> None:
        """Lock a manifest in which nothing is. Raises `ManifestExistsError`."""
        slot = self._slot
        # Without a limit of the whole: it may take hours, and the server ends no COPY that waits for its client.
        slot.rows(ALL_LANES, "lock_timeout", self._limits.lock, stored.manifest_id)
        end = reading.feed(slot, self._location, stored.manifest_id)
        if end.seq or end.records:
            raise ManifestExistsError(self._location.display, f"a manifest is there, with records: {end.records:,}")
        metadata = self._image.metadata | {"total_records": 0}
        slot.rows(_METADATA_IS, codec.dumps(metadata), stored.manifest_id)

    def _contents(self, manifest_id: int) -> Iterator[bytes]:
        for some in self._image.snapshot.batches():
            for checksum, body in some:
                yield copy_rows.content(manifest_id, bytes.fromhex(checksum), body)
            self._tell(len(some))

    def _sightings(self, manifest_id: int) -> Iterator[bytes]:
        for some in self._image.snapshot.batches():
            rows = codec.loads_all(body for _, body in some)
            for (checksum, _), row in zip(some, rows, strict=True):
                yield from copy_rows.sightings(manifest_id, bytes.fromhex(checksum), row)
            self._tell(len(some))

    def _write_events(self, manifest_id: int) -> tuple[int, int]:
        """Write the events; return the number and the time of the last one."""
        image = self._image
        seq, ts = (0, 0) if image.reach is None else (1, event_micros(image.reach))
        while True:
            events = _Events(manifest_id, seq, ts)
            self._copy(copy_rows.LOG, events.rows(islice(image.events, _EVENTS_AT_ONCE)))
            if events.seq == seq:
                return seq, ts
            if events.mentions:
                self._copy(copy_rows.MENTION, iter(events.mentions))
            self._tell(events.seq - seq)
            seq, ts = events.seq, events.ts

    def _copy(self, statement: str, rows: Iterator[bytes]) -> None:
        groups = iter(lambda: b"".join(islice(rows, _ROWS_A_WRITE)), b"")
        self._slot.copy_in(statement, chain((copy_rows.BEGIN,), groups, (copy_rows.END,)))

    def _tell(self, more: int) -> None:
        self._done += more
        total = 2 * len(self._image.snapshot) + self._image.events_total
        progress.tell("copying to", self._location.display, self._done, total)


class _Events:
    """Events on their way into the log: the number and the time of the last one, and rows of what they mention."""

    def __init__(self, manifest_id: int, seq: int, ts: int) -> None:
        self._manifest_id = manifest_id
        self.seq, self.ts = seq, ts
        self.mentions: list[bytes] = []

    def rows(self, events: Iterable[Event]) -> Iterator[bytes]:
        """Yield the rows of the log."""
        for event in events:
            one = logged_event(event)
            self.seq, self.ts = self.seq + 1, max(self.ts, event_micros(event.ts))
            if one.mentions:
                self.mentions += copy_rows.mentions(self._manifest_id, self.seq, one)
            yield copy_rows.log(self._manifest_id, self.seq, self.ts, one)


def replay(tx: Transaction, events: Sequence[Event], after: int) -> int:
    """Stage these events of another manifest, after one with the time `after`; return the time of the last one."""
    tx.lock_contents({event.checksum for event in events if event.checksum is not None})
    for event in events:
        tx.staged.replay(event)
        if event.kind is EventKind.META:
            tx.new_metadata = (tx.new_metadata or tx.metadata) | event.details["metadata"]
    changes = [event_micros(event.ts) for event in events if event.is_change]
    tx.times = Times(later_times(events, after), changes[-1] if changes else None)
    return tx.times.each[-1]


def later_times(events: Iterable[Event], after: int) -> list[int]:
    """Return the time of each event in microseconds, none earlier than the one before it."""
    found = []
    for event in events:
        after = max(after, event_micros(event.ts))
        found.append(after)
    return found
