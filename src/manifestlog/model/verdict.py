"""Decides the meaning of a write: a pure function from the known records and an event to a verdict and a row.

Invariants:

- The same inputs give the same answer. It reads nothing, writes nothing and uses no clock.
- Each content is stored once, and no source is lost: a returned row has every observation of `known`.

The engine calls this under the append lock, so that exactly one of several writers wins.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from manifestlog.model.roots import is_same
from manifestlog.model.rows import (
    Row,
    Sighting,
    adds_nothing,
    derivation,
    find_observation,
    merge,
    observation,
    sort_key,
    source_key,
    utc_text,
)


class Verdict(StrEnum):
    """The answer to a write.

    - `NEW`: unknown content, from a source that has no record yet.
    - `DUPLICATE`: the manifest already has all of it; no record was written.
    - `REFRESHED`: the source's current content, with another ETag, modification time or path, or derived again by
      another version or from other inputs.
    - `ALIAS`: known content, for the first time from this source.
    - `CHANGED`: unknown content, from a source that had other content.
    - `REVERTED`: content that this source had before, with other content in between.
    """

    NEW = "new"
    DUPLICATE = "duplicate"
    REFRESHED = "refreshed"
    ALIAS = "alias"
    CHANGED = "changed"
    REVERTED = "reverted"


def decide(
    event: Row, known: Row | None, sightings: list[Sighting], root: str = "/", *, derives: bool = False
) -> tuple[Verdict, Row | None]:
    """Return the verdict on adding `event`, and the row to append, or None.

    `known` is the row with the event's checksum. `sightings` are the latest of the event's source, and those of its
    `source_id` at exactly the event's time. Paths are relative to `root`, so different spellings of a path are equal.
    With `derives`, the records are outputs, and another version has made them anew.
    """
    if known is None and not sightings and "also_seen" not in event:
        return Verdict.NEW, event
    current = max([s for s in sightings if s.dataset == event["dataset"]], default=None)
    own = find_observation(known, source_key(event)) if known else None
    if known is None:
        row = ranked(event, sightings)
        verdict = Verdict.NEW if current is None else Verdict.CHANGED
        return verdict, merge(row, row) if "also_seen" in row else row
    if own is None:
        return Verdict.ALIAS, merge(known, ranked(event, sightings))
    if current is not None and current.checksum == event["checksum"]:
        older = _when(event) < _when(own)
        if older or (_same(own, event, root) and not is_new_derivation(event, known | own, derives=derives)):
            return _already_known(event, known, own)
        return Verdict.REFRESHED, merge(known | {"file_size": event["file_size"]}, ranked(event, sightings, own))
    if current is not None and _when(event) <= current.order[0]:
        return _already_known(event, known, own)
    return Verdict.REVERTED, merge(known, ranked(event, sightings))


def later_than_current(event: Row, sightings: list[Sighting]) -> Row:
    """Return a live event with a time after its source's current record: its own, or that record's plus one microsecond.

    This is a hybrid logical clock (Kulkarni et al., 2014) without its counter. A clock that was ahead once, or is behind
    now, cannot make older content current.
    """
    current = max((s.order[0] for s in sightings if s.dataset == event["dataset"]), default="")
    if _when(event) > current:
        return event
    try:
        moved = datetime.fromisoformat(current).replace(tzinfo=UTC) + timedelta(microseconds=1)
    except OverflowError:  # the last microsecond of the year 9999
        return event
    return event | {"ts_downloaded": utc_text(moved)}


def is_new_derivation(event: Row, known: Row, *, derives: bool) -> bool:
    """Return whether the event made the known content by another version or from other inputs.

    An event that names inputs is a derivation. In a manifest of outputs (`derives`), every event is one.
    """
    if "derived_from" in event:
        return derivation(event) != derivation(known)
    return derives and event["version"] != known["version"]


def _already_known(event: Row, known: Row, own: Row) -> tuple[Verdict, Row | None]:
    if adds_nothing(event, known):
        return Verdict.DUPLICATE, None
    return Verdict.REFRESHED, merge(known, event | observation(own))


def _same(own: Row, event: Row, root: str) -> bool:
    same_head = all(own.get(name) == event.get(name) for name in ("etag", "last_modified"))
    return same_head and is_same(root, own["file_path"], event["file_path"])


def _when(row: Row) -> str:
    return sort_key(row)[0]


def ranked(event: Row, sightings: list[Sighting], own: Row | None = None) -> Row:
    """Return the event with a tie-breaker among its source's events at the same time: the last in the log is current.

    `own` is the observation that the event replaces. The canonical file is sorted by checksum and loses the log's order,
    so the record itself stores the rank.
    """
    itself = (event["dataset"], event["checksum"])
    ties = [s.order[1] + 1 for s in sightings if s.order[0] == _when(event) and (s.dataset, s.checksum) != itself]
    if own is not None and _when(own) == _when(event):
        ties.append(own.get("tie", 0))
    tie = max(ties, default=0)
    return event | {"tie": tie} if tie else event
