"""Finds the events of a content that still count: those that were not undone, and that no forget came after.

Invariants:

- An undo that was itself taken back takes nothing back.
- If an undo names what it took back, that is believed; otherwise everything before it counts as taken back.

It does no I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.model.events import Event, EventKind
from manifestlog.model.rows import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterable


def standing(events: Iterable[Event], checksum: str | None) -> list[Event]:
    """Return the events of this content that still stand, in order.

    `events` are all of this content, in the order of the log; undos of other contents among them may take some back as well.
    None stands for what left no content.
    """
    told = list(events)
    stands = [True] * len(told)
    for last in reversed(range(len(told))):  # the latest first: an undo that does not stand takes nothing back
        event = told[last]
        if not stands[last]:
            continue
        if event.kind is EventKind.UNDO:
            for number in range(last):
                stands[number] = stands[number] and not _takes_back(event, told[number])
        elif event.kind is EventKind.FORGET and event.checksum == checksum:
            stands[:last] = [False] * last
    return [event for event, stood in zip(told, stands, strict=True) if stood and event.checksum == checksum]


def _takes_back(undo: Event, event: Event) -> bool:
    what, _, value = str(undo.details.get("undoes", "")).partition(" ")
    if what == "run":
        return event.run == value
    if what == "change":
        return event.cursor == value
    try:
        moment = datetime.fromisoformat(value)
        return event.ts > moment_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return True
