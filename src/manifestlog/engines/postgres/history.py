"""Answers queries of a manifest's history: events, the events after a cursor, the rows of an earlier time, followers.

Invariants:

- Events are numbered without gaps in the order of their commits, so a reader that has seen a number has seen all before
  it.
- Every answer ends where the log ended at the time of the query. Rows of the log never change, so they can be read in
  pages, each in its own transaction.
- A cursor is a number and the time of that event. After a crash of the server has taken back an event, its cursor fits
  no event.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.postgres import cutting, reading
from manifestlog.engines.postgres.pages import PAGE_EVENTS, Page, search, wanted
from manifestlog.engines.postgres.values import event_micros, event_time
from manifestlog.errors import CursorError, DamagedManifestError, HistoryReachError
from manifestlog.model import codec
from manifestlog.model.changes import attempt, content_change, metadata_change
from manifestlog.model.earlier import UnknownBeforeError, earlier
from manifestlog.model.events import Event, EventKind, Query
from manifestlog.model.followers import follower
from manifestlog.options import parse_history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.pages import Line
    from manifestlog.engines.postgres.reading import Feed
    from manifestlog.model.earlier import Earlier
    from manifestlog.model.followers import Follower
    from manifestlog.options import ManifestOptions

_CURSOR = re.compile(r"([0-9a-f]{8})\.(0|[1-9][0-9]{0,17})\.(0|[1-9a-f][0-9a-f]{0,15})")
_ATTEMPTS = frozenset({EventKind.BEGUN, EventKind.ENDED, EventKind.FAILED, EventKind.DERIVED})
_TIME_OF = "SELECT ts FROM manifestlog.log WHERE manifest_id = %s AND seq = %s"
_END = "SELECT seq, ts FROM manifestlog.feed WHERE manifest_id = %s"
_FOLLOWERS = "SELECT registration FROM manifestlog.follower WHERE manifest_id = %s ORDER BY name"
_SET_FOLLOWER = """
    INSERT INTO manifestlog.follower (manifest_id, name, seq, registration)
    SELECT %s, %s::text, %s, %b::bytea FROM (SELECT set_config('synchronous_commit', %s, true)) c
    ON CONFLICT (manifest_id, name) DO UPDATE SET seq = excluded.seq, registration = excluded.registration"""
_REMOVE_FOLLOWER = """
    DELETE FROM manifestlog.follower USING (SELECT set_config('synchronous_commit', %s, true)) c
    WHERE manifest_id = %s AND name = %s RETURNING name"""


class Position(NamedTuple):
    """The place after an event."""

    seq: int
    ts: int


class History:
    """The events of one manifest."""

    def __init__(self, pool: Pool, manifest_id: int, ts_created: str, options: ManifestOptions) -> None:
        self._pool = pool
        self._id = manifest_id
        self._ts_created = ts_created
        self._keep = parse_history(options.history)
        self._level = pool.commit_level(options.durability)
        self._display = pool.location.display
        self._tag = f"{crc32(f'{pool.location.name} {ts_created}'.encode()):08x}"

    # -- cursors -------------------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Return the cursor before the first event."""
        return self._text(0, 0)

    def cursor(self) -> str:
        """Return the cursor after the last event."""
        return self._pool.call(lambda slot: self._text(*slot.rows(_END, self._id)[0]))

    def cursor_of(self, end: Feed) -> str:
        """Return the cursor after the last event of a moment."""
        return self._text(end.seq, end.ts)

    def _text(self, seq: int, ts: int) -> str:
        return f"{self._tag}.{seq}.{ts if seq else 0:x}"

    def position(self, cursor: str) -> Position:
        """Return the position that a cursor names. Raises `CursorError` if it is ahead of the end, or of another manifest."""
        return self._position(cursor, self._feed())

    def _position(self, cursor: str, end: Feed) -> Position:
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise CursorError(self._display, cursor, "is not a cursor")
        if found[1] != self._tag:
            raise CursorError(self._display, cursor, "is the cursor of another manifest")
        at = Position(int(found[2]), int(found[3], 16))
        if at.seq > end.seq:
            reason = "is ahead of this manifest: it was restored from an older copy, or the cursor is of a newer one"
            raise CursorError(self._display, cursor, reason)
        return at

    def _feed(self) -> Feed:
        return self._pool.call(lambda slot: reading.feed(slot, self._pool.location, self._id))

    # -- events --------------------------------------------------------------------------------------------------------

    def events(self, query: Query) -> Iterator[Event]:
        """Iterate over the events that match, the first one first, or the last with `query.reverse`."""
        end = self._feed()
        first, last = self._between(query, end)
        found = self._lines(Page(self._id, wanted(query), query.reverse), first, last)
        return filter(query.matches, map(self._event, found))

    def _between(self, query: Query, end: Feed) -> tuple[int, int]:
        """Return the numbers of the first and the last event that the times of a query allow."""
        first, last = end.cut_seq + 1, end.seq
        if query.since:
            first = self._first_at(query.since, first, last)
        if query.until[:1].isdigit():
            last = self._first_at(query.until, first, last, later=True) - 1
        return first, last

    def _first_at(self, moment: str, first: int, last: int, *, later: bool = False) -> int:
        ts = event_micros(moment) + later
        return self._pool.call(lambda slot: search(slot, self._id, ts, first, last))

    def after(self, cursor: str) -> Iterator[Event]:
        """Iterate over every event after a cursor. Raises `CursorError`, and `HistoryReachError` if some of them are cut."""
        end = self._feed()
        at = self._position(cursor, end)
        if at.seq < end.cut_seq or not self._is_there(at, end):
            raise HistoryReachError(self._display, f"the cursor {cursor}", self._reach(end))
        return map(self._event, self._unbroken(at.seq, end.seq))

    def up_to(self, end: Feed) -> tuple[str, Iterator[Event], int, str | None]:
        """Return the cursor of this end, the events that lead to it, how many they are, and how far they reach back."""
        events = map(self._event, self._unbroken(end.cut_seq, end.seq))
        return self.cursor_of(end), events, end.seq - end.cut_seq, None if end.cut_seq == 0 else self._reach(end)

    def _is_there(self, at: Position, end: Feed) -> bool:
        if at.seq == 0:
            return True
        if at.seq == end.cut_seq:
            return at.ts == end.cut_ts
        found = self._pool.call(lambda slot: slot.rows(_TIME_OF, self._id, at.seq))
        return bool(found) and found[0][0] == at.ts

    def _unbroken(self, seq: int, last: int) -> Iterator[Line]:
        """Yield the lines after this number. Raises an error if one is missing."""
        for line in self._lines(Page(self._id), seq + 1, last):
            if line.seq != seq + 1:
                end = self._feed()
                if seq < end.cut_seq:
                    raise HistoryReachError(self._display, f"event {seq + 1}", self._reach(end))
                raise DamagedManifestError(self._display, seq + 1, f"the event {seq + 1} is missing in the log")
            seq = line.seq
            yield line

    def _lines(self, page: Page, first: int, last: int) -> Iterator[Line]:
        """Yield the lines of a page's kind with these numbers."""
        count = PAGE_EVENTS // 8
        while first <= last:
            found = self._pool.call(lambda slot, a=first, b=last, n=count: page.read(slot, a, b, n))  # type: ignore[misc] # mypy cannot infer it
            yield from found
            if len(found) < count:
                return
            count = PAGE_EVENTS
            if page.reverse:
                last = found[-1].seq - 1
            else:
                first = found[-1].seq + 1

    def _event(self, line: Line) -> Event:
        cursor, ts = self._text(line.seq, line.ts), event_time(line.ts)
        checksum = None if line.checksum is None else line.checksum.hex()
        if line.body is not None and line.details is None:  # most of them
            return Event(cursor, ts, EventKind.PUT, checksum, codec.loads(line.body), {})
        said = {} if line.details is None else codec.loads(line.details)
        kind = line.kind
        if kind == EventKind.META:
            return Event(cursor, ts, *metadata_change(said, said.get("metadata", {})))
        if kind in _ATTEMPTS or checksum is None:
            return Event(cursor, ts, *attempt(kind, said))
        row = None if line.body is None else codec.loads(line.body)
        return Event(cursor, ts, *content_change("forget" if row is None else "put", checksum, row, said))

    # -- earlier times -------------------------------------------------------------------------------------------------

    def reach(self) -> str:
        """Return the earliest time that `earlier` can answer for."""
        return self._reach(self._feed())

    def _reach(self, end: Feed) -> str:
        return self._ts_created if end.cut_ts is None else event_time(end.cut_ts)

    def earlier(self, moment: str, end: Feed) -> Earlier:
        """Return what was different at this time from the state at `end`. Raises `HistoryReachError`."""
        reach = self._reach(end)
        if moment < moment_text_of(reach):
            raise HistoryReachError(self._display, moment, reach)
        lines = self._lines(Page(self._id, reverse=True), end.cut_seq + 1, end.seq)
        try:
            found = earlier(map(self._event, lines), moment)
        except UnknownBeforeError as error:
            raise HistoryReachError(self._display, moment, error.ts) from None
        if found.ran_out and end.cut_ts is not None:
            return found._replace(last_ts=event_time(end.cut_ts), ran_out=False)
        return found

    def cut(self) -> None:
        """Remove what neither the options keep nor a registered follower needs."""
        cutting.cut(self._pool, self._id, self._keep)

    # -- followers -----------------------------------------------------------------------------------------------------

    def followers(self) -> list[Follower]:
        """Return the registered followers, by name."""
        found = self._pool.call(lambda slot: slot.rows(_FOLLOWERS, self._id))
        return [follower(**codec.loads(registration)) for (registration,) in found]

    def set_follower(self, registered: Follower) -> None:
        """Register a follower, or replace its registration."""
        data, seq = codec.dumps(registered._asdict()), self.position(registered.cursor).seq
        self._pool.call(lambda slot: slot.rows(_SET_FOLLOWER, self._id, registered.name, seq, data, self._level))

    def remove_follower(self, name: str) -> bool:
        """Remove a registration; return whether it existed."""
        return bool(self._pool.call(lambda slot: slot.rows(_REMOVE_FOLLOWER, self._level, self._id, name)))


def moment_text_of(text: str) -> str:
    """Return a time as events write it."""
    return event_time(event_micros(text))
