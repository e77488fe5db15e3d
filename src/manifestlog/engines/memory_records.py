"""The records of a manifest in memory, by checksum and by source.

Invariants:

- A copy shares nothing that changes: it is a snapshot.
- Adding to a source takes the same time however many contents it has: its sightings are sorted once, when they are first
  asked for, and then kept in order.

It decides nothing: the plans of `model.writes` look records up here. It has no lock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from manifestlog.model import codec
from manifestlog.model.rows import Row, Sighting, as_seen_by, observations, sightings_in, sightings_of, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manifestlog.model.codec import Encoded
    from manifestlog.model.earlier import Earlier


class Records:
    """Encoded records by checksum and by source: the plans look them up, and a snapshot copies them."""

    def __init__(self, metadata: Row, encoded: dict[str, bytes]) -> None:
        self._metadata = metadata
        self._encoded = encoded
        self._of_source: defaultdict[str, set[str]] = defaultdict(set)
        self._seen: dict[str, dict[str, list[Sighting]]] = {}
        """The sightings of a source by dataset, in order, for the sources that were asked for."""
        for checksum, raw in encoded.items():
            self._index(codec.encoded_bytes(raw), checksum)

    def _index(self, record: Encoded, checksum: str) -> None:
        for source_id in record[2]:
            self._of_source[source_id].add(checksum)

    def put(self, record: Encoded) -> None:
        """Add a record, or replace the one with the same checksum."""
        self.discard(record[1])
        self._encoded[record[1]] = record[0]
        self._index(record, record[1])  # a source that the record no longer names stays here; lookups filter it out
        for source_id, one in self._kept(record[0]):
            insort(self._seen[source_id].setdefault(one.dataset, []), one)

    def remove(self, checksum: str) -> None:
        """Remove a record, which must be there."""
        raw = self._encoded.pop(checksum)
        for source_id, one in self._kept(raw):
            seen = self._seen[source_id][one.dataset]
            del seen[bisect_left(seen, one)]

    def discard(self, checksum: str) -> None:
        """Remove a record if it is there."""
        if checksum in self._encoded:
            self.remove(checksum)

    def put_back(self, before: Iterable[tuple[str, bytes | None]], metadata: Row) -> None:
        """Undo what has happened to these contents and to the metadata since they were so."""
        for checksum, raw in before:
            if raw is None:
                self.discard(checksum)
            else:
                self.put(codec.encoded_bytes(raw))
        self._metadata |= metadata

    def _kept(self, raw: bytes) -> Iterator[tuple[str, Sighting]]:
        """Yield the sightings of a record with their sources, for the sources whose sightings are kept in order."""
        for source_id, one in sightings_in(codec.loads(raw)) if self._seen else ():
            if source_id in self._seen:
                yield source_id, one

    def copy(self) -> Records:
        return Records(dict(self._metadata), dict(self._encoded))

    def go_back(self, then: Earlier) -> None:
        """Make these the records of an earlier time."""
        for checksum, row in then.rows.items():
            if row is not None:
                self.put(codec.encoded_row(codec.dumps(row), row))
            else:
                self.discard(checksum)
        self._metadata = then.metadata_then(self._metadata, len(self))

    # -- the `Snapshot` protocol ---------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Row:
        return self._metadata | {"total_records": len(self)}

    def change_metadata(self, changes: Mapping[str, str]) -> None:
        self._metadata |= changes

    def __len__(self) -> int:
        return len(self._encoded)

    def checksums(self) -> Iterator[str]:
        return iter(sorted(self._encoded))

    def encoded(self, checksum: str) -> bytes | None:
        return self._encoded.get(checksum)

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        return iter([list(self.records())])

    def containing(self, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        return ((checksum, raw) for checksum, raw in self.records() if any(text in raw for text in texts))

    def records(self) -> Iterator[tuple[str, bytes]]:
        return ((checksum, self._encoded[checksum]) for checksum in self.checksums())

    def rows(self) -> Iterator[Row]:
        return (codec.loads(raw) for _, raw in self.records())

    def may_differ(self, other: object) -> Iterator[str] | None:
        del other
        return None

    def row(self, checksum: str) -> Row | None:
        raw = self._encoded.get(checksum)
        return None if raw is None else codec.loads(raw)

    def might_know(self, checksum: str, source_id: str) -> bool:
        return checksum in self._encoded or source_id in self._of_source

    def sightings(self, source_id: str) -> Iterator[Sighting]:
        """Yield every content that a source has had, with its time."""
        return chain.from_iterable(self._seen_of(source_id).values())

    def _seen_of(self, source_id: str) -> dict[str, list[Sighting]]:
        """Return the sightings of a source by dataset, in order."""
        found = self._seen.get(source_id)
        if found is None:
            found = self._sorted(source_id)
            if source_id in self._of_source:
                self._seen[source_id] = found  # complete: another thread may read it
        return found

    def _sorted(self, source_id: str) -> dict[str, list[Sighting]]:
        rows = (codec.loads(self._encoded[one]) for one in self._of_source.get(source_id, ()) if one in self._encoded)
        found: dict[str, list[Sighting]] = {}
        for one in sightings_of(source_id, rows):
            found.setdefault(one.dataset, []).append(one)
        for seen in found.values():
            seen.sort()
        return found

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        found: list[Sighting] = []
        for name, seen in self._seen_of(source_id).items():
            found += seen[bisect_left(seen, moment, key=_moment) : bisect_right(seen, moment, key=_moment)]
            if name == dataset and seen and _moment(seen[-1]) != moment:
                found.append(seen[-1])
        return found

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        seen = self._seen_of(source_id).get(dataset, [])
        end = bisect_right(seen, moment, key=_moment)
        return seen[end - 1] if end else None

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        by_dataset = self._seen_of(source_id)
        some = by_dataset.values() if dataset is None else [by_dataset.get(dataset, [])]
        found = max((seen[-1] for seen in some if seen), default=None)
        row = None if found is None else self.row(found.checksum)
        return None if found is None or row is None else as_seen_by(row, (source_id, found.dataset))

    def newest(self, until: str) -> str | None:
        times = (sort_key(one)[0] for row in self.rows() for one in observations(row))
        return max((when for when in times if when <= until), default=None)

    def later_than(self, moment: str) -> Iterator[Row]:
        return (row for row in self.rows() if sort_key(row)[0] > moment)


def _moment(one: Sighting) -> str:
    return one.order[0]
