"""The records of a manifest as a read-only mapping, made into models one by one as they are asked for.

Invariants:

- `[]`, `in`, `get` and `len` answer for this moment.
- An iteration sees the manifest as it was when it began, whatever is added, forgotten or compacted meanwhile.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

from manifestlog.models import ManifestRecord, record_from_row
from manifestlog.rows import normal_checksum
from manifestlog.storage import codec

if TYPE_CHECKING:
    from manifestlog.store import Store


def iterate(store: Store) -> Iterator[tuple[str, ManifestRecord]]:
    """(checksum, record) of everything, sorted by checksum, as of now."""
    frozen, checksums = store.frozen()
    for checksum in checksums:
        raw = frozen.raw(checksum)
        assert raw is not None
        yield checksum, record_from_row(codec.loads(raw))


class Records(Mapping[str, ManifestRecord]):
    """Checksum → record."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, checksum: str) -> ManifestRecord:
        key = normal_checksum(checksum)
        row = self._store.get(key) if key else None
        if row is None:
            raise KeyError(checksum)
        return record_from_row(row)

    def __contains__(self, checksum: object) -> bool:
        key = normal_checksum(checksum)
        return key is not None and self._store.has(key)

    def __len__(self) -> int:
        return self._store.total()

    def __iter__(self) -> Iterator[str]:
        return self._store.frozen()[1]

    def items(self) -> ItemsView[str, ManifestRecord]:
        return _Items(self)

    def values(self) -> ValuesView[ManifestRecord]:
        return _Values(self)

    def pairs(self) -> Iterator[tuple[str, ManifestRecord]]:
        """What `items` iterates over."""
        return iterate(self._store)

    def __repr__(self) -> str:
        return f"<records of {self._store.paths.canonical}>"


class _Items(ItemsView[str, ManifestRecord]):
    _mapping: Records

    def __iter__(self) -> Iterator[tuple[str, ManifestRecord]]:
        return self._mapping.pairs()


class _Values(ValuesView[ManifestRecord]):
    _mapping: Records

    def __iter__(self) -> Iterator[Any]:
        return (record for _, record in self._mapping.pairs())
