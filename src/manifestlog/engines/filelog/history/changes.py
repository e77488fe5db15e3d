"""Turns a line of the log into events: one for each record that it changes, or one for the line.

Invariants:

- Every line that a session accepts has events, whatever its `event` and `events` contain: these never decide about
  records.
- An invalid member of an event is left out, and named. A reader gets only valid members.

It does not know positions or segments.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from manifestlog.model import codec
from manifestlog.model.changes import Change, attempt, content_change, metadata_change
from manifestlog.model.events import SAY_BEFORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.model.rows import Row

Parsed = dict[str, Any]

_NO_EVENTS = frozenset({"open", "seal", "compacting", "compacted"})


def changes(data: Parsed) -> Sequence[Change | None]:
    """Return the events of a parsed line; None for each record of a batch that was left out (`batch_lines`)."""
    kind = data["op"]
    if kind == "put":
        return [content_change("put", data["record"]["checksum"], data["record"], data.get("event", {}))]
    if kind == "batch":
        return _batch_changes(data)
    if kind == "forget":
        return [content_change(kind, data["checksum"], None, data.get("event", {}))]
    if kind == "meta":
        return [metadata_change(data.get("event", {}), data["metadata"])]
    return [] if kind in _NO_EVENTS else [attempt(kind, data.get("event"))]


def describe_unreadable(line: bytes) -> str | None:
    """Return what is not valid in the events of an intact line, and what follows from that; None if all is valid."""
    if b'"event' not in line and line.startswith((b'{"op":"put"', b'{"op":"batch"')):
        return None
    try:
        found = {name for change in changes(codec.loads(line)) if change is not None for name in change.unreadable}
    except (ValueError, KeyError, TypeError, AttributeError):  # no session has accepted this line
        found = {"event"}
    if not found:
        return None
    reach = "" if SAY_BEFORE.isdisjoint(found) else "; so nothing before it can be told"
    return f"an event has no valid {', '.join(sorted(found))}{reach}; no record is affected"


def _batch_changes(data: Parsed) -> list[Change | None]:
    rows: list[Row | None] = data["records"]
    forgets: list[str] = data.get("forgets", [])
    count = len(rows) + len(forgets)
    shared = data.get("event", {})
    own = data.get("events", [None] * count)
    if not isinstance(shared, dict) or not isinstance(own, list) or len(own) != count:
        own = [[]] * count  # nothing says what belongs to which
    said = [shared if one is None else {**shared, **one} if isinstance(one, dict) else one for one in own]
    puts = [
        None if row is None else content_change("put", row["checksum"], row, one)
        for row, one in zip(rows, said, strict=False)
    ]
    return [
        *puts,
        *(content_change("forget", *one) for one in zip(forgets, repeat(None), said[len(rows) :], strict=False)),
    ]
