"""diskcache as a peer: a `Cache` on SQLite, checksum to record and source to checksum, both set in one `transact`.

As its documentation advises for data that must stay: `eviction_policy="none"`, a size limit above all that is stored,
no culling; text and bytes only, which it stores without pickling. `sqlite_synchronous` is 1 (NORMAL, its default) to
survive a process kill, 2 (FULL) to survive a power cut; its journal is a WAL by default.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self, cast

import diskcache

from benchmarks import packed
from benchmarks.peers import POWER_CUT, Fields, Peer, batches, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from manifestlog import ManifestRecord

_SIZE_BYTES = 1 << 40
_TIMEOUT_S = 60.0
_FILL_RECORDS = 100_000


class DiskcachePeer(Peer):
    """A cache that forgets nothing."""

    def __init__(self, directory: Path, synchronous: int, **settings: int) -> None:
        """Open it, made if it is missing."""
        self._cache = diskcache.Cache(
            str(directory),
            timeout=_TIMEOUT_S,
            eviction_policy="none",
            size_limit=_SIZE_BYTES,
            cull_limit=0,
            sqlite_synchronous=synchronous,
            **settings,
        )
        self._get = cast("Callable[[bytes], bytes | None]", partial(self._cache.get, retry=True))

    @classmethod
    def version(cls) -> str:
        return f"diskcache {diskcache.__version__}"

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        made = cls(directory, 0, sqlite_cache_size=1 << 18)
        for batch in batches(records, _FILL_RECORDS):
            with made._cache.transact(retry=True):
                for event in map(fields, batch):
                    made._put(
                        bytes.fromhex(event.checksum),
                        packed.packed(event),
                        packed.source_key(event.source_id, event.dataset),
                    )
        made._cache.reset("sqlite_cache_size", diskcache.DEFAULT_SETTINGS["sqlite_cache_size"])
        made.close()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:  # noqa: ARG003 -- it always is
        return cls(directory, 2 if durability == POWER_CUT else 1)

    def _put(self, key: bytes, value: bytes, source: bytes | None) -> None:
        self._cache.set(key, value, retry=True)
        if source is not None:
            self._cache.set(source, key, retry=True)

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        with self._cache.transact(retry=True):
            return packed.added(event, self._get, self._get, self._put)

    def has(self, checksum: str) -> bool:
        return bytes.fromhex(checksum) in self._cache

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        return packed.current_of(packed.source_key(source_id, dataset), self._get, self._get)

    def close(self) -> None:
        self._cache.close()
