"""What the history says, and what must be true of it on every disk: nothing lost, nothing twice, in order.

It shares no code with the engine but the call that reads the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.before import undone
from manifestlog.model.events import Event, EventKind, Query
from manifestlog.model.models import record_from_row
from support.engines import engine_of

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager, ManifestRecord
    from manifestlog.model.rows import Row


class Told(NamedTuple):
    """An event of one content: its record from then on, None if it was forgotten."""

    checksum: str
    record: ManifestRecord | None


def told(manifest: DownloadManifestManager, *, exact: bool = True) -> list[Told]:
    """Every event about a content, in order. Fails if one comes twice, out of order, or is missing the other way round.

    `exact`: no line can have been lost between others, as a power cut may do in the weaker modes.
    """
    events = list(engine_of(manifest).events(Query()))
    places = [_place(event.cursor) for event in events]
    assert places == sorted(places), "the events are not in order"
    assert len(set(places)) == len(places), "an event comes twice"
    if exact:
        _check_earlier(events)
    back = list(engine_of(manifest).events(Query(reverse=True)))
    assert back == events[::-1], "the events are others in reverse"
    return [
        Told(event.checksum, None if event.row is None else record_from_row(event.row))
        for event in events
        if event.checksum is not None and event.kind is not EventKind.DERIVED
    ]


def _check_earlier(events: list[Event]) -> None:
    """Each event says what was there before it, as far as the history goes back."""
    rows: dict[str, Row | None] = {}
    for event in events:
        if event.checksum is None or event.kind is EventKind.DERIVED:
            continue
        if event.checksum in rows:
            assert undone(event.row, event.was) == rows[event.checksum], f"{event.cursor} says something else of before"
        rows[event.checksum] = event.row


def _place(cursor: str) -> tuple[int, int, int]:
    """Segment, offset, and how many events of the line there are done."""
    _, segment, offset, *more = cursor.split(".")
    return int(segment), int(offset), int(more[1]) if len(more) > 1 else 0


def replayed(events: list[Told]) -> dict[str, ManifestRecord]:
    """What the manifest holds after these events, if they are all of its life."""
    found: dict[str, ManifestRecord] = {}
    for checksum, record in events:
        found.pop(checksum, None)
        if record is not None:
            found[checksum] = record
    return found


def check_followers(manifest: DownloadManifestManager) -> None:
    """From each event's cursor on, a follower gets every later event, once."""
    engine = engine_of(manifest)
    events = list(engine.events(Query()))
    for number, event in enumerate(events):
        assert list(engine.events_after(event.cursor)) == events[number + 1 :], f"after {event.cursor}"
