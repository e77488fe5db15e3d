"""LMDB as a peer: two databases of one environment, checksum to record and source to the checksum of its latest.

- Power cut: its default, a sync of data and of the meta page at every commit.
- Process kill: `writemap=True, map_async=True`. Its documentation says that `writemap` is faster, that with it and
  `sync=False` the system has no hint of when to write, and that `map_async=True, writemap=True` may then be preferable.
  It takes half the time of `sync=False` alone.
- `max_spare_txns=1`, as advised for a process of one thread; `meminit=False`, as nothing here is confidential.
- Every lookup begins a read transaction of its own: an older one does not see what was committed since.

The map is larger than any benchmark needs (its documentation says that this costs nothing), so with `writemap` the
file has holes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import lmdb

from benchmarks import packed
from benchmarks.peers import PROCESS_KILL, Fields, Peer, batches, fields

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manifestlog import ManifestRecord

_MAP_BYTES = 1 << 36
_FILL_RECORDS = 100_000
_FAST = {"writemap": True, "map_async": True}


class LmdbPeer(Peer):
    """An environment."""

    adds_many: ClassVar[bool] = True

    def __init__(self, directory: Path, **options: Any) -> None:
        """Open it, made if it is missing."""
        self._environment = lmdb.open(
            str(directory), map_size=_MAP_BYTES, max_dbs=2, max_spare_txns=1, meminit=False, **options
        )
        self._records = self._environment.open_db(b"records")
        self._latest = self._environment.open_db(b"latest")

    @classmethod
    def version(cls) -> str:
        return f"LMDB {'.'.join(map(str, lmdb.version()))} (lmdb {lmdb.__version__})"

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        made = cls(directory, sync=False)
        made.add_many(records, _FILL_RECORDS)
        made._environment.sync(True)
        made.close()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:  # noqa: ARG003 -- it always is
        return cls(directory, **(_FAST if durability == PROCESS_KILL else {}))

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        records, latest = self._records, self._latest
        with self._environment.begin(write=True) as change:

            def put(key: bytes, value: bytes, source: bytes | None) -> None:
                change.put(key, value, db=records)
                if source is not None:
                    change.put(source, key, db=latest)

            return packed.added(event, partial(change.get, db=latest), partial(change.get, db=records), put)

    def add_many(self, records: Iterable[ManifestRecord], batch_records: int) -> None:
        for batch in batches(records, batch_records):
            events = [(bytes.fromhex(event.checksum), event) for event in map(fields, batch)]
            # Keys that go up are cheaper to insert into a tree.
            puts = sorted((key, packed.packed(event)) for key, event in events)
            latest = [(packed.source_key(event.source_id, event.dataset), key) for key, event in events]
            with self._environment.begin(write=True) as change:
                change.cursor(self._records).putmulti(puts)
                change.cursor(self._latest).putmulti(sorted(dict(latest).items()))

    def has(self, checksum: str) -> bool:
        with self._environment.begin(buffers=True) as view:
            return view.get(bytes.fromhex(checksum), db=self._records) is not None

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        with self._environment.begin() as view:
            latest, record = partial(view.get, db=self._latest), partial(view.get, db=self._records)
            return packed.current_of(packed.source_key(source_id, dataset), latest, record)

    def close(self) -> None:
        self._environment.close()
