"""Compares two snapshots of manifests, by content and by source: two manifests, or one at two times.

Invariants:

- Contents are compared by a merge of both sorted snapshots, so memory does not grow with their size. Two times of one
  manifest are compared only where the log says that they may differ.
- Each source whose current content or observation differs is named once, with a content that differs.

It reads rows and returns rows. It does not know where a snapshot comes from.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from manifestlog.model import codec
from manifestlog.model.rows import Row, observations, source_key

if TYPE_CHECKING:
    from collections.abc import Iterator


class Change(StrEnum):
    """How something differs.

    - `ADDED`: only the later one has it.
    - `CHANGED`: both have it, differently.
    - `GONE`: only the earlier one has it.
    """

    ADDED = "added"
    CHANGED = "changed"
    GONE = "gone"


class Side(Protocol):
    """What the comparison asks of a snapshot."""

    @property
    def metadata(self) -> Row: ...

    def encoded(self, checksum: str) -> bytes | None: ...

    def records(self) -> Iterator[tuple[str, bytes]]: ...

    def may_differ(self, other: object) -> Iterator[str] | None: ...

    def latest(self, source_id: str, dataset: str | None) -> Row | None: ...


class ContentRows(NamedTuple):
    """A content whose records differ; None where there is no record."""

    change: Change
    checksum: str
    before: Row | None
    after: Row | None


class SourceRows(NamedTuple):
    """A source whose current records differ; None where it has none."""

    change: Change
    source_id: str
    dataset: str
    before: Row | None
    after: Row | None


COMPARED = (
    "checksum",
    "file_path",
    "file_size",
    "etag",
    "last_modified",
    "ts_downloaded",
    "version",
    "derived_from",
)
"""The members of a source's current record that count as a difference of the source."""
_NO_DIFFERENCE = frozenset({"total_records", "ts_created", "ts_updated"})
"""Metadata that follow from when a manifest was made and written."""


def metadata_differences(before: Side, after: Side) -> dict[str, tuple[Any, Any]]:
    """Return the metadata members that differ, before and after; None for a member that is not there."""
    names = [name for name in {**before.metadata, **after.metadata} if name not in _NO_DIFFERENCE]
    pairs = {name: (before.metadata.get(name), after.metadata.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def content_differences(before: Side, after: Side) -> Iterator[ContentRows]:
    """Yield the contents whose records differ, sorted by checksum."""
    candidates = before.may_differ(after)
    if candidates is None:
        pairs = _joined(before.records(), after.records())
    else:
        pairs = ((checksum, before.encoded(checksum), after.encoded(checksum)) for checksum in candidates)
    for checksum, old, new in pairs:
        if not _same(old, new):
            was, now = (None if raw is None else codec.loads(raw) for raw in (old, new))
            yield ContentRows(change_of(was, now), checksum, was, now)


def source_differences(content: ContentRows, before: Side, after: Side) -> Iterator[SourceRows]:
    """Yield the sources whose difference is named with this content, sorted."""
    rows = [row for row in (content.before, content.after) if row is not None]
    for pair in sorted({source_key(seen) for row in rows for seen in observations(row)}):
        was, now = before.latest(*pair), after.latest(*pair)
        if _named_with(was, now, before, after) == content.checksum and changed_members(was, now):
            yield SourceRows(change_of(was, now), *pair, was, now)


def changed_members(before: Row | None, after: Row | None) -> list[str]:
    """Return the names of the members that differ between two records of a source."""
    was, now = before or {}, after or {}
    return [name for name in COMPARED if was.get(name) != now.get(name)]


def _joined(
    left: Iterator[tuple[str, bytes]], right: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    """Merge two sorted iterators of (checksum, JSON) by checksum."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            yield a[0], a[1], None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield b[0], None, b[1]
            b = next(right, None)
        else:
            yield a[0], a[1], b[1]
            a, b = next(left, None), next(right, None)


def _same(old: bytes | None, new: bytes | None) -> bool:
    if old == new:
        return True
    return old is not None and new is not None and codec.loads(old) == codec.loads(new)


def change_of(before: Row | None, after: Row | None) -> Change:
    """Return how a row differs, of which at least one is there."""
    if before is None:
        return Change.ADDED
    return Change.GONE if after is None else Change.CHANGED


def _named_with(was: Row | None, now: Row | None, before: Side, after: Side) -> str | None:
    """Return the content that a source is named with: its later one if that differs, else its earlier one."""
    if now is not None:
        checksum = str(now["checksum"])
        if was is None or not _same(before.encoded(checksum), after.encoded(checksum)):
            return checksum
    return None if was is None else str(was["checksum"])
