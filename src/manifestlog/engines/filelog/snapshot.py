"""A snapshot of a manifest in plain files: a frozen view, with the metadata of the same moment.

It opens no files and takes no locks.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from manifestlog import progress
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.engines.filelog.view import View
    from manifestlog.model.earlier import Earlier
    from manifestlog.model.rows import Row, Sighting
    from manifestlog.names import ManifestPaths


class FileSnapshot:
    """The manifest at one moment: a frozen view with the matching metadata."""

    def __init__(self, view: View, metadata: Row, paths: ManifestPaths) -> None:
        self.metadata = metadata
        self.view = view
        self.paths = paths

    def __len__(self) -> int:
        return int(self.metadata["total_records"])

    def checksums(self) -> Iterator[str]:
        return self.view.checksums()

    def encoded(self, checksum: str) -> bytes | None:
        return self.view.raw(checksum)

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        done, total = 0, len(self)
        for some in self.view.batches():
            done += len(some)
            progress.tell("reading", self.paths.canonical, done, total)
            yield some

    def containing(self, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        return self.view.containing(texts)

    def records(self) -> Iterator[tuple[str, bytes]]:
        return chain.from_iterable(self.batches())

    def rows(self) -> Iterator[Row]:
        return chain.from_iterable(codec.loads_all(raw for _, raw in some) for some in self.batches())

    def may_differ(self, other: object) -> Iterator[str] | None:
        if isinstance(other, FileSnapshot) and other.paths == self.paths:
            return self.view.may_differ(other.view)
        return None

    def before(self, earlier: Earlier) -> FileSnapshot:
        """Return the snapshot of an earlier time."""
        change = sum((row is not None) - self.view.has(checksum) for checksum, row in earlier.rows.items())
        metadata = earlier.metadata_then(self.metadata, len(self) + change)
        return FileSnapshot(self.view.changed(earlier.rows), metadata, self.paths)

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        return self.view.latest(source_id, dataset)

    def row(self, checksum: str) -> Row | None:
        return self.view.row(checksum)

    def might_know(self, checksum: str, source_id: str) -> bool:
        return self.view.might_know(checksum, source_id)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        return self.view.recent(source_id, dataset, moment)

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        return self.view.latest_until(source_id, dataset, moment)

    def newest(self, until: str) -> str | None:
        return self.view.newest(until)

    def later_than(self, moment: str) -> Iterator[Row]:
        return self.view.later_than(moment)
