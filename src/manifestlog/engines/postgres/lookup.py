"""Looks contents and sources up for plans, inside one transaction or one snapshot.

Invariants:

- Rows that were read ahead for a batch are not queried again; all others are queried when a plan needs them.
- A transaction reads only after it has locked the lanes, so nothing that it has read changes before it writes.

It writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.engines.postgres.values import hashed, hashed_pair, micros, sighting
from manifestlog.model import codec
from manifestlog.model.rows import Sighting, as_seen_by, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.model.rows import Row

BODY = "SELECT body FROM manifestlog.content WHERE manifest_id = %s AND checksum = %b"
BODIES = "SELECT checksum, body FROM manifestlog.content WHERE manifest_id = %s AND checksum = ANY(%b::bytea[])"
_HAS_MANY = "SELECT checksum FROM manifestlog.content WHERE manifest_id = %s AND checksum = ANY(%b::bytea[])"
HAS = "SELECT 1 FROM manifestlog.content WHERE manifest_id = %s AND checksum = %b"
_COLUMNS = "s.ts, s.tie, s.dataset, s.checksum"
_LATEST_OF_PAIR = f"""
    SELECT {_COLUMNS} FROM manifestlog.sighting s
    WHERE manifest_id = %s AND pair = %b AND ts <= %s ORDER BY ts DESC, tie DESC, checksum DESC LIMIT 1"""
_AT = f"SELECT {_COLUMNS} FROM manifestlog.sighting s WHERE manifest_id = %s AND source = %b AND ts = %s"
_LATEST_OF_PAIRS = f"""
    SELECT p.pair, {_COLUMNS} FROM unnest(%b::bytea[]) AS p(pair) CROSS JOIN LATERAL (
        SELECT ts, tie, dataset, checksum FROM manifestlog.sighting WHERE manifest_id = %s AND pair = p.pair
        ORDER BY ts DESC, tie DESC, checksum DESC LIMIT 1) s"""
_AT_MOMENTS = f"""
    SELECT m.source, m.ts, {_COLUMNS} FROM unnest(%b::bytea[], %b::bigint[]) AS m(source, ts)
    JOIN manifestlog.sighting s ON s.manifest_id = %s AND s.source = m.source AND s.ts = m.ts"""
_BODY_OF_LATEST = """
    SELECT body FROM manifestlog.content WHERE manifest_id = %s AND checksum = (
        SELECT checksum FROM manifestlog.sighting WHERE manifest_id = %s AND pair = %b
        ORDER BY ts DESC, tie DESC, checksum DESC LIMIT 1)"""
_BODIES_OF_SOURCE = """
    SELECT c.body, s.dataset FROM manifestlog.sighting s
    JOIN manifestlog.content c ON c.manifest_id = s.manifest_id AND c.checksum = s.checksum
    WHERE s.manifest_id = %s AND s.source = %b
        AND s.ts = (SELECT max(ts) FROM manifestlog.sighting WHERE manifest_id = %s AND source = %b)
    ORDER BY s.tie DESC, s.dataset DESC, s.checksum DESC LIMIT 1"""
_LATER = """
    SELECT c.body FROM manifestlog.content c WHERE c.manifest_id = %s AND c.checksum IN (
        SELECT checksum FROM manifestlog.sighting WHERE manifest_id = %s AND ts / 1000000 >= %s::bigint / 1000000)"""
_NEWEST = """
    SELECT ts FROM manifestlog.sighting WHERE manifest_id = %s AND ts / 1000000 <= %s::bigint / 1000000 AND ts <= %s
    ORDER BY ts / 1000000 DESC, ts DESC LIMIT 1"""
_SIGHTINGS = f"""
    SELECT {_COLUMNS} FROM manifestlog.sighting s WHERE manifest_id = %s AND source = %b
    ORDER BY ts DESC, tie DESC, dataset DESC, checksum DESC"""
_FOREVER = 2**62


class Known:
    """The lookups of plans, over one slot's transaction."""

    def __init__(self, slot: Slot, manifest_id: int, before: Callable[[], None] = lambda: None) -> None:
        self._slot = slot
        self._id = manifest_id
        self._before = before
        """Called before the server is asked what was not read ahead."""
        self._bodies: dict[str, bytes | None] = {}
        self._latest: dict[tuple[str, str], Sighting | None] = {}
        self._at: dict[tuple[str, str], list[Sighting]] = {}
        self._new_sources: set[str] = set()
        """Sources whose additions were read ahead, and of which nothing was found."""

    # -- reading ahead ---------------------------------------------------------------------------------------------------

    def note_bodies(self, checksums: Iterable[str], found: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember the records of these contents; those that were not found are unknown."""
        self._bodies.update(dict.fromkeys(checksums))
        self._bodies.update((digest.hex(), body) for digest, body in found)

    def ask_of_sources(self, rows: list[Row]) -> Callable[[], None]:
        """Ask, in a pipeline, what additions of these rows depend on besides their own contents; call to take the answers."""
        pairs = {(row["source_id"], row["dataset"]) for row in rows}
        moments = {(row["source_id"], sort_key(row)[0]) for row in rows}
        by_pair = {hashed_pair(*pair): pair for pair in pairs}
        by_moment = {(hashed(source), micros(when)): (source, when) for source, when in moments}
        latest = self._slot.send(_LATEST_OF_PAIRS, list(by_pair), self._id)
        sources, times = [source for source, _ in by_moment], [ts for _, ts in by_moment]
        at = self._slot.send(_AT_MOMENTS, sources, times, self._id)

        def take() -> None:
            self._latest.update(dict.fromkeys(pairs))
            self._at.update((moment, []) for moment in moments)
            for pair, *found in latest.rows:
                self._latest[by_pair[pair]] = sighting(*found)
            for source, ts, *found in at.rows:
                self._at[by_moment[source, ts]].append(sighting(*found))
            self._new_sources |= {source for source, _ in pairs} - self._sources_with_sightings()

        return take

    def _sources_with_sightings(self) -> set[str]:
        seen = {source for (source, _), found in self._latest.items() if found is not None}
        return seen | {source for (source, _), found in self._at.items() if found}

    # -- the `TimeLookup` protocol --------------------------------------------------------------------------------------

    def might_know(self, checksum: str, source_id: str) -> bool:
        return source_id not in self._new_sources or self.encoded(checksum) is not None

    def encoded(self, checksum: str) -> bytes | None:
        """Return a record's JSON, or None."""
        if checksum not in self._bodies:
            self._before()
            self._bodies[checksum] = self._slot.value(BODY, self._id, bytes.fromhex(checksum))
        return self._bodies[checksum]

    def row(self, checksum: str) -> Row | None:
        raw = self.encoded(checksum)
        return None if raw is None else codec.loads(raw)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        pair, when = (source_id, dataset), (source_id, moment)
        if pair not in self._latest:
            self._latest[pair] = self.latest_until(source_id, dataset, None)
        if when not in self._at:
            self._before()
            found = self._slot.rows(_AT, self._id, hashed(source_id), micros(moment))
            self._at[when] = [sighting(*one) for one in found]
        latest = self._latest[pair]
        others = [one for one in self._at[when] if one != latest]
        return others if latest is None else [latest, *others]

    def latest_until(self, source_id: str, dataset: str, moment: str | None) -> Sighting | None:
        until = _FOREVER if moment is None else micros(moment)
        self._before()
        found = self._slot.rows(_LATEST_OF_PAIR, self._id, hashed_pair(source_id, dataset), until)
        return sighting(*found[0]) if found else None

    def later_than(self, moment: str) -> Iterator[Row]:
        self._before()
        rows = (codec.loads(body) for (body,) in self._slot.rows(_LATER, self._id, self._id, micros(moment)))
        return (row for row in rows if sort_key(row)[0] > moment)

    # -- what only readers ask --------------------------------------------------------------------------------------------

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        """Return a source's latest row as seen by that source; with `dataset=None`, over all its datasets."""
        return latest(self._slot, self._id, source_id, dataset)

    def newest(self, until: str) -> int | None:
        """Return the time of the latest observation not after this time, in microseconds."""
        moment = micros(until)
        found = self._slot.rows(_NEWEST, self._id, moment, moment)
        return int(found[0][0]) if found else None

    def sightings(self, source_id: str) -> Iterator[Sighting]:
        """Yield every sighting of a source, the latest first."""
        return (sighting(*one) for one in self._slot.rows(_SIGHTINGS, self._id, hashed(source_id)))


def latest(slot: Slot, manifest_id: int, source_id: str, dataset: str | None) -> Row | None:
    """Return a source's latest row as seen by that source; with `dataset=None`, over all its datasets."""
    if dataset is None:
        source = hashed(source_id)
        found = slot.rows(_BODIES_OF_SOURCE, manifest_id, source, manifest_id, source)
        if not found:
            return None
        body, dataset = found[0][0], found[0][1].decode()
    else:
        body = slot.value(_BODY_OF_LATEST, manifest_id, manifest_id, hashed_pair(source_id, dataset))
        if body is None:
            return None
    return as_seen_by(codec.loads(body), (source_id, dataset))


def has(slot: Slot, manifest_id: int, checksum: str) -> bool:
    """Return whether a content is known."""
    return slot.value(HAS, manifest_id, bytes.fromhex(checksum)) is not None


def has_many(slot: Slot, manifest_id: int, checksums: Sequence[str]) -> set[str]:
    """Return those of these contents that are known."""
    return {digest.hex() for (digest,) in slot.rows(_HAS_MANY, manifest_id, [*map(bytes.fromhex, checksums)])}
