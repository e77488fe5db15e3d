"""Reads the valid members of an event: a change of a content, of metadata, or an attempt.

Invariants:

- `said` never decides about records: whatever it contains, a record exists or not.
- An invalid member of an event is left out, and named. A reader gets only valid members.

It does not know positions or how an engine stores events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.before import check_before
from manifestlog.model.details import wrong_members
from manifestlog.model.events import EventKind

if TYPE_CHECKING:
    from manifestlog.model.events import Details, Event
    from manifestlog.model.rows import Row

_KINDS = {kind.value: kind for kind in EventKind}
UNREADABLE = ("event",)
"""What is unreadable of an event that is no object."""


class Change(NamedTuple):
    """An event without its position."""

    kind: EventKind
    checksum: str | None
    row: Row | None
    details: Details
    unreadable: tuple[str, ...] = ()


def content_change(kind: str, checksum: str, row: Row | None, said: object) -> Change:
    """Return the event of one content."""
    if not said:
        return Change(_KINDS[kind], checksum, row, {}, () if said == {} else UNREADABLE)
    details, unreadable = _read(said)
    if "was" in details:
        try:
            check_before(details["was"], row, checksum)
        except (ValueError, KeyError, TypeError):
            details, unreadable = _without(details, ["was"], unreadable)
    return Change(_KINDS[details.get("kind", kind)], checksum, row, details, unreadable)


def metadata_change(said: object, metadata: Row) -> Change:
    """Return the event of a change of metadata."""
    details, unreadable = _read(said)
    if not all(value is None or isinstance(value, str) for value in details.get("was", {}).values()):
        details, unreadable = _without(details, ["was"], unreadable)
    return Change(EventKind.META, None, None, {**details, "metadata": metadata}, unreadable)


def attempt(kind: str, said: object) -> Change:
    """Return an event that changes nothing."""
    details, unreadable = _read(said)
    if "was" in details:  # it changes nothing
        details, unreadable = _without(details, ["was"], unreadable)
    return Change(_KINDS[kind], details.get("checksum"), None, details, unreadable)


def said_of(event: Event) -> object:
    """Return what an event says, for another manifest to hold: what cannot be read there either stays unreadable."""
    if UNREADABLE[0] in event.unreadable and event.kind is not EventKind.META:
        return UNREADABLE[0]
    return {**event.details, **dict.fromkeys(event.unreadable)}


def _read(said: object) -> tuple[Details, tuple[str, ...]]:
    """Return the valid members of an event, and the names of the others."""
    if not isinstance(said, dict):
        return {}, UNREADABLE
    wrong = wrong_members(said)
    return _without(said, wrong, ()) if wrong else (said, ())


def _without(details: Details, wrong: list[str], unreadable: tuple[str, ...]) -> tuple[Details, tuple[str, ...]]:
    return {name: value for name, value in details.items() if name not in wrong}, (*unreadable, *wrong)
