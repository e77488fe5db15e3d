"""The view of a manifest: lookups over the canonical file and the overlays above it, the newest on top.

Invariants:

- The topmost layer that names a checksum decides; lower layers are ignored for that checksum.
- Every record read from the canonical file is checked against its CRC.

A view is not a copy: it changes with its live overlay. `frozen` returns a view that does not change.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import merge as merge_sorted
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog.canonical import reading
from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.model import codec
from manifestlog.model.rows import Row, Sighting, as_seen_by, observations, sort_key, source_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manifestlog.engines.filelog.canonical.files import CanonicalFiles

_FIRST_TIME = "0001-01-01T00:00:00"
_RECORDS_AT_ONCE = 512


class View(NamedTuple):
    """Overlays, topmost first, over a base. Lookups raise `IndexDamagedError` if the index is damaged."""

    base: CanonicalFiles
    overlays: tuple[Overlay, ...]

    def raw(self, checksum: str) -> bytes | None:
        """Return the bytes of a record, or None."""
        for overlay in self.overlays:
            entry = overlay.entries.get(checksum)
            if entry is not None:
                return entry[0]
        number = self.base.index.find(bytes.fromhex(checksum))
        return None if number < 0 else self._record(number)

    def _record(self, number: int) -> bytes:
        return self.base.canonical.record(self.base.index.place(number))

    def has(self, checksum: str) -> bool:
        for overlay in self.overlays:
            entry = overlay.entries.get(checksum)
            if entry is not None:
                return entry[0] is not None
        return self.base.index.find(bytes.fromhex(checksum)) >= 0

    def might_know(self, checksum: str, source_id: str) -> bool:
        """Return false only if nothing here can affect a record of this content and source."""
        for overlay in self.overlays:
            if checksum in overlay.entries or overlay.has_source(source_id):
                return True
        index = self.base.index
        return index.find(bytes.fromhex(checksum)) >= 0 or index.has_source(source_id)

    def row(self, checksum: str) -> Row | None:
        raw = self.raw(checksum)
        if raw is None:
            return None
        row: Row = codec.loads(raw)
        return row

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        """Return the latest record of a source as seen by that source; with `dataset=None`, over all its datasets."""
        groups = self.base.index.groups(source_id, dataset)
        if len(groups) == 1 and (row := self._usual_latest(source_id, dataset, groups[0])) is not None:
            return row
        found = max(self._latest(source_id, dataset, groups), default=None)
        if found is None:
            return None
        row = self.row(found.checksum)
        return None if row is None else as_seen_by(row, (source_id, found.dataset))

    def _usual_latest(self, source_id: str, dataset: str | None, group: range) -> Row | None:
        """Answer `latest` fast for the usual case: a source only in the canonical, in one dataset, alone. Else None."""
        if any(overlay.has_source(source_id) for overlay in self.overlays):
            return None
        numbers = list(self.base.index.named(group[-1]))
        if len(numbers) != 1:
            return None
        row: Row = codec.loads(self._record(numbers[0]))
        # Hashes may collide, and a later log line may have added other sources to this content.
        alone = source_key(row) == (source_id, dataset or row["dataset"]) and "also_seen" not in row
        return row if alone and not self._named(row["checksum"], len(self.overlays)) else None

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        """Return what a source's write at this moment depends on.

        That is the source's latest sighting in this dataset, and its sightings at exactly this moment in any dataset: of
        each dataset at least the two of the highest rank, if it has two.
        """
        index = self.base.index
        groups = index.groups(source_id, None)
        found = self._latest(source_id, dataset, [group for group in groups if index.may_have(group, dataset)])
        for depth, overlay in enumerate(self.overlays):
            if overlay.has_source(source_id):
                for name in overlay.datasets(source_id):
                    found += _two([one] for one in self._in_overlay(depth, source_id, name, moment))
        for group in groups:
            found += _two(self._in_base(reversed(index.at(group, moment)), source_id, None))
        return found

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        """Return the latest sighting of a source and dataset up to this moment."""
        found: list[Sighting] = []
        for depth, overlay in enumerate(self.overlays):
            if overlay.has_source(source_id):
                seen = self._in_overlay(depth, source_id, dataset)
                found += islice((one for one in seen if one.order[0] <= moment), 1)
        for group in self.base.index.groups(source_id, dataset):
            for some in self._in_base(reversed(group), source_id, dataset):
                if until := [one for one in some if one.order[0] <= moment]:
                    found += until
                    break
        return max(found, default=None)

    def later_than(self, moment: str) -> Iterator[Row]:
        """Yield the rows whose latest observation has a later time. Only for a view with one overlay."""
        (overlay,) = self.overlays
        rows = (codec.loads(raw) for raw, _ in overlay.entries.values() if raw is not None)
        yield from (row for row in rows if sort_key(row)[0] > moment)
        index = self.base.index
        numbers = {number for row in index.later_than(moment) for number in index.named(row)}
        for number in sorted(numbers):
            if index.digest(number).hex() not in overlay.entries:
                row: Row = codec.loads(self._record(number))
                if sort_key(row)[0] > moment:
                    yield row

    def newest(self, until: str) -> str | None:
        """Return the time of the latest observation not after this time. Only for a frozen view with one overlay."""
        (overlay,) = self.overlays
        rows = (codec.loads(raw) for raw, _ in overlay.entries.values() if raw is not None)
        times = (sort_key(one)[0] for row in rows for one in observations(row))
        found = max((when for when in times if when <= until), default=None)
        index = self.base.index
        for number in index.latest_rows(found or _FIRST_TIME, until):
            if below := self._times_in_base(number, overlay):
                return max(below)
        return found

    def _times_in_base(self, row: int, overlay: Overlay) -> list[str]:
        """Return the times of the observations of this index row, without those of contents that the overlay names."""
        index = self.base.index
        numbers = (n for n in index.named(row) if index.digest(n).hex() not in overlay.entries)
        orders = (sort_key(one) for n in numbers for one in observations(codec.loads(self._record(n))))
        return [order[0] for order in orders if index.is_of_time(row, order)]

    def _latest(self, source_id: str, dataset: str | None, groups: list[range]) -> list[Sighting]:
        """Return the latest sighting of a source in each layer and in each group of the index."""
        found: list[Sighting] = []
        for depth, overlay in enumerate(self.overlays):
            if overlay.has_source(source_id):
                for name in overlay.datasets(source_id) if dataset is None else (dataset,):
                    found += islice(self._in_overlay(depth, source_id, name), 1)
        for group in groups:
            found += next(self._in_base(reversed(group), source_id, dataset), ())
        return found

    def _in_overlay(self, depth: int, source_id: str, dataset: str, at: str | None = None) -> Iterator[Sighting]:
        for order, checksum in self.overlays[depth].newest(source_id, dataset, at):
            if not self._named(checksum, depth):
                yield Sighting(order, dataset, checksum)

    def _named(self, checksum: str, depth: int) -> bool:
        return any(checksum in overlay.entries for overlay in self.overlays[:depth])

    def _in_base(self, rows: Iterable[int], source_id: str, dataset: str | None) -> Iterator[list[Sighting]]:
        """Yield the sightings of these index rows, without those whose checksum an overlay names."""
        index = self.base.index
        for row in rows:
            seen: list[Sighting] = []
            for number in index.named(row):
                checksum = index.digest(number).hex()
                if not self._named(checksum, len(self.overlays)):
                    seen += [
                        Sighting(order, o["dataset"], checksum)
                        for o in observations(codec.loads(self._record(number)))
                        if o["source_id"] == source_id
                        and dataset in (None, o["dataset"])
                        and index.is_of_time(row, order := sort_key(o))
                    ]
            if seen:
                yield seen

    def frozen(self) -> View:
        """Return a copy that later writes do not change."""
        return View(self.base, tuple(overlay.copy() for overlay in self.overlays))

    def changed(self, rows: Mapping[str, Row | None]) -> View:
        """Return a frozen view in which these rows are different, None for no row. Only for a view with one overlay."""
        (overlay,) = self.frozen().overlays
        for checksum, row in rows.items():
            if row is None:
                overlay.forget(checksum, 0)
            else:
                overlay.put_all([codec.encoded_row(codec.dumps(row), row)], 0)
        return View(self.base, (overlay,))

    def may_differ(self, other: View) -> Iterator[str] | None:
        """Iterate over the checksums, sorted, whose records may differ in the other view; None if their bases differ."""
        if self.base.identity != other.base.identity:
            return None
        return iter(
            sorted({checksum for view in (self, other) for overlay in view.overlays for checksum in overlay.entries})
        )

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        """Iterate over all records as (checksum, JSON), sorted, in lists. Only for a view that `checksums` allows."""
        (overlay,) = self.overlays
        entries = overlay.entries
        own = sorted((checksum, raw) for checksum, (raw, _) in entries.items() if raw is not None)
        done = 0
        for below in reading.batches(self.base.canonical, self.base.index):
            if not entries or not below:
                yield below
                continue
            # The next block begins behind this one's last record, and a tuple sorts behind its own beginning.
            end = bisect_right(own, below[-1], done)
            yield sorted([*(one for one in below if one[0] not in entries), *own[done:end]])
            done = end
        for first in range(done, len(own), _RECORDS_AT_ONCE):
            yield own[first : first + _RECORDS_AT_ONCE]

    def containing(self, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        """Iterate over the records with one of these texts in their JSON, in no order. Only for a view as for `checksums`."""
        (overlay,) = self.overlays
        entries = overlay.entries
        below = reading.containing(self.base.canonical, self.base.index, texts)
        yield from ((checksum, raw) for checksum, raw in below if checksum not in entries)
        for checksum, (raw, _) in entries.items():
            if raw is not None and any(text in raw for text in texts):
                yield checksum, raw

    def checksums(self) -> Iterator[str]:
        """Iterate over all checksums, sorted. Only for a frozen view with one overlay, whose index was checked whole."""
        (overlay,) = self.overlays
        if not overlay.entries:
            return self.base.index.checked_checksums()
        own = sorted(checksum for checksum, (raw, _) in overlay.entries.items() if raw is not None)
        below = (c for c in self.base.index.checked_checksums() if c not in overlay.entries)
        return merge_sorted(own, below)


def _two(seen: Iterable[list[Sighting]]) -> list[Sighting]:
    """Return the first of these sightings, up to and including the first one of a second content."""
    found: list[Sighting] = []
    for some in seen:
        found += some
        if found[0].checksum != found[-1].checksum:
            break
    return found
