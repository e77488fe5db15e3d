"""What the manifest holds at one moment: overlays over the canonical, the newest on top.

Invariants:

- The topmost layer that names a checksum decides; what lies below it for that checksum is as if it were not there.
- Every record read from the canonical was compared with its CRC.

It is a way of looking, not a copy: a view of a live overlay changes with it. `frozen` gives one that does not.
"""

from __future__ import annotations

from heapq import merge as merge_sorted
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.rows import Row, Sighting, observations, order_of, pair_of, view
from manifestlog.storage import codec
from manifestlog.storage.overlay import Overlay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.storage.base import BaseFiles


_NEVER = "\U0010ffff"
"""Later than any time: with it, only the latest counts."""


class View(NamedTuple):
    """Overlays, topmost first, over a base. Lookups raise `IndexDamagedError` when the index is no good."""

    base: BaseFiles
    overlays: tuple[Overlay, ...]

    def raw(self, checksum: str) -> bytes | None:
        """The bytes of a record, or None."""
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

    def knows(self, checksum: str, source_id: str) -> bool:
        """Whether anything here can matter to a record of this content and source; rather yes than no."""
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

    def current(self, source_id: str, dataset: str | None) -> Row | None:
        """The latest record of a source as it sees it; over all its datasets with `dataset=None`."""
        row = self._usual_current(source_id, dataset)
        if row is not None:
            return row
        found = max(self.sightings(source_id, dataset), default=None)
        if found is None:
            return None
        row = self.row(found.checksum)
        return None if row is None else view(row, (source_id, found.dataset))

    def _usual_current(self, source_id: str, dataset: str | None) -> Row | None:
        """The same where it is quickly told: only the canonical knows the source, in one dataset, alone; else None."""
        if any(overlay.has_source(source_id) for overlay in self.overlays):
            return None
        index = self.base.index
        groups = index.groups(source_id, dataset)
        number = next(index.newest(groups[0]), -1) if len(groups) == 1 else -1
        if number < 0:
            return None
        row: Row = codec.loads(self._record(number))
        # Hashes may collide, and a later line of the log may have given this content to others.
        alone = pair_of(row) == (source_id, dataset or row["dataset"]) and "also_seen" not in row
        return row if alone and not self._named(row["checksum"], len(self.overlays)) else None

    def sightings(self, source_id: str, dataset: str | None, since: str = _NEVER) -> list[Sighting]:
        """The latest content of a source for each of its datasets, and all others that are not older than `since`."""
        found: list[Sighting] = []
        for depth, overlay in enumerate(self.overlays):
            if overlay.has_source(source_id):
                found += self._in_overlay(depth, source_id, dataset, since)
        if groups := self.base.index.groups(source_id, dataset):
            found += self._in_base(groups, (source_id, dataset), since)
        return found

    def _in_overlay(self, depth: int, source_id: str, dataset: str | None, since: str) -> Iterator[Sighting]:
        for name, newest in self.overlays[depth].groups(source_id, dataset):
            for order, checksum in newest:
                if self._named(checksum, depth):
                    continue
                yield Sighting(order, name, checksum)
                if order[0] < since:
                    break

    def _named(self, checksum: str, depth: int) -> bool:
        return any(checksum in overlay.entries for overlay in self.overlays[:depth])

    def _in_base(self, groups: list[range], source: tuple[str, str | None], since: str) -> Iterator[Sighting]:
        index = self.base.index
        source_id, dataset = source
        for group in groups:
            for number in index.newest(group):
                checksum = index.digest(number).hex()
                if self._named(checksum, len(self.overlays)):
                    continue
                seen = [
                    Sighting(order_of(o), o["dataset"], checksum)
                    for o in observations(codec.loads(self._record(number)))
                    if pair_of(o) == (source_id, dataset or o["dataset"])
                ]
                yield from seen
                if seen and max(seen).order[0] < since:
                    break

    def frozen(self) -> View:
        """The same, unmoved by what comes later."""
        copies = []
        for overlay in self.overlays:
            copy = Overlay()
            copy.entries = dict(overlay.entries)
            copies.append(copy)
        return View(self.base, tuple(copies))

    def checksums(self) -> Iterator[str]:
        """Every checksum, sorted. Only for a frozen view with one overlay."""
        (overlay,) = self.overlays
        own = sorted(checksum for checksum, (raw, _) in overlay.entries.items() if raw is not None)
        below = (c for c in self.base.index.checksums() if c not in overlay.entries)
        return merge_sorted(own, below)
