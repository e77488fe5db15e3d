"""Plans writes: decides from the known records what a write changes, before the engine writes.

Every engine makes these plans inside its own transaction and then records them, so all engines follow the same rules.

Invariants:

- The same lookups give the same plan. A plan reads only through its `Lookup`, and writes nothing.
- A record that the lookup cannot know is not parsed. Most additions are of this kind.
- Content that a power cut may still remove is written again, because the verdict `duplicate` promises durability.

It does not know how records are stored, and takes no lock.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from manifestlog.errors import RecordNotFoundError
from manifestlog.model import codec
from manifestlog.model.before import difference
from manifestlog.model.codec import Encoded, encode_row, encoded_row
from manifestlog.model.events import EventKind, change_details
from manifestlog.model.retiming import Retimed, horizon, new_times, with_times
from manifestlog.model.rows import (
    Row,
    Sighting,
    as_seen_by,
    find_observation,
    normalise,
    observation,
    observations,
    sort_key,
    source_key,
)
from manifestlog.model.verdict import Verdict, decide, is_new_derivation, later_than_current, ranked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manifestlog.model.events import Details
    from manifestlog.model.relocation import Move

_HAS_ALIASES = b'"also_seen":['
"""Occurs in a record's JSON only if it has this member, because quotes inside a text are escaped."""


class Lookup(Protocol):
    """The questions that a plan may ask of a manifest in one state."""

    def might_know(self, checksum: str, source_id: str) -> bool:
        """Return whether a known record may concern this content or source. False is certain, True may be wrong."""

    def row(self, checksum: str) -> Row | None:
        """Return the row of a content, or None."""

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        """Return a source's latest sighting in this dataset, and its sightings in any dataset at exactly this time."""


class TimeLookup(Lookup, Protocol):
    """The additional questions of a plan of new times."""

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        """Return the latest sighting of a source and dataset up to this time."""

    def later_than(self, moment: str) -> Iterator[Row]:
        """Yield the rows whose latest observation is after this time."""


class Rules(NamedTuple):
    """The settings of the manifest that a plan needs."""

    root: str
    """The absolute directory that paths are relative to."""
    record_bytes_max: int
    derives: bool = False
    """Whether the records are outputs, which another version makes anew; false for downloads."""


class Added(NamedTuple):
    """The answer to a write."""

    verdict: Verdict
    row: Row | None
    """The row with its source's observation in front; None if it equals the given record."""


class Plan(NamedTuple):
    """The answer to one write, and what to write before giving it."""

    answer: Added
    record: Encoded | None
    """The record to write, or None."""
    details: Details | None = None
    """The event's details, or None. Without a record, they are those of a repeated derivation, which is an event only."""


class Rewritten(NamedTuple):
    """Records to replace and checksums to remove, all in one write."""

    puts: Sequence[Encoded]
    forgets: Sequence[str] = ()


_NEW = Added(Verdict.NEW, None)


def trusted(_checksum: str) -> bool:
    """Return False, as the `must_rewrite` of an engine whose records are always durable."""
    return False


def plan_add(
    known: Lookup,
    record: Encoded,
    rules: Rules,
    *,
    live: bool = False,
    must_rewrite: Callable[[str], bool] = trusted,
    details: Details | None = None,
) -> Plan:
    """Plan the addition of this record. A live one gets a time after its source's current record.

    `details` are the caller's facts about the event, such as its run and URL.
    """
    raw, checksum, source_ids = record
    if len(source_ids) == 1 and _HAS_ALIASES not in raw and not known.might_know(checksum, source_ids[0]):
        # `decide` would give the same result. Most additions take this path, which saves parsing.
        return Plan(_NEW, record, details)
    row: Row = codec.loads(raw)
    if live and (moved := later_than_current(row, _sightings(known, row))) is not row:
        row, record = moved, _encoded(moved, rules)
    before = known.row(checksum)
    if before is None:
        return plan_unknown(record, row, _sightings(known, row), rules, details, as_given=record[0] is raw)
    verdict, stored = decide(row, before, _sightings(known, row), rules.root, derives=rules.derives)
    if stored is None:
        answer = Added(verdict, as_seen_by(before, source_key(row)))
        if not must_rewrite(checksum):
            return Plan(answer, None, _repeated(row, answer.row, rules, details))
        stored = before
    as_given = stored is row and record[0] is raw
    answer = Added(verdict, None if as_given else as_seen_by(stored, source_key(row)))
    event = change_details(details or {}, verdict, before, stored, row)
    return Plan(answer, record if stored is row else _encoded(stored, rules), event or None)


def plan_unknown(
    record: Encoded,
    row: Row,
    sightings: list[Sighting],
    rules: Rules,
    details: Details | None = None,
    *,
    as_given: bool = True,
) -> Plan:
    """Plan the addition of this record, whose content is not known, and whose row is `row`.

    `sightings` are as in `decide`. With `as_given`, the row is the one that the caller has given.
    """
    verdict, stored = decide(row, None, sightings, rules.root, derives=rules.derives)
    assert stored is not None
    event = change_details(details or {}, verdict, None, stored, row)
    if stored is row:
        return Plan(Added(verdict, None if as_given else row), record, event or None)
    return Plan(Added(verdict, as_seen_by(stored, source_key(row))), _encoded(stored, rules), event or None)


def _repeated(row: Row, known: Row | None, rules: Rules, details: Details | None) -> Details | None:
    """Return the details of a derivation that its record does not show, because a later one does; None if it shows it."""
    assert known is not None
    if not is_new_derivation(row, known, derives=rules.derives):
        return None
    made = {name: row[name] for name in ("source_id", "dataset", "checksum", "version")}
    return {**(details or {}), **made, "inputs": list(row.get("derived_from", ()))}


def plan_update(
    known: Lookup,
    checksum: str,
    changes: Row,
    rules: Rules,
    *,
    must_rewrite: Callable[[str], bool] = trusted,
    details: Details | None = None,
) -> Plan:
    """Plan the replacement of members of a record. Raises `RecordNotFoundError`, and `ValueError` for invalid values."""
    before = known.row(checksum)
    if before is None:
        raise RecordNotFoundError(checksum)
    after, _ = normalise(before | changes, checksum)
    if after != before:
        after, _ = normalise(_ranked_anew(known, before, before | changes, checksum), checksum)
    if after == before:
        if not must_rewrite(checksum):
            return Plan(Added(Verdict.DUPLICATE, before), None)
        again = _rewritten(before, before, EventKind.UPDATE, details)
        return Plan(Added(Verdict.DUPLICATE, before), _encoded(before, rules), again)
    return Plan(
        Added(Verdict.REFRESHED, after), _encoded(after, rules), _rewritten(before, after, EventKind.UPDATE, details)
    )


def _rewritten(before: Row | None, after: Row, kind: EventKind, details: Details | None) -> Details:
    found = {**(details or {}), "kind": kind.value}
    return found if before is None else {**found, "was": difference(before, after)}


def rewrite_events(known: Lookup, changes: Rewritten, kind: EventKind) -> list[Details]:
    """Return the details of each change of a rewrite, in order: what was there before."""
    puts = [_rewritten(known.row(checksum), codec.loads(raw), kind, None) for raw, checksum, _ in changes.puts]
    return puts + [forget_details(known.row(checksum), {"kind": kind.value}) for checksum in changes.forgets]


def forget_details(before: Row | None, details: Details | None = None) -> Details:
    """Return the details of a forget: the whole record that it removes."""
    found = dict(details or {})
    return found if before is None else {**found, "was": before}


def plan_moves(known: Lookup, move: Move, checksums: Iterable[str], rules: Rules) -> list[Encoded]:
    """Return the rows of these contents with their paths moved, without unchanged rows."""
    rows = (known.row(checksum) for checksum in checksums)
    moved = (move.row(row) for row in rows if row is not None)
    return [_encoded(row, rules) for row, changed in moved if changed]


def future_observations(known: TimeLookup, now: datetime) -> list[tuple[str, str, str, str]]:
    """Return (source_id, dataset, checksum, time) of every observation in the future, by source and in order of time."""
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
    known: TimeLookup, source_id: str | None, dataset: str | None, now: datetime, *, keep_current: bool
) -> list[Retimed]:
    """Plan the new times of observations in the future, of one source or, with None, of all."""
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
    """Return the rows with these new times."""
    times: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for one in changes:
        times[one.checksum][one.source_id, one.dataset] = one.after
    rows = ((known.row(checksum), by_pair) for checksum, by_pair in times.items())
    return [_encoded(with_times(row, by_pair), rules) for row, by_pair in rows if row is not None]


def _encoded(row: Row, rules: Rules) -> Encoded:
    return encoded_row(encode_row(row, rules.record_bytes_max), row)


def _ranked_anew(known: Lookup, before: Row, edited: Row, checksum: str) -> Row:
    """Return the edited row with the rank of its own observation at its time, which the edit may have changed.

    The latest observation may be another one, if the edit moved this one back in time.
    """
    edited = edited | {"tie": 0}
    normal, _ = normalise(edited, checksum)
    own = find_observation(normal, source_key(edited))
    assert own is not None
    event = observation(own) | {"checksum": checksum}
    return edited | {"tie": ranked(event, _sightings(known, event), before).get("tie", 0)}


def _sightings(known: Lookup, row: Row) -> list[Sighting]:
    """Return the latest sighting of the row's source and dataset, and its source's sightings at exactly the row's time."""
    return known.recent(*source_key(row), sort_key(row)[0])
