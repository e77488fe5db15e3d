"""Plans how to undo changes: a fold over events, and the records and removals that take them back.

Invariants:

- A content goes back to its state before the first change that is undone.
- A later change that is not undone is a conflict: taking back the older one would lose the newer one.
- Undoing changes no event. The plan is a write of its own, so it can be undone as well.

It does no I/O, and does not choose the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.codec import encode_row, encoded_row
from manifestlog.model.differences import ContentRows, change_of
from manifestlog.model.earlier import take_back
from manifestlog.model.events import Event, EventKind
from manifestlog.model.writes import Rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Lookup


class Conflict(NamedTuple):
    """A later change of something that is to be undone."""

    what: str
    """The content's checksum, or the metadata member."""
    event: Event


class Draft(NamedTuple):
    """What is to be undone, as far as the events have been read."""

    rows: dict[str, Row | None]
    """The row that each content shall have; None to remove it."""
    metadata: Row
    conflicts: list[Conflict]
    cursor: str
    """The position after the last event that was read."""


def read_on(draft: Draft, events: Iterable[Event], selects: Callable[[Event], bool]) -> Draft:
    """Return the draft after these further events, in order: those that `selects` names are undone as well.

    Raises `UnknownBeforeError`.
    """
    rows, metadata = dict(draft.rows), dict(draft.metadata)
    conflicts, cursor = list(draft.conflicts), draft.cursor
    for event in events:
        cursor = event.cursor
        if not selects(event):
            conflicts += _conflicts(rows, metadata, event)
        elif event.is_change:
            earlier_rows: dict[str, Row | None] = {}
            earlier_metadata: Row = {}
            take_back(earlier_rows, earlier_metadata, event)
            rows = earlier_rows | rows
            metadata = earlier_metadata | metadata
    return Draft(rows, metadata, conflicts, cursor)


def _conflicts(rows: dict[str, Row | None], metadata: Row, event: Event) -> list[Conflict]:
    if event.kind is EventKind.META:
        return [Conflict(name, event) for name in event.details.get("metadata", {}) if name in metadata]
    touched = event.is_change or event.kind is EventKind.DERIVED
    return [Conflict(event.checksum, event)] if touched and event.checksum in rows else []


def plan_undo(known: Lookup, draft: Draft, record_bytes_max: int) -> tuple[Rewritten, list[ContentRows]]:
    """Return the write that takes the draft's changes back, and each content that it changes, before and after."""
    found: list[ContentRows] = []
    for checksum, row in sorted(draft.rows.items()):
        present = known.row(checksum)
        if present != row:
            found.append(ContentRows(change_of(present, row), checksum, present, row))
    puts = [encoded_row(encode_row(one.after, record_bytes_max), one.after) for one in found if one.after is not None]
    return Rewritten(puts, [one.checksum for one in found if one.after is None]), found


def metadata_to_write(present: Row, draft: Draft) -> dict[str, str]:
    """Return the metadata members that go back to an earlier value."""
    return {name: was for name, was in draft.metadata.items() if was is not None and was != present.get(name)}
