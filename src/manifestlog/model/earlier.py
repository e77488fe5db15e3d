"""Computes the content of a manifest at an earlier time: a fold over its events, the latest first.

Invariants:

- The earlier rows follow from the present ones, because each event says what was there before it.
- All events after the moment are taken back, up to the first event that is not later. So the answer is one moment of
  the log, even if a clock was set back.

It does not know whether the events reach back far enough; the engine does.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.before import undone
from manifestlog.model.events import Event, EventKind
from manifestlog.model.rows import Row, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable


class UnknownBeforeError(Exception):
    """An event does not say what was there before it, so it cannot be taken back."""

    def __init__(self, event: Event) -> None:
        super().__init__(event.cursor)
        self.ts = event.ts


class Earlier(NamedTuple):
    """What was different at an earlier time."""

    rows: dict[str, Row | None]
    """Each content that has changed since: its row at that time, or None if there was none."""
    metadata: Row
    """The metadata members that have changed since, as they were."""
    last_ts: str | None = None
    """When records or metadata had last changed; None if no event says so."""
    begins_at: str | None = None
    """The time of the first event, if every event is later than the moment."""
    ran_out: bool = False
    """Whether every event is later than the moment, so that only the beginning of the manifest is left."""

    def metadata_then(self, now: Row, total: int) -> Row:
        """Return the metadata of that time, from the present metadata and the number of records then."""
        updated = utc_text(datetime.fromisoformat(self.last_ts or now["ts_created"]))
        found = now | self.metadata | {"total_records": total, "ts_updated": updated}
        return {name: value for name, value in found.items() if value is not None}


def earlier(events: Iterable[Event], moment: str) -> Earlier:
    """Take back every event that is later than the moment. `events` come in reverse, the latest first.

    Raises `UnknownBeforeError`.
    """
    found = Earlier({}, {})
    oldest = None
    left = iter(events)
    for event in left:
        if event.ts <= moment:
            last = event if event.is_change else next((one for one in left if one.is_change), None)
            return found._replace(last_ts=last and last.ts)
        take_back(found.rows, found.metadata, event)
        oldest = event.ts
    return found._replace(begins_at=oldest, ran_out=True)


def take_back(rows: dict[str, Row | None], metadata: Row, event: Event) -> None:
    """Put what was there before this event into `rows` and `metadata`. Raises `UnknownBeforeError`."""
    if event.is_change and not event.says_before:
        raise UnknownBeforeError(event)
    if event.kind is EventKind.META:
        metadata.update(event.was or {})
    elif event.is_change and event.checksum is not None:
        rows[event.checksum] = undone(event.row, event.was)
