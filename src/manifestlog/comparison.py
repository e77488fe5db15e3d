"""Compares two manifests, or one manifest at two times: `diff` and its typed results.

Invariants:

- Both sides are frozen when `diff` is called; later writes change no answer.
- Differences are yielded as they are found, so memory does not grow.

`model.differences` decides what differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.model.differences import (
    Change,
    changed_members,
    content_differences,
    metadata_differences,
    source_differences,
)
from manifestlog.model.models import ManifestRecord, record_from_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.protocol import Snapshot
    from manifestlog.model.differences import ContentRows, SourceRows
    from manifestlog.model.rows import Row
    from manifestlog.reader import ManifestReader


class ContentDiff(NamedTuple):
    """A content whose records differ."""

    change: Change
    checksum: str
    before: ManifestRecord | None
    after: ManifestRecord | None


class SourceDiff(NamedTuple):
    """A source whose current records differ, each as seen by that source."""

    change: Change
    source_id: str
    dataset: str
    before: ManifestRecord | None
    after: ManifestRecord | None
    members: tuple[str, ...]
    """The names of the members that differ."""


class Diff:
    """The differences between two manifests, or between two times of one. It is true if there is any."""

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._before = before
        self._after = after
        self.metadata: dict[str, tuple[Any, Any]] = metadata_differences(before, after)
        """The metadata members that differ, before and after, without times and counts."""

    def __bool__(self) -> bool:
        return bool(self.metadata) or any(True for _ in content_differences(self._before, self._after))

    def contents(self) -> Iterator[ContentDiff]:
        """Iterate over the contents whose records differ, sorted by checksum."""
        return map(content_diff, content_differences(self._before, self._after))

    def sources(self) -> Iterator[SourceDiff]:
        """Iterate over the sources whose current records differ, each once."""
        return (source for _, sources in self.by_content() for source in sources)

    def by_content(self) -> Iterator[tuple[ContentDiff, list[SourceDiff]]]:
        """Iterate over the contents whose records differ, each with the sources that are named with it."""
        for found in content_differences(self._before, self._after):
            sources = source_differences(found, self._before, self._after)
            yield content_diff(found), [_source(one) for one in sources]


def diff(before: ManifestReader, after: ManifestReader) -> Diff:
    """Compare two open manifests, or `manifest.as_of(time)` with another time or with the manifest itself.

    Paths are compared as recorded.
    """
    return Diff(before.snapshot(), after.snapshot())


def content_diff(found: ContentRows) -> ContentDiff:
    """Return the typed form of a difference."""
    return ContentDiff(found.change, found.checksum, _record(found.before), _record(found.after))


def _source(found: SourceRows) -> SourceDiff:
    members = tuple(changed_members(found.before, found.after))
    return SourceDiff(
        found.change, found.source_id, found.dataset, _record(found.before), _record(found.after), members
    )


def _record(row: Row | None) -> ManifestRecord | None:
    return None if row is None else record_from_row(row)
