"""What a write changes: plans made from what is known, before anything is written.

Every engine makes these plans inside its own transaction and then records them, so the rules are the same for all.

Invariants:

- The same lookups give the same plan; nothing is read but through the `Lookup`, and nothing is written.
- A record that the lookup cannot know is planned without being parsed: most additions are of this kind.
- Content that an engine distrusts (it may be lost in a power cut) is planned again, because "already there" is a promise.

It does not know how records are stored, and takes no lock.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from manifestlog.errors import RecordNotFoundError
from manifestlog.model import codec
from manifestlog.model.codec import Encoded, encode_row, encoded_row
from manifestlog.model.retiming import Retimed, horizon, new_times, with_times
from manifestlog.model.rows import (
    Row,
    Sighting,
    find_observation,
    normalise,
    observation,
    observations,
    sort_key,
    source_key,
    view,
)
from manifestlog.model.verdict import Verdict, decide, later_than_current, ranked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from manifestlog.model.relocation import Move

_HAS_ALIASES = b'"also_seen":['
"""In a record's JSON exactly when it holds this member: inside a text the quotes are escaped."""


class Lookup(Protocol):
    """What a plan may ask of a manifest, at one moment."""

    def might_know(self, checksum: str, source_id: str) -> bool:
        """Whether anything known can matter to this content and source. False is certain, True may be wrong."""

    def row(self, checksum: str) -> Row | None:
        """The row of a content."""

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        """What a source had last in this dataset, and what it had in any dataset at that very moment."""


class History(Lookup, Protocol):
    """What a plan of new times asks besides."""

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        """What a source and dataset had last at this moment."""

    def later_than(self, moment: str) -> Iterator[Row]:
        """The rows whose latest observation has a later time."""


class Rules(NamedTuple):
    """What a plan needs to know of the manifest besides its records."""

    root: str
    """The absolute directory at which relative paths begin."""
    record_bytes_max: int


class Added(NamedTuple):
    """The answer to a write."""

    verdict: Verdict
    row: Row | None
    """The row as its source sees it; None when the record became exactly what was given."""


class Plan(NamedTuple):
    """The answer to one write, and what to record before it is given."""

    answer: Added
    record: Encoded | None
    """What to write; None for nothing."""


_NEW = Added(Verdict.NEW, None)


def trusted(_checksum: str) -> bool:
    """The answer to `must_rewrite` of an engine whose every record is as durable as it says."""
    return False


def plan_add(
    known: Lookup, record: Encoded, rules: Rules, *, live: bool = False, must_rewrite: Callable[[str], bool] = trusted
) -> Plan:
    """What adding this record means; a live one gets a time behind its source's current record."""
    raw, checksum, source_ids = record
    if len(source_ids) == 1 and _HAS_ALIASES not in raw and not known.might_know(checksum, source_ids[0]):
        # `decide` would say the same; most additions are this, and need not be parsed for it.
        return Plan(_NEW, record)
    row: Row = codec.loads(raw)
    if live and (moved := later_than_current(row, _sightings(known, row))) is not row:
        row, record = moved, _encoded(moved, rules)
    before = known.row(checksum)
    verdict, stored = decide(row, before, _sightings(known, row), rules.root)
    if stored is None:
        assert before is not None
        if not must_rewrite(checksum):
            return Plan(Added(verdict, view(before, source_key(row))), None)
        stored = before
    as_given = stored is row and record[0] is raw
    answer = Added(verdict, None if as_given else view(stored, source_key(row)))
    return Plan(answer, record if stored is row else _encoded(stored, rules))


def plan_update(
    known: Lookup, checksum: str, changes: Row, rules: Rules, *, must_rewrite: Callable[[str], bool] = trusted
) -> Plan:
    """What replacing members of a record means; raises `RecordNotFoundError`, and `ValueError` for values that are none."""
    before = known.row(checksum)
    if before is None:
        raise RecordNotFoundError(checksum)
    after, _ = normalise(before | changes, checksum)
    if after != before:
        after, _ = normalise(_ranked_anew(known, before, before | changes, checksum), checksum)
    if after == before:
        again = _encoded(before, rules) if must_rewrite(checksum) else None
        return Plan(Added(Verdict.DUPLICATE, before), again)
    return Plan(Added(Verdict.REFRESHED, after), _encoded(after, rules))


def plan_moves(known: Lookup, move: Move, checksums: Iterable[str], rules: Rules) -> list[Encoded]:
    """The rows of these contents with their paths moved; those that stay as they are left out."""
    rows = (known.row(checksum) for checksum in checksums)
    moved = (move.row(row) for row in rows if row is not None)
    return [_encoded(row, rules) for row, changed in moved if changed]


def future_observations(known: History, now: datetime) -> list[tuple[str, str, str, str]]:
    """(source_id, dataset, checksum, time) of all that is stamped in the future, by source and in order of time."""
    moment = horizon(now)
    found = [
        (one, row["checksum"])
        for row in known.later_than(moment)
        for one in observations(row)
        if sort_key(one)[0] > moment
    ]
    found.sort(key=lambda pair: (source_key(pair[0]), sort_key(pair[0])))
    return [(*source_key(one), checksum, sort_key(one)[0]) for one, checksum in found]


def plan_new_times(
    known: History, source_id: str | None, dataset: str | None, now: datetime, *, keep_current: bool
) -> list[Retimed]:
    """Which times replace those that lie in the future, of one source or (None) of all."""
    ahead: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for source, name, checksum, when in future_observations(known, now):
        if source_id in (None, source) and dataset in (None, name):
            ahead[source, name].append((when, checksum))
    changes: list[Retimed] = []
    for (source, name), found in ahead.items():
        latest = known.latest_until(source, name, horizon(now))
        before = None if latest is None else latest.order[0]
        after = new_times([when for when, _ in found], before, now, keep_current=keep_current)
        changes += [Retimed(source, name, c, f"{w}Z", t) for (w, c), t in zip(found, after, strict=True)]
    return changes


def retimed_records(known: Lookup, changes: Iterable[Retimed], rules: Rules) -> list[Encoded]:
    """The rows that these new times change."""
    times: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for one in changes:
        times[one.checksum][one.source_id, one.dataset] = one.after
    rows = ((known.row(checksum), by_pair) for checksum, by_pair in times.items())
    return [_encoded(with_times(row, by_pair), rules) for row, by_pair in rows if row is not None]


def _encoded(row: Row, rules: Rules) -> Encoded:
    return encoded_row(encode_row(row, rules.record_bytes_max), row)


def _ranked_anew(known: Lookup, before: Row, edited: Row, checksum: str) -> Row:
    """The edited row with the rank that its own observation has at its time, which may be another now.

    Not that of the latest one: an observation that was moved back in time leaves the front to one that was not edited.
    """
    edited = edited | {"tie": 0}
    normal, _ = normalise(edited, checksum)
    own = find_observation(normal, source_key(edited))
    assert own is not None
    event = observation(own) | {"checksum": checksum}
    return edited | {"tie": ranked(event, _sightings(known, event), before).get("tie", 0)}


def _sightings(known: Lookup, row: Row) -> list[Sighting]:
    """What the row's source and dataset had last, and what its source had at the row's very time."""
    return known.recent(*source_key(row), sort_key(row)[0])
