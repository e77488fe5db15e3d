"""Answers queries of a manifest's history: its events, the events after a cursor, and the rows of an earlier time.

Invariants:

- Every answer ends where the log ended at the time of the query, as the session has read it.
- The rows of an earlier time follow from the present ones, because each later event states what was there before it.
- The answer about an earlier time is right, or an error (`HistoryReachError`); nothing is guessed.

It only reads; `keep` moves, packs and cuts.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.history import reading
from manifestlog.engines.filelog.history.reading import InvalidLineError, Position
from manifestlog.engines.filelog.history.spans import End, SegmentCutError, Segments, Span, Wanted, crc_at_end
from manifestlog.errors import CursorError, DamagedManifestError, HistoryReachError
from manifestlog.model.earlier import Earlier, UnknownBeforeError, earlier
from manifestlog.model.events import Query
from manifestlog.model.rows import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.filelog.log.segment import Segment
    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row
    from manifestlog.names import ManifestPaths

_FIRST_FORMAT = 2
"""The first format whose lines say what was there before."""


class Unbroken(NamedTuple):
    """The events that lead to the end without a gap."""

    events: Iterator[Event]
    total: int
    reach: str | None
    """The time of the first one; None if they begin with an empty manifest."""


class History:
    """The events of one manifest up to the end of its log at one moment."""

    def __init__(self, paths: ManifestPaths, metadata: Row, end: End | None) -> None:
        self._paths = paths
        self._ts_created = ts_created = str(metadata["ts_created"])
        self._ts_updated = str(metadata["ts_updated"])
        self._end = end
        self._segments = Segments(paths, ts_created, end)
        self._tag = reading.tag_of(paths.name, ts_created)

    def events(self, query: Query) -> Iterator[Event]:
        """Yield the events that match, the first one first, or the last with `query.reverse`."""
        wanted = Wanted(reading.keys_of(query), query.since, query.until)
        spans = self._segments.spans_back(wanted=wanted) if query.reverse else self._segments.spans(wanted=wanted)
        return self._until_cut(reading.events(spans, self._tag, query, self._judge_damage), "an event")

    def _until_cut(self, found: Iterator[Event], asked: str) -> Iterator[Event]:
        """Yield these events; raise `HistoryReachError` if a compaction cuts off what is to be read next."""
        try:
            with history_folder.stated(self._paths), self._forgery_is_damage():
                yield from found
        except SegmentCutError:
            raise HistoryReachError(self._paths.canonical, asked, self.reach) from None

    @contextmanager
    def _forgery_is_damage(self) -> Iterator[None]:
        try:
            yield
        except InvalidLineError as error:
            raise DamagedManifestError(self._paths.canonical, error.offset, str(error)) from None

    def unbroken(self, records: int) -> Unbroken:
        """Return the events that lead to these many records. They are read once here, to know how they begin."""
        if self._end is None:  # a canonical alone; what lies in `history/` need not lead to it
            reach = self.reach
            return Unbroken(iter(()), 0, None if reach == self._ts_created else reach)
        updated = moment_text(datetime.fromisoformat(self._ts_updated))
        first = self._first_unbroken(_FIRST_FORMAT)
        total, begin, is_told = 0, None, True
        for event in self._from(first):
            total, begin = total + 1, begin or event.ts
            if event.is_change and event.checksum is not None:
                records -= (event.row is not None) - (event.details.get("was") is not None)
                is_told = is_told and event.says_before
        is_whole = first <= 1 and is_told and records == 0
        return Unbroken(self._from(first), total, None if is_whole else begin or updated)

    def _from(self, first: int) -> Iterator[Event]:
        found = reading.events(self._segments.spans(first), self._tag, Query(), self._judge_damage)
        return self._until_cut(found, "an event")

    def position(self, cursor: str) -> Position:
        """Return the position that a cursor names. Raises `CursorError` if it is ahead of the end, or of another manifest."""
        at = reading.parse_cursor(cursor, self._tag, self._paths.canonical)
        if at[:2] > (self._end or End(1, 0)):
            reason = "is ahead of this manifest: it was restored from an older copy, or the cursor is of a newer one"
            raise CursorError(self._paths.canonical, cursor, reason)
        return at

    def after(self, cursor: str, without_run: str | None = None) -> Iterator[Event]:
        """Yield every event after a cursor. Raises `CursorError`, and `HistoryReachError` if some of them are cut.

        Events of the run `without_run` are left out, nearly for free.
        """
        at = self.position(cursor)
        if self._end is None:
            return iter(())  # what lies in `history/` need not lead to this canonical
        if not self._leads_to_end(at):
            raise HistoryReachError(self._paths.canonical, f"the cursor {cursor}", self.reach)
        spans = self._segments.spans(at.segment, at.offset)
        wanted = Query(without_run=without_run)
        found = self._until_cut(reading.events(spans, self._tag, wanted, self._judge_damage), f"the cursor {cursor}")
        return dropwhile(lambda event: reading.parse_cursor(event.cursor, self._tag, "")[:3] <= at[:3], found)

    def _leads_to_end(self, at: Position) -> bool:
        """Return whether the line that the cursor was made at is still there, and every line after it."""
        if at.segment < self._first_unbroken(1, at.segment):
            return False
        try:
            with history_folder.stated(self._paths):
                if at.done:
                    return self._segments.crc_after(at.segment, at.offset) == at.crc
                return at.offset == 0 or self._segments.crc_before(at.segment, at.offset) == at.crc
        except SegmentCutError:
            return False

    @property
    def reach(self) -> str:
        """The earliest time that `earlier` can answer for, as text."""
        while True:
            with suppress(SegmentCutError), history_folder.stated(self._paths), self._forgery_is_damage():
                if self._end is None:
                    return self._reach_alone()
                return self._reach(self._first_unbroken(_FIRST_FORMAT))

    def _reach_alone(self) -> str:
        """Return since when the canonical is what the manifest holds, if it has no log.

        What lies in `history/` need not lead to it, and of one that was restored it says what became of the newer one.
        """
        back = reading.events(self._segments.spans_back(), self._tag, Query(reverse=True), self._judge_damage)
        created, updated = (moment_text(datetime.fromisoformat(text)) for text in (self._ts_created, self._ts_updated))
        since = max([updated, *(event.ts for event in islice(back, 1))])
        return since if since > created else self._ts_created

    def _reach(self, first: int) -> str:
        if first <= 1:
            return self._ts_created
        # Everything before it was written earlier than its first line that has a time, also if that is no event.
        found = reading.first_time(self._segments.spans(first), self._judge_damage)
        if found is None and self._is_anew(first):
            return moment_text(datetime.fromisoformat(self._ts_updated))  # the repair's; nothing was written since
        return found or moment_text(datetime.now(UTC))

    def _is_anew(self, first: int) -> bool:
        """Return whether the log begins with its last segment, as after a repair."""
        return self._end is not None and first == self._end.segment and self._segments.opening(first).anew

    def _first_unbroken(self, format_min: int, stop: int = 1) -> int:
        """Return the first of the segments that lead to the end without a gap, in this format or a newer one.

        It does not look before `stop`.
        """
        while True:
            with suppress(SegmentCutError), history_folder.stated(self._paths):
                return self._walk_back(format_min, stop)
            self._segments = Segments(self._paths, self._ts_created, self._end)

    def _walk_back(self, format_min: int, stop: int) -> int:
        number = self._end.segment if self._end else 1
        segments = self._segments
        if not segments.has(number) or segments.opening(number).format < format_min:
            return number + 1
        while number > stop and not segments.opening(number).anew and segments.has(number - 1):
            before = segments.opening(number - 1)
            if before.lost or before.format < format_min:
                break
            number -= 1
        return number

    def earlier(self, moment: str) -> Earlier:
        """Return what was different at this time. Raises `HistoryReachError`."""
        reach = self.reach
        if moment < moment_text(datetime.fromisoformat(reach)):
            raise HistoryReachError(self._paths.canonical, moment, reach)
        if self._end is None:
            return Earlier({}, {}, self._ts_updated)
        first = self._first_unbroken(_FIRST_FORMAT)
        spans = self._segments.spans_back(first)
        found = reading.events(spans, self._tag, Query(reverse=True), self._judge_damage)
        try:
            answer = earlier(self._until_cut(found, moment), moment)
        except UnknownBeforeError as error:
            raise HistoryReachError(self._paths.canonical, moment, error.ts) from None
        if answer.begins_at is None and answer.ran_out and self._is_anew(first):
            return answer._replace(last_ts=self._ts_updated, ran_out=False)  # nothing has changed since the repair
        return answer

    # -- damage --------------------------------------------------------------------------------------------------------

    def _judge_damage(self, span: Span, offset: int) -> None:
        """Raise for damage in a segment unless it was there when the segment was closed, which its successor confirms."""
        number = span.segment.number
        if self._end is not None and number == self._end.segment:
            return  # the session has judged it
        if span.packed:
            raise DamagedManifestError(self._paths.canonical, offset, f"segment {number} is not what was written")
        self._segments.verify(number)


def cursor_at(manifest: str, ts_created: str, segment: Segment | None) -> str:
    """Return the cursor at the end of an open segment, or at the beginning of the first one."""
    at = Position(1, 0)
    if segment is not None:
        length = segment.tail.length
        at = Position(segment.number, length, 0, crc_at_end(segment.fd, length))
    return reading.cursor_text(reading.tag_of(manifest, ts_created), at)
