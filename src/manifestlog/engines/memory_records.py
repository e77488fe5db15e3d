"""The records of a manifest in memory, by checksum and by source.

Invariants:

- A copy shares nothing that changes: it is a snapshot.

It decides nothing: the plans of `model.writes` look records up here. It has no lock.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from manifestlog.model import codec
from manifestlog.model.rows import Row, Sighting, as_seen_by, observations, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manifestlog.model.codec import Encoded
    from manifestlog.model.earlier import Earlier


class Records:
    """Encoded records by checksum and by source: the plans look them up, and a snapshot copies them."""

    def __init__(self, metadata: Row, encoded: dict[str, bytes]) -> None:
        self._metadata = metadata
        self._encoded = encoded
        self._of_source: defaultdict[str, set[str]] = defaultdict(set)
        for checksum, raw in encoded.items():
            self._index(codec.encoded_bytes(raw), checksum)

    def _index(self, record: Encoded, checksum: str) -> None:
        for source_id in record[2]:
            self._of_source[source_id].add(checksum)

    def put(self, record: Encoded) -> None:
        """Add a record, or replace the one with the same checksum."""
        self._encoded[record[1]] = record[0]
        self._index(record, record[1])  # a source that the record no longer names stays here; lookups filter it out

    def remove(self, checksum: str) -> None:
        del self._encoded[checksum]

    def copy(self) -> Records:
        return Records(dict(self._metadata), dict(self._encoded))

    def go_back(self, then: Earlier) -> None:
        """Make these the records of an earlier time."""
        for checksum, row in then.rows.items():
            if row is not None:
                self.put(codec.encoded_row(codec.dumps(row), row))
            else:
                self._encoded.pop(checksum, None)
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
        for checksum in self._of_source.get(source_id, ()):
            for one in observations(self.row(checksum) or {}) if checksum in self._encoded else ():
                if one["source_id"] == source_id:
                    yield Sighting(sort_key(one), one["dataset"], checksum)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        seen = list(self.sightings(source_id))
        latest = max((one for one in seen if one.dataset == dataset), default=None)
        return [one for one in seen if one is latest or one.order[0] == moment]

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        seen = (one for one in self.sightings(source_id) if one.dataset == dataset and one.order[0] <= moment)
        return max(seen, default=None)

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        found = max((one for one in self.sightings(source_id) if dataset in (None, one.dataset)), default=None)
        row = None if found is None else self.row(found.checksum)
        return None if found is None or row is None else as_seen_by(row, (source_id, found.dataset))

    def newest(self, until: str) -> str | None:
        times = (sort_key(one)[0] for row in self.rows() for one in observations(row))
        return max((when for when in times if when <= until), default=None)

    def later_than(self, moment: str) -> Iterator[Row]:
        return (row for row in self.rows() if sort_key(row)[0] > moment)
