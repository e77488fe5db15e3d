"""RocksDB (rocksdict) as a peer: checksum to record and source to checksum, both put in one `WriteBatch`.

- Power cut: `WriteOptions.sync`. Process kill: its default, the write-ahead log written at every batch and not synced.
- A Bloom filter of ten bits a key, as RocksDB's documentation advises for point lookups; the rest is its default.
- **One process only**: RocksDB locks its folder. So it is not in the cases of several writers, nor in lookups beside a
  writer; and a lock of the process decides its verdicts alone.
"""

from __future__ import annotations

from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Self

from rocksdict import BlockBasedOptions, Options, Rdict, WriteBatch, WriteOptions

from benchmarks import packed
from benchmarks.peers import POWER_CUT, Fields, Peer, batches, fields

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manifestlog import ManifestRecord

_BLOOM_BITS = 10
_FILL_RECORDS = 100_000


class RocksPeer(Peer):
    """A database folder."""

    adds_many: ClassVar[bool] = True
    one_process: ClassVar[bool] = True

    def __init__(self, directory: Path, *, sync: bool) -> None:
        """Open it, made if it is missing."""
        tables = BlockBasedOptions()
        tables.set_bloom_filter(_BLOOM_BITS, False)
        options = Options(raw_mode=True)
        options.set_block_based_table_factory(tables)
        self._database = Rdict(str(directory / "rocks"), options)
        how = WriteOptions()
        how.sync = sync
        self._database.set_write_options(how)
        self._get = self._database.get
        self._alone = Lock()

    @classmethod
    def version(cls) -> str:
        return f"rocksdict {version('rocksdict')}"

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        made = cls(directory, sync=False)
        made.add_many(records, _FILL_RECORDS)
        made._database.flush()
        made.close()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:
        assert not shared
        return cls(directory, sync=durability == POWER_CUT)

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        changes = WriteBatch(raw_mode=True)

        def put(key: bytes, value: bytes, source: bytes | None) -> None:
            changes[key] = value
            if source is not None:
                changes[source] = key

        with self._alone:
            word = packed.added(event, self._get, self._get, put)
            self._database.write(changes)
        return word

    def add_many(self, records: Iterable[ManifestRecord], batch_records: int) -> None:
        for batch in batches(records, batch_records):
            changes = WriteBatch(raw_mode=True)
            for event in map(fields, batch):
                key = bytes.fromhex(event.checksum)
                changes[key] = packed.packed(event)
                changes[packed.source_key(event.source_id, event.dataset)] = key
            with self._alone:
                self._database.write(changes)

    def has(self, checksum: str) -> bool:
        return bytes.fromhex(checksum) in self._database

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        return packed.current_of(packed.source_key(source_id, dataset), self._get, self._get)

    def close(self) -> None:
        self._database.close()
