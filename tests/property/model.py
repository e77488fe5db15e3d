"""The manifest's meaning in plain dictionaries, written down from the contract and from nothing else.

It knows contents, sources and the order of the log; it knows no files, no rows and none of the engine's code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Pair(NamedTuple):
    """A source, as the contract means it."""

    source_id: str
    dataset: str


@dataclass(frozen=True)
class Seen:
    """What a pair said of a content: when, with what, and how late in the log it was said."""

    time: int
    etag: str | None
    path: str
    place_in_log: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Latest time first; on a tie the later in the log."""
        return self.time, self.place_in_log


@dataclass
class Model:
    """Contents, each with what every pair said of it last."""

    contents: dict[str, dict[Pair, Seen]] = field(default_factory=dict)
    _length_of_log: int = 0

    def current(self, source_id: str, dataset: str | None = None) -> tuple[Pair, str] | None:
        """Whose record a lookup by source gives: the pair and the content."""
        found = [
            (seen.order, pair, checksum)
            for checksum, sightings in self.contents.items()
            for pair, seen in sightings.items()
            if pair.source_id == source_id and dataset in (None, pair.dataset)
        ]
        if not found:
            return None
        _, pair, checksum = max(found)
        return pair, checksum

    def add(self, checksum: str, pair: Pair, event: Seen) -> str:
        """The contract's table, top to bottom, first row that fits."""
        verdict = self.verdict(checksum, pair, event)
        if verdict != "duplicate":
            self._length_of_log += 1
            self.contents.setdefault(checksum, {})[pair] = replace(event, place_in_log=self._length_of_log)
        return verdict

    def verdict(self, checksum: str, pair: Pair, event: Seen) -> str:
        current = self.current(*pair)
        if checksum not in self.contents:
            return "new" if current is None else "changed"
        own = self.contents[checksum].get(pair)
        if own is None:
            return "alias"
        assert current is not None
        _, current_checksum = current
        if current_checksum == checksum:
            same = (own.etag, own.path) == (event.etag, event.path)
            return "duplicate" if same or event.time < own.time else "refreshed"
        latest = self.contents[current_checksum][pair]
        return "reverted" if event.time > latest.time else "duplicate"

    def forget(self, checksum: str) -> bool:
        """Gone, with everything that was observed of it."""
        return self.contents.pop(checksum, None) is not None

    def update(self, checksum: str, pair: Pair, etag: str | None, path: str) -> None:
        """A correction by hand of what `pair` said: at the same time, but later in the log."""
        own = self.contents[checksum][pair]
        if (own.etag, own.path) != (etag, path):
            self._length_of_log += 1
            self.contents[checksum][pair] = replace(own, etag=etag, path=path, place_in_log=self._length_of_log)
