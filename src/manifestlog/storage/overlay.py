"""What is only in the log: its records and tombstones in memory, by checksum and by source.

Invariants:

- An entry holds the last that the log says of a checksum: a whole record, or None for a tombstone.
- A record's bytes are kept, not its parsed form: a log of 64 MiB takes about twice that in memory, and no more.
- Applying a line twice changes nothing.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.rows import Order, Row, observations, order_of, pair_of
from manifestlog.storage import codec

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry(NamedTuple):
    """The record's bytes (None: forgotten), and the segment that says so."""

    raw: bytes | None
    segment: int


class Overlay:
    """Records and tombstones of the log. Not safe for threads; the store's mutex is around it."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._sources: dict[str, dict[str, list[tuple[Order, str]]]] = {}

    def put(self, raw: bytes, row: Row, segment: int) -> None:
        checksum = row["checksum"]
        self._drop_sources(checksum)
        self.entries[checksum] = Entry(raw, segment)
        for seen in (row, *row.get("also_seen", ())):
            datasets = self._sources.setdefault(seen["source_id"], {})
            insort(datasets.setdefault(seen["dataset"], []), (order_of(seen), checksum))

    def forget(self, checksum: str, segment: int) -> None:
        self._drop_sources(checksum)
        self.entries[checksum] = Entry(None, segment)

    def _drop_sources(self, checksum: str) -> None:
        entry = self.entries.get(checksum)
        if entry is None or entry.raw is None:
            return
        for seen in observations(codec.loads(entry.raw)):
            source_id, dataset = pair_of(seen)
            # Not there when an interrupt fell between the two halves of `put`.
            found = self._sources.get(source_id, {}).get(dataset, [])
            if (order_of(seen), checksum) in found:
                found.remove((order_of(seen), checksum))

    def has_source(self, source_id: str) -> bool:
        return source_id in self._sources

    def newest(self, source_id: str, dataset: str | None) -> Iterator[tuple[Order, str, str]]:
        """(order, dataset, checksum) of a source's observations: newest first within each dataset."""
        datasets = self._sources.get(source_id, {})
        for name in datasets if dataset is None else (dataset,):
            for order, checksum in reversed(datasets.get(name, ())):
                yield order, name, checksum

    def behind(self, covers: int) -> Overlay:
        """An overlay of those entries only that segments after `covers` have written."""
        kept = Overlay()
        for checksum, entry in self.entries.items():
            if entry.segment > covers:
                if entry.raw is None:
                    kept.forget(checksum, entry.segment)
                else:
                    kept.put(entry.raw, codec.loads(entry.raw), entry.segment)
        return kept
