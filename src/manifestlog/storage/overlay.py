"""What is only in the log: its records and tombstones in memory, by checksum and by source.

Invariants:

- An entry holds the last that the log says of a checksum: a whole record, or None for a tombstone.
- A record's bytes are kept, not its parsed form, and nobody looks into them before its source is asked for.
- A sighting counts only while the record that it was seen in is still the entry of its checksum: nothing is ever unlinked.
- Applying a line twice changes nothing.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.rows import Order, observations, order_of
from manifestlog.storage import codec
from manifestlog.storage.lines import Put

if TYPE_CHECKING:
    from collections.abc import Iterator


Entry = tuple[bytes | None, int]
"""The record's bytes (None: forgotten), and the segment that says so."""


class _Seen(NamedTuple):
    """An observation of one source and dataset, in the record with these bytes."""

    order: Order
    checksum: str
    raw: bytes


class Overlay:
    """Records and tombstones of the log. Not safe for threads; the session's mutex is around it."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._waiting: dict[str, bytes | list[bytes]] = {}
        self._sources: dict[str, dict[str, list[_Seen]]] = {}

    def put_all(self, puts: list[Put], segment: int) -> None:
        """Take over records, the later ones last."""
        waiting, entries = self._waiting, self.entries
        for raw, checksum, source_ids in puts:
            entries[checksum] = raw, segment
            for source_id in source_ids:
                others = waiting.setdefault(source_id, raw)  # no list for one: most sources have one record in a log
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

    def groups(self, source_id: str, dataset: str | None) -> Iterator[tuple[str, Iterator[tuple[Order, str]]]]:
        """For each dataset of a source: its name, and (order, checksum) of its observations, newest first."""
        self._look_into(source_id)
        datasets = self._sources.get(source_id, {})
        for name in datasets if dataset is None else (dataset,):
            yield name, self._newest(datasets.get(name, []))

    def _newest(self, found: list[_Seen]) -> Iterator[tuple[Order, str]]:
        while found and not self._counts(found[-1]):
            found.pop()
        for seen in reversed(found):
            if self._counts(seen):
                yield seen.order, seen.checksum

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
                    insort(datasets.setdefault(seen["dataset"], []), _Seen(order_of(seen), row["checksum"], raw))
        # Last: an interrupt before this makes them be looked into again, and a sighting twice is still that sighting.
        del self._waiting[source_id]

    def behind(self, covers: int) -> Overlay:
        """An overlay of those entries only that segments after `covers` have written.

        Every process does this under its locks when a compaction has ended, so nothing is parsed for it.
        """
        kept = Overlay()
        kept.entries = {checksum: entry for checksum, entry in self.entries.items() if entry[1] > covers}
        alive = {id(raw) for raw, _ in kept.entries.values()}  # the very bytes: sightings are told apart by them
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
