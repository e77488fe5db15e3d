"""What one line of the log says happened: an event for each record that it changes, or one for the line.

Invariants:

- A line that a session accepts has its events, whatever its `event` and `events` hold: they never decide about records.
- A member of an event that is not valid is left out, and named. What a reader gets of an event is valid.

It knows neither positions nor segments.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.model import codec
from manifestlog.model.before import check_before
from manifestlog.model.details import wrong_members
from manifestlog.model.events import SAY_BEFORE, EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.model.events import Details
    from manifestlog.model.rows import Row

Parsed = dict[str, Any]

_KINDS = {kind.value: kind for kind in EventKind}
_NO_EVENTS = frozenset({"open", "seal", "compacting", "compacted"})
_NONE = ("event",)
"""What is unreadable of an event that is no object."""


class Change(NamedTuple):
    """An event without its position."""

    kind: EventKind
    checksum: str | None
    row: Row | None
    details: Details
    unreadable: tuple[str, ...] = ()


def changes(data: Parsed) -> Sequence[Change | None]:
    """Return the events of a parsed line; None for each record of a batch that was left out (`batch_lines`)."""
    kind = data["op"]
    if kind == "put":
        return [_change("put", data["record"]["checksum"], data["record"], data.get("event", {}))]
    if kind == "batch":
        return _batch_changes(data)
    if kind == "forget":
        return [_change(kind, data["checksum"], None, data.get("event", {}))]
    if kind == "meta":
        return [_metadata_change(data)]
    return [] if kind in _NO_EVENTS else [_attempt(kind, data.get("event"))]


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


def _change(kind: str, checksum: str, row: Row | None, said: object) -> Change:
    """Return the event of one content."""
    if not said:
        return Change(_KINDS[kind], checksum, row, {}, () if said == {} else _NONE)
    details, unreadable = _read(said)
    if "was" in details:
        try:
            check_before(details["was"], row, checksum)
        except (ValueError, KeyError, TypeError):
            details, unreadable = _without(details, ["was"], unreadable)
    return Change(_KINDS[details.get("kind", kind)], checksum, row, details, unreadable)


def _metadata_change(data: Parsed) -> Change:
    details, unreadable = _read(data.get("event", {}))
    if not all(value is None or isinstance(value, str) for value in details.get("was", {}).values()):
        details, unreadable = _without(details, ["was"], unreadable)
    return Change(EventKind.META, None, None, {**details, "metadata": data["metadata"]}, unreadable)


def _attempt(kind: str, said: object) -> Change:
    details, unreadable = _read(said)
    if "was" in details:  # it changes nothing
        details, unreadable = _without(details, ["was"], unreadable)
    return Change(_KINDS[kind], details.get("checksum"), None, details, unreadable)


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
        None if row is None else _change("put", row["checksum"], row, one) for row, one in zip(rows, said, strict=False)
    ]
    return [*puts, *(_change("forget", *one) for one in zip(forgets, repeat(None), said[len(rows) :], strict=False))]


def _read(said: object) -> tuple[Details, tuple[str, ...]]:
    """Return the valid members of an event, and the names of the others."""
    if not isinstance(said, dict):
        return {}, _NONE
    wrong = wrong_members(said)
    return _without(said, wrong, ()) if wrong else (said, ())


def _without(details: Details, wrong: list[str], unreadable: tuple[str, ...]) -> tuple[Details, tuple[str, ...]]:
    return {name: value for name, value in details.items() if name not in wrong}, (*unreadable, *wrong)
