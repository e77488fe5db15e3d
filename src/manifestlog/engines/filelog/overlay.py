"""The overlay: the log's records and tombstones in memory, by checksum and by source.

Invariants:

- An entry holds the log's last statement on a checksum: a whole record, or None for a tombstone.
- Records are kept as bytes. A record is parsed only when its source is first looked up.
- A sighting is valid only while its record is still the entry of its checksum. Lookups drop invalid ones.
- Applying a line twice changes nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model import codec
from manifestlog.model.codec import Encoded
from manifestlog.model.rows import Order, observations, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


Entry = tuple[bytes | None, int]
"""The record's bytes (None if forgotten), and the number of the segment that says so."""


class _Seen(NamedTuple):
    """An observation of one source and dataset, in the record with these bytes."""

    order: Order
    checksum: str
    raw: bytes


_order: Callable[[_Seen], tuple[str, float]] = attrgetter("order")


class Overlay:
    """Records and tombstones of the log. Not thread-safe; the session's mutex protects it."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._waiting: dict[str, bytes | list[bytes]] = {}
        self._sources: dict[str, dict[str, list[_Seen]]] = {}

    def put_all(self, puts: list[Encoded], segment: int) -> None:
        """Add records in log order."""
        waiting, entries = self._waiting, self.entries
        for raw, checksum, source_ids in puts:
            entries[checksum] = raw, segment
            for source_id in source_ids:
                others = waiting.setdefault(source_id, raw)  # no list for one record, which is the usual case
                if others is raw:
                    continue
                if isinstance(others, list):
                    others.append(raw)
                else:
                    waiting[source_id] = [others, raw]

    def forget(self, checksum: str, segment: int) -> None:
        self.entries[checksum] = None, segment

    def has_source(self, source_id: str) -> bool:
        return source_id in self._waiting or source_id in self._sources

    def datasets(self, source_id: str) -> Iterable[str]:
        """Return the datasets in which a source has been seen."""
        self._look_into(source_id)
        return self._sources.get(source_id, ())

    def newest(self, source_id: str, dataset: str, at: str | None = None) -> Iterator[tuple[Order, str]]:
        """Yield (order, checksum) of a source and dataset, newest first; with `at`, only those of exactly that time."""
        self._look_into(source_id)
        found = self._sources.get(source_id, {}).get(dataset, [])
        place = len(found) if at is None else bisect_left(found, (at, math.inf), key=_order)
        while place and (at is None or found[place - 1].order[0] == at):
            place -= 1
            if self._counts(found[place]):
                yield found[place].order, found[place].checksum
            else:
                del found[place]  # its record was replaced, so later lookups need not skip it again

    def _counts(self, seen: _Seen) -> bool:
        entry = self.entries.get(seen.checksum)
        return entry is not None and entry[0] is seen.raw

    def _look_into(self, source_id: str) -> None:
        waiting = self._waiting.get(source_id)
        if waiting is None:
            return
        datasets = self._sources.setdefault(source_id, {})
        for raw in [waiting] if isinstance(waiting, bytes) else waiting:
            row = codec.loads(raw)
            for seen in observations(row):
                if seen["source_id"] == source_id:
                    insort(datasets.setdefault(seen["dataset"], []), _Seen(sort_key(seen), row["checksum"], raw))
        # Last, so that an interrupt before this only parses them again; a sighting listed twice counts once.
        del self._waiting[source_id]

    def copy(self) -> Overlay:
        """Return a copy that later lines do not change."""
        copy = Overlay()
        copy.entries = dict(self.entries)
        copy._waiting = {s: list(raw) if isinstance(raw, list) else raw for s, raw in self._waiting.items()}
        copy._sources = {s: {d: list(seen) for d, seen in of.items()} for s, of in self._sources.items()}
        return copy

    def behind(self, covers: int) -> Overlay:
        """Return an overlay with only the entries that segments after `covers` have written.

        Every process does this under its locks when a compaction ends, so it parses nothing.
        """
        kept = Overlay()
        kept.entries = {checksum: entry for checksum, entry in self.entries.items() if entry[1] > covers}
        alive = {id(raw) for raw, _ in kept.entries.values()}  # by identity, as for the validity of sightings
        for source_id, waiting in self._waiting.items():
            if isinstance(waiting, bytes):
                if id(waiting) in alive:
                    kept._waiting[source_id] = waiting
            elif left := [raw for raw in waiting if id(raw) in alive]:
                kept._waiting[source_id] = left
        for source_id, datasets in self._sources.items():
            for dataset, found in datasets.items():
                if counting := [seen for seen in found if kept._counts(seen)]:
                    kept._sources.setdefault(source_id, {})[dataset] = counting
        return kept
