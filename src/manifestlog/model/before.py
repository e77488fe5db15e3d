"""The state before an event: makes `was` from two rows, checks it, and applies it.

Invariants:

- `undone` reverses `difference`, byte for byte: the row before follows from the row after and `was`.
- `was` has an earlier list in full, or as its difference to the later list, whichever is shorter. So an event of a
  content with many sources does not repeat them all.
- If `check_before` accepts a `was`, `undone` makes a record from it. It refuses only what a forger or a newer program
  has written.

`docs/FORMAT.md`, section 4a, describes a difference. This module knows rows, not events or log lines.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from manifestlog.model.codec import dumps, encoded_bytes
from manifestlog.model.rows import FIELDS, REQUIRED, Row, check_some, in_field_order

_LISTS = ("also_seen", "derived_from")
_EDITS = frozenset({"remove", "insert"})
_NEVER_NULL = frozenset(REQUIRED) - {"etag"}


def difference(before: Row, after: Row) -> Row:
    """Return the members of `before` that differ in `after`; a member that was not there is None."""
    found = {name: before.get(name) for name in {**before, **after} if before.get(name) != after.get(name)}
    for name in _LISTS:
        if name in found:
            found[name] = _shorter(found[name], after.get(name)) or None
    return found


def _shorter(was: list[Any] | None, now: list[Any] | None) -> list[Any] | Row | None:
    """Return an earlier list, or its difference to the present one if that is shorter."""
    if not was or not now:
        return was
    were, are = [dumps(entry) for entry in was], [dumps(entry) for entry in now]
    known, kept = set(are), set(were)
    if [raw for raw in were if raw in known] != [raw for raw in are if raw in kept]:
        return was  # what both have is in another order
    remove = [place for place, raw in enumerate(are) if raw not in kept]
    insert = [[place, was[place]] for place, raw in enumerate(were) if raw not in known]
    found = {name: edits for name, edits in (("remove", remove), ("insert", insert)) if edits}
    return found if len(dumps(found)) < len(dumps(was)) else was


def expanded(was: Row, after: Row | None) -> Row:
    """Return `was` with its lists in full. Raises `ValueError` for a difference that does not fit the row after the event."""
    lists = {name: _applied(was[name], (after or {}).get(name)) for name in _LISTS if isinstance(was.get(name), dict)}
    return was | lists if lists else was


def _applied(found: Row, now: object) -> list[Any]:
    """Return the earlier list, from its difference to the present one."""
    remove, insert = found.get("remove", []), found.get("insert", [])
    if not found or not found.keys() <= _EDITS or not all(found.values()) or not isinstance(now, list):
        raise ValueError("it has other members than a difference, or the record has no such list")
    if not isinstance(insert, list) or not all(isinstance(one, list) and len(one) == 2 for one in insert):
        raise ValueError("insert is not a list of pairs")
    if not _are_places(remove, len(now)):
        raise ValueError("remove names an entry that is not there")
    gone = frozenset(remove)
    kept = [entry for place, entry in enumerate(now) if place not in gone]
    if not _are_places([place for place, _ in insert], len(kept) + len(insert)):
        raise ValueError("insert names a place that is not there")
    earlier: list[Any] = []
    taken = 0
    for place, entry in insert:
        stop = taken + place - len(earlier)
        earlier += [*kept[taken:stop], entry]
        taken = stop
    return earlier + kept[taken:]


def _are_places(found: object, end: int) -> bool:
    """Return whether these are ascending places of a list of this length."""
    if not isinstance(found, list) or not all(type(place) is int for place in found):
        return False
    return all(before < place for before, place in pairwise([-1, *found, end]))


def undone(after: Row | None, was: Row | None) -> Row | None:
    """Return the row before an event, from the row after it and the event's `was`; None if there was none."""
    if was is None:
        return None
    row = in_field_order({**(after or {}), **expanded(was, after)})
    for name in was.keys() - FIELDS:
        if was[name] is None:
            del row[name]  # a member that this version does not know, and that was not there
    return row


def check_before(was: Row, after: Row | None, checksum: str) -> None:
    """Raise `ValueError` unless `undone` makes a record of this content of `was` and the row after the event."""
    expanded(was, after)
    if after is None:
        _, found, _ = encoded_bytes(dumps(was))
    else:
        found = was.get("checksum", checksum)
        given = was | {name: _inserted(was[name]) for name in _LISTS if isinstance(was.get(name), dict)}
        check_some({name: value for name, value in given.items() if value is not None or name in _NEVER_NULL})
    if found != checksum:
        raise ValueError("it is the record of another content")


def _inserted(found: Row) -> list[Any]:
    """Return the entries that only the difference has; the others are the record's."""
    return [entry for _, entry in found.get("insert", ())]
