"""What a manifest's history answers: its events, the events after a cursor, and the rows of an earlier time.

Invariants:

- Every answer ends where the log ended when the question was asked, as the session has read it.
- The rows of an earlier time follow from the present ones: each event since says what was there before it.
- The answer about an earlier time is right or an error (`HistoryReachError`), never a guess.

It reads; `keep` moves, packs and cuts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog.history import reading
from manifestlog.engines.filelog.history.reading import Position
from manifestlog.engines.filelog.history.spans import End, Segments, Span
from manifestlog.errors import CursorError, DamagedManifestError, HistoryReachError
from manifestlog.model.events import Event, EventKind, Query, undone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.model.rows import Row
    from manifestlog.names import ManifestPaths

_FIRST_FORMAT = 2
"""The first format whose lines say what was there before."""


class Earlier(NamedTuple):
    """What was different at an earlier time."""

    rows: dict[str, Row | None]
    """Each content that has changed since: its row at that time, or None if there was none."""
    metadata: Row
    """The metadata members that have changed since, as they were."""
    last_ts: str
    """When the manifest had last changed; empty if it never had."""


class History:
    """The events of one manifest up to the end of its log at one moment."""

    def __init__(self, paths: ManifestPaths, ts_created: str, end: End | None) -> None:
        self._paths = paths
        self._ts_created = ts_created
        self._end = end
        self._segments = Segments(paths, end)
        self._tag = reading.tag_of(paths.name, ts_created)

    @property
    def cursor(self) -> str:
        """The position after the last event."""
        return reading.cursor_text(self._tag, Position(*self._end) if self._end else Position(1, 0))

    def events(self, query: Query) -> Iterator[Event]:
        """Yield the events that match, the first one first, or the last with `query.reverse`."""
        key = reading.key_of(query)
        spans = self._segments.spans_back(key) if query.reverse else self._segments.spans(key=key)
        return reading.events(spans, self._tag, query, self._judge_damage)

    def after(self, cursor: str) -> Iterator[Event]:
        """Yield every event after a cursor. Raises `CursorError`, and `HistoryReachError` if some of them are cut."""
        at = reading.parse_cursor(cursor, self._tag, self._paths.canonical)
        end = self._end or End(1, 0)
        if at[:2] > end:
            reason = "is ahead of this manifest: it was restored from an older copy, or the cursor is of a newer one"
            raise CursorError(self._paths.canonical, cursor, reason)
        if self._end is not None and at.segment < self._first_unbroken(1):
            raise HistoryReachError(self._paths.canonical, f"the cursor {cursor}", self.reach)
        spans = self._segments.spans(at.segment, at.offset)
        found = reading.events(spans, self._tag, Query(), self._judge_damage)
        return (event for event in found if reading.parse_cursor(event.cursor, self._tag, "") > at)

    @property
    def reach(self) -> str:
        """The earliest time that `earlier` can answer for, as text."""
        first = self._first_unbroken(_FIRST_FORMAT)
        if first <= 1:
            return self._ts_created
        found = reading.events(self._segments.spans(first), self._tag, Query(), self._judge_damage)
        return next((event.ts for event in found), self._ts_created)

    def _first_unbroken(self, format_min: int) -> int:
        """Return the first of the segments that lead to the end without a gap, in this format or a newer one."""
        first = self._end.segment if self._end else 1
        numbers = set(self._segments.numbers)
        if first not in numbers or self._segments.opening(first).format < format_min:
            return first + 1
        while True:
            if self._segments.opening(first).anew or first - 1 not in numbers:
                return first
            if self._segments.opening(first - 1).format < format_min:
                return first
            first -= 1

    def earlier(self, moment: str) -> Earlier:
        """Return what was different at this time. Raises `HistoryReachError`."""
        first = self._first_unbroken(_FIRST_FORMAT)
        reach = self.reach
        if moment < reach[:19]:
            raise HistoryReachError(self._paths.canonical, moment, reach)
        found = Earlier({}, {}, "")
        spans = (span for span in self._segments.spans_back() if span.segment.number >= first)
        for event in reading.events(spans, self._tag, Query(reverse=True), self._judge_damage):
            if event.ts <= moment:
                return found._replace(last_ts=event.ts)
            go_back(found, event)
        return found

    # -- damage --------------------------------------------------------------------------------------------------------

    def _judge_damage(self, span: Span, offset: int) -> None:
        """Raise for damage in a segment unless it was there when the segment was closed, which its successor confirms."""
        number = span.segment.number
        if self._end is not None and number == self._end.segment:
            return  # the session has judged it
        if span.checked:
            raise DamagedManifestError(self._paths.canonical, offset, f"segment {number} is not what was written")
        self._segments.verify(number)


def go_back(found: Earlier, event: Event) -> None:
    """Take one event back; events come in reverse, the latest first."""
    if event.kind is EventKind.META:
        found.metadata.update(event.was or {})
    elif event.checksum is not None and event.kind is not EventKind.DERIVED:
        found.rows[event.checksum] = undone(event.row, event.was)
