"""What was there before an event: how its `was` is made from two rows, checked, and applied.

Invariants:

- `undone` reverses `difference`: the row before follows from the row after and `was`.
- What `check_before` accepts, `undone` makes a record of; it refuses what only a forger or a newer program writes.

It knows rows, not events or log lines.
"""

from __future__ import annotations

from manifestlog.model.codec import dumps, encoded_bytes
from manifestlog.model.rows import FIELDS, REQUIRED, Row, check_some, in_field_order

_NEVER_NULL = frozenset(REQUIRED) - {"etag"}


def difference(before: Row, after: Row) -> Row:
    """Return the members of `before` that differ in `after`; a member that was not there is None."""
    return {name: before.get(name) for name in {**before, **after} if before.get(name) != after.get(name)}


def undone(after: Row | None, was: Row | None) -> Row | None:
    """Return the row before an event, from the row after it and the event's `was`; None if there was none."""
    if was is None:
        return None
    row = in_field_order({**(after or {}), **was})
    for name in was.keys() - FIELDS:
        if was[name] is None:
            del row[name]  # a member that this version does not know, and that was not there
    return row


def check_before(was: Row, after: Row | None, checksum: str) -> None:
    """Raise `ValueError` unless `undone` makes a record of this content of `was` and the row after the event."""
    if after is None:
        _, found, _ = encoded_bytes(dumps(was))
    else:
        found = was.get("checksum", checksum)
        check_some({name: value for name, value in was.items() if value is not None or name in _NEVER_NULL})
    if found != checksum:
        raise ValueError("it is the record of another content")
