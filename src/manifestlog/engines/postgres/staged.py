"""The writes that a transaction is about to make: plans read through it, so each sees the earlier ones of its batch.

Invariants:

- A content is written once, as the last plan left it; every plan has its own event.
- In one batch, an earlier observation never replaces a later one of a content, so the latest one that was read stays a
  bound.

Pure, except for its lookups.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.values import Seen, hashed, seen_in
from manifestlog.model import codec
from manifestlog.model.changes import said_of
from manifestlog.model.events import Event, EventKind
from manifestlog.model.rows import sightings_of, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details
    from manifestlog.model.rows import Row, Sighting
    from manifestlog.model.writes import Plan, TimeLookup

OTHER_INPUTS = hashed("\0inputs")
"""What an event is found by whose inputs its record does not show."""


class Logged(NamedTuple):
    """One event as a row of `log`, without its number and time."""

    kind: str
    checksum: bytes | None
    source: bytes | None
    run: bytes | None
    body: bytes | None
    details: bytes | None
    mentions: tuple[bytes, ...] = ()
    is_change: bool = True


def logged(kind: EventKind, checksum: str | None, row: Row | None, raw: bytes | None, details: Details) -> Logged:
    """Return an event of this content, source and details."""
    if row is not None and checksum is not None and not details and "derived_from" not in row:  # nearly always
        return Logged(kind.value, bytes.fromhex(checksum), hashed(row["source_id"]), None, raw, None)
    event = Event("", "", EventKind(details["kind"]) if "kind" in details else kind, checksum, row, details)
    return _logged(event, raw, details)


def logged_event(event: Event) -> Logged:
    """Return an event of another manifest."""
    raw = None if event.row is None else codec.dumps(event.row)
    if not event.unreadable and not event.details:  # nearly always
        return logged(event.kind, event.checksum, event.row, raw, event.details)
    return _logged(event, raw, said_of(event))


def _logged(event: Event, raw: bytes | None, said: object) -> Logged:
    source, run = event.source_id, event.run
    return Logged(
        event.kind.value,
        None if event.checksum is None else bytes.fromhex(event.checksum),
        None if source is None else hashed(source),
        None if run is None else hashed(run),
        raw,
        codec.dumps(said) if said else None,
        _mentions(event) if event.details or "derived_from" in (event.row or ()) else (),
        event.is_change,
    )


def _mentions(event: Event) -> tuple[bytes, ...]:
    found = [bytes.fromhex(one) for one in event.inputs]
    found += [hashed(source_id) for source_id, _ in event.recovered]
    if "inputs" in event.details:
        found.append(OTHER_INPUTS)
    return tuple(dict.fromkeys(found))


class Staged:
    """The writes of one transaction, and the lookups as they are after them."""

    def __init__(self, known: TimeLookup) -> None:
        self.known = known
        self.log: list[Logged] = []
        self.bodies: dict[str, bytes | None] = {}
        """What each changed content becomes; None: forgotten."""
        self._rows: dict[str, Row | None] = {}
        self._before: dict[str, Row | None] = {}
        self._by_source: dict[str, set[str]] = {}

    def take(self, plan: Plan, shared: Details | None = None) -> None:
        """Take over what a plan writes; `shared` are details of the whole batch."""
        details = {**(shared or {}), **(plan.details or {})}
        if plan.record is not None:
            self.put(plan.record, details)
        elif plan.details is not None:
            self.log.append(logged(EventKind.DERIVED, plan.details.get("checksum"), None, None, details))

    def put(self, record: Encoded, details: Details) -> None:
        """Add a record, or replace the one with the same checksum."""
        raw, checksum, source_ids = record
        row: Row = codec.loads(raw)
        self._change(checksum, row, raw)
        for source_id in source_ids:
            self._by_source.setdefault(source_id, set()).add(checksum)
        self.log.append(logged(EventKind.PUT, checksum, row, raw, details))

    def remove(self, checksum: str, details: Details) -> None:
        """Remove a record."""
        self._change(checksum, None, None)
        self.log.append(logged(EventKind.FORGET, checksum, None, None, details))

    def replay(self, event: Event) -> None:
        """Take over an event of another manifest, with what it has changed."""
        one = logged_event(event)
        if event.is_change and event.checksum is not None:
            self._change(event.checksum, event.row, one.body)
        self.log.append(one)

    def _change(self, checksum: str, row: Row | None, raw: bytes | None) -> None:
        if checksum not in self._before:
            self._before[checksum] = self.known.row(checksum)
        self._rows[checksum], self.bodies[checksum] = row, raw

    @property
    def added(self) -> int:
        """By how many the records become more."""
        return sum((row is not None) - (self._before[checksum] is not None) for checksum, row in self._rows.items())

    @property
    def size(self) -> int:
        """How many bytes the records and the events have."""
        records = sum(len(body) for body in self.bodies.values() if body is not None)
        return records + sum(len(one.body or b"") + len(one.details or b"") for one in self.log)

    def sightings(self) -> tuple[list[tuple[bytes, Seen]], list[tuple[bytes, Seen]]]:
        """Return (checksum, observation) of those that go, and of those that come."""
        gone: list[tuple[bytes, Seen]] = []
        come: list[tuple[bytes, Seen]] = []
        for checksum, row in self._rows.items():
            before, after, digest = seen_in(self._before[checksum]), seen_in(row), bytes.fromhex(checksum)
            gone += [(digest, one) for one in before - after]
            come += [(digest, one) for one in after - before]
        return gone, come

    # -- the `TimeLookup` protocol --------------------------------------------------------------------------------------

    def might_know(self, checksum: str, source_id: str) -> bool:
        return checksum in self._rows or source_id in self._by_source or self.known.might_know(checksum, source_id)

    def row(self, checksum: str) -> Row | None:
        return self._rows[checksum] if checksum in self._rows else self.known.row(checksum)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        found = [one for one in self.known.recent(source_id, dataset, moment) if one.checksum not in self._rows]
        found += self._own(source_id)
        latest = max((one for one in found if one.dataset == dataset), default=None)
        return [one for one in found if one is latest or one.order[0] == moment]

    def _own(self, source_id: str) -> Iterator[Sighting]:
        """Yield the sightings of a source in the contents that have changed here."""
        return sightings_of(source_id, map(self._rows.get, self._by_source.get(source_id, ())))

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        own = (one for one in self._own(source_id) if one.dataset == dataset and one.order[0] <= moment)
        known = self.known.latest_until(source_id, dataset, moment)
        return max(chain(own, [] if known is None or known.checksum in self._rows else [known]), default=None)

    def later_than(self, moment: str) -> Iterator[Row]:
        yield from (row for row in self.known.later_than(moment) if row["checksum"] not in self._rows)
        yield from (row for row in self._rows.values() if row is not None and sort_key(row)[0] > moment)
