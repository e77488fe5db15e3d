"""The result of a salvage: the surviving records of canonical and log, in layers, and the list of losses.

Invariants:

- The log overrides the canonical for a record; a `forget` in the log removes it.
- If an index decides, a record of the canonical counts only with the CRC that the index has for it.
- The layers are merged while they are read: the canonical's records are not held in memory.

`reconcile` builds the layers and finds the losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import merge as merge_sorted
from operator import itemgetter
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.engines.reports import Loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.filelog.canonical.index import Index
    from manifestlog.engines.filelog.recovery import salvage_canonical
    from manifestlog.model.rows import Row

_CANONICAL = 1
_NAMED_MAX = 1000


@dataclass(slots=True)
class Salvage:
    """The surviving parts of a manifest. `over` overrides the canonical's records; they override `under`."""

    metadata: Row
    made_up: list[str] = field(default_factory=list)
    """Members of the metadata that no file states any more."""
    lost: list[Loss] = field(default_factory=list)
    notes: list[Loss] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    last_number: int = 0
    created: str | None = None
    """The manifest's creation time, as its log states it."""
    over: Overlay = field(default_factory=Overlay)
    under: Overlay = field(default_factory=Overlay)
    source: salvage_canonical.Salvaged | None = None
    index: Index | None = None
    """Set if its CRCs decide which of the canonical's records count."""

    def lose(
        self, file: str, offset: int | None, count: int | None, meaning: str, named: list[str] | None = None
    ) -> None:
        self.lost.append(Loss(file, offset, count, meaning, (named or [])[:_NAMED_MAX]))

    def note(self, file: str, offset: int | None, count: int | None, meaning: str) -> None:
        self.notes.append(Loss(file, offset, count, meaning, []))

    def has(self, checksum: str) -> bool:
        """Return whether the log states the outcome for this record."""
        return checksum in self.over.entries or checksum in self.under.entries

    def from_canonical(self) -> Iterator[tuple[str, bytes]]:
        """Yield the canonical's records that count."""
        if self.source is None:
            return
        for checksum, raw in self.source.records():
            if self.index is None or _crc_in(self.index, checksum) in (None, crc32(raw)):
                yield checksum, raw

    def records(self) -> Iterator[tuple[str, bytes, bool]]:
        """Yield every surviving record in canonical order, and whether it comes from the log."""
        layers = (
            _sorted(self.over),
            ((c, _CANONICAL, raw) for c, raw in self.from_canonical()),
            _sorted(self.under, 2),
        )
        before = ""
        for checksum, depth, raw in merge_sorted(*layers, key=itemgetter(0, 1)):
            if checksum != before and raw is not None:
                yield checksum, raw, depth != _CANONICAL
            before = checksum


def _sorted(overlay: Overlay, depth: int = 0) -> Iterator[tuple[str, int, bytes | None]]:
    return ((checksum, depth, overlay.entries[checksum][0]) for checksum in sorted(overlay.entries))


def _crc_in(index: Index, checksum: str) -> int | None:
    number = index.find(bytes.fromhex(checksum))
    return index.place(number)[2] if number >= 0 else None
