"""The manifest at an earlier time: a present snapshot, in which each content that has changed since is as it was then.

Invariants:

- The state of a content that has changed since is taken only from its events.
"""

from __future__ import annotations

from heapq import merge
from itertools import chain, islice
from typing import TYPE_CHECKING

from manifestlog.model import codec
from manifestlog.model.rows import as_seen_by, observations, sightings_of, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.engines.postgres.snapshot import PostgresSnapshot
    from manifestlog.model.earlier import Earlier
    from manifestlog.model.rows import Row, Sighting

_RECORDS_AT_ONCE = 512


class PastSnapshot:
    """The manifest at an earlier moment."""

    def __init__(self, now: PostgresSnapshot, then: Earlier) -> None:
        self._now = now
        self._rows = then.rows
        self._encoded = {one: codec.dumps(row) for one, row in sorted(then.rows.items()) if row is not None}
        self._of_source: dict[str, set[str]] = {}
        for checksum in self._encoded:
            for one in observations(self._rows[checksum] or {}):
                self._of_source.setdefault(one["source_id"], set()).add(checksum)
        present = sum(now.encoded(checksum) is not None for checksum in then.rows)
        self.metadata = then.metadata_then(now.metadata, len(now) - present + len(self._encoded))

    def __len__(self) -> int:
        return int(self.metadata["total_records"])

    def checksums(self) -> Iterator[str]:
        return merge(self._encoded, (one for one in self._now.checksums() if one not in self._rows))

    def encoded(self, checksum: str) -> bytes | None:
        return self._encoded.get(checksum) if checksum in self._rows else self._now.encoded(checksum)

    def records(self) -> Iterator[tuple[str, bytes]]:
        unchanged = (pair for pair in self._now.records() if pair[0] not in self._rows)
        return merge(self._encoded.items(), unchanged)

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        records = self.records()
        while some := list(islice(records, _RECORDS_AT_ONCE)):
            yield some

    def containing(self, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        return ((checksum, raw) for checksum, raw in self.records() if any(text in raw for text in texts))

    def rows(self) -> Iterator[Row]:
        return chain.from_iterable(codec.loads_all(raw for _, raw in some) for some in self.batches())

    def may_differ(self, other: object) -> Iterator[str] | None:
        del other
        return None

    def _sightings(self, source_id: str) -> Iterator[Sighting]:
        yield from (one for one in self._now.sightings(source_id) if one.checksum not in self._rows)
        yield from sightings_of(source_id, map(self._rows.get, self._of_source.get(source_id, ())))

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        found = max((one for one in self._sightings(source_id) if dataset in (None, one.dataset)), default=None)
        row = None if found is None else self.row(found.checksum)
        return None if found is None or row is None else as_seen_by(row, (source_id, found.dataset))

    def newest(self, until: str) -> str | None:
        times = (sort_key(one)[0] for row in self.rows() for one in observations(row))
        return max((when for when in times if when <= until), default=None)

    # -- the `TimeLookup` protocol ---------------------------------------------------------------------------------------

    def might_know(self, checksum: str, source_id: str) -> bool:
        return self.row(checksum) is not None or any(True for _ in self._sightings(source_id))

    def row(self, checksum: str) -> Row | None:
        raw = self.encoded(checksum)
        return None if raw is None else codec.loads(raw)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        seen = list(self._sightings(source_id))
        latest = max((one for one in seen if one.dataset == dataset), default=None)
        return [one for one in seen if one is latest or one.order[0] == moment]

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        seen = (one for one in self._sightings(source_id) if one.dataset == dataset and one.order[0] <= moment)
        return max(seen, default=None)

    def later_than(self, moment: str) -> Iterator[Row]:
        yield from (row for row in self._now.later_than(moment) if row["checksum"] not in self._rows)
        yield from (row for row in self._rows.values() if row is not None and sort_key(row)[0] > moment)
