"""Decides what a write means: a pure function from what is known and what happened to a verdict and a row.

Invariants:

- The same three inputs give the same answer; nothing is read, written or timed here.
- Content is kept once and no source is forgotten: a row that is returned holds every observation that `known` held.

The engine calls this under the append lock, which is what makes one of many writers the winner.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from manifestlog.roots import is_same
from manifestlog.rows import (
    Row,
    Sighting,
    brings_nothing,
    find_observation,
    merge,
    observation,
    order_of,
    pair_of,
    utc_text,
)


class Verdict(StrEnum):
    """The answer to a write.

    - `NEW`: unknown content, from a source that has no record yet.
    - `DUPLICATE`: the manifest knows all of it already; nothing was written.
    - `REFRESHED`: the source's current content, under another ETag, modification time or path.
    - `ALIAS`: known content, for the first time from this source.
    - `CHANGED`: unknown content, from a source that had other content.
    - `REVERTED`: content that this source had before, and other content since.
    """

    NEW = "new"
    DUPLICATE = "duplicate"
    REFRESHED = "refreshed"
    ALIAS = "alias"
    CHANGED = "changed"
    REVERTED = "reverted"


def decide(event: Row, known: Row | None, sightings: list[Sighting], root: str = "/") -> tuple[Verdict, Row | None]:
    """What adding `event` means, and the row to append (None for nothing).

    `known` is the row with the event's checksum; `sightings` are the latest of the event's source, and those of its `source_id`
    at the event's very time. Relative paths begin at `root`: one file is one path, however it is written.
    """
    if known is None and not sightings and "also_seen" not in event:
        return Verdict.NEW, event
    current = max([s for s in sightings if s.dataset == event["dataset"]], default=None)
    own = find_observation(known, pair_of(event)) if known else None
    if known is None:
        row = ranked(event, sightings)
        verdict = Verdict.NEW if current is None else Verdict.CHANGED
        return verdict, merge(row, row) if "also_seen" in row else row
    if own is None:
        return Verdict.ALIAS, merge(known, ranked(event, sightings))
    if current is not None and current.checksum == event["checksum"]:
        if _same(own, event, root) or _when(event) < _when(own):
            return _already_known(event, known, own)
        return Verdict.REFRESHED, merge(known | {"file_size": event["file_size"]}, ranked(event, sightings, own))
    if current is not None and _when(event) <= current.order[0]:
        return _already_known(event, known, own)
    return Verdict.REVERTED, merge(known, ranked(event, sightings))


def later_than_current(event: Row, sightings: list[Sighting]) -> Row:
    """A live event with a time behind its source's current record: its own, or one microsecond more than that record's.

    A hybrid logical clock (Kulkarni et al., 2014) without its counter: so a clock that was ahead once, or is behind now,
    cannot make older content current.
    """
    current = max((s.order[0] for s in sightings if s.dataset == event["dataset"]), default="")
    if _when(event) > current:
        return event
    try:
        moved = datetime.fromisoformat(current).replace(tzinfo=UTC) + timedelta(microseconds=1)
    except OverflowError:  # the last microsecond of the year 9999
        return event
    return event | {"ts_downloaded": utc_text(moved)}


def _already_known(event: Row, known: Row, own: Row) -> tuple[Verdict, Row | None]:
    # The same output made from an input that was not named yet: were it dropped, that input would be pending for ever.
    if brings_nothing(event, known):
        return Verdict.DUPLICATE, None
    return Verdict.REFRESHED, merge(known, event | observation(own))


def _same(own: Row, event: Row, root: str) -> bool:
    same_head = all(own.get(name) == event.get(name) for name in ("etag", "last_modified"))
    return same_head and is_same(root, own["file_path"], event["file_path"])


def _when(row: Row) -> str:
    return order_of(row)[0]


def ranked(event: Row, sightings: list[Sighting], own: Row | None = None) -> Row:
    """The event, told apart from others of its source at the very same time: the later in the log is the current one.

    `own` is what the event replaces. The canonical is sorted by checksum and forgets the log's order, so the rank has to
    be in the record itself.
    """
    itself = (event["dataset"], event["checksum"])
    ties = [s.order[1] + 1 for s in sightings if s.order[0] == _when(event) and (s.dataset, s.checksum) != itself]
    if own is not None and _when(own) == _when(event):
        ties.append(own.get("tie", 0))
    tie = max(ties, default=0)
    return event | {"tie": tie} if tie else event
