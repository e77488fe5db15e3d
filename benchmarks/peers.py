"""The ways to keep a manifest that are compared, behind one small interface.

Each peer lives in a module of its own, imported when it is first asked for, so that measuring one does not load the
others. A new peer is a module with a class, and one line in `PEERS`.

Everybody is given the same `ManifestRecord` objects and gives back data of the same fields: manifestlog a validated
`ManifestRecord`, the others a `Fields`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from manifestlog import ManifestRecord

PROCESS_KILL = "process_kill"
POWER_CUT = "power_cut"
DURABILITIES = {PROCESS_KILL: "survives a process kill", POWER_CUT: "survives a power cut"}

REFERENCE = "manifestlog"
PEERS = {
    REFERENCE: "benchmarks.peer_manifestlog:ManifestlogPeer",
    "SQLite WAL": "benchmarks.peer_sqlite:SqlitePeer",
    "LMDB": "benchmarks.peer_lmdb:LmdbPeer",
    "diskcache": "benchmarks.peer_diskcache:DiskcachePeer",
    "RocksDB": "benchmarks.peer_rocksdict:RocksPeer",
    "JSON lines": "benchmarks.peer_jsonlines:JsonLinesPeer",
    "JSON rewrite": "benchmarks.peer_json:JsonPeer",
    "TinyDB": "benchmarks.peer_tinydb:TinydbPeer",
}
VARIANTS = {
    "manifestlog, compact_in_child=False": "benchmarks.peer_manifestlog:ThreadPeer",
    "manifestlog, auto_compact=False": "benchmarks.peer_manifestlog:UncompactedPeer",
}
"""This engine with other options, for a table that asks what its compactions cost; they use its manifests."""
FEW = (REFERENCE, "SQLite WAL", "LMDB", "JSON lines", "JSON rewrite")
"""Those of the normal run; the others are measured with `--full`, and tried with `--quick`."""


class Fields(NamedTuple):
    """A record as the peers without models give it back."""

    source_id: str
    dataset: str
    checksum: str
    file_path: str
    file_size: int
    etag: str | None
    ts_downloaded: str
    version: str


class Peer(ABC):
    """One open manifest of one kind, in a directory that belongs to it.

    What a benchmark has to know about a peer to leave out what nobody would wait for:
    """

    reads_everything: ClassVar[bool] = False
    """Opening takes as long as the manifest is large."""
    rewrites_everything: ClassVar[bool] = False
    """An addition takes as long as the manifest is large: it is given few."""
    records_max: ClassVar[int | None] = None
    """It is not tried with more."""
    one_process: ClassVar[bool] = False
    """It is left out where several processes have it open."""
    adds_many: ClassVar[bool] = False
    """`add_many` is a way of its own."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """What is measured, and its version."""

    @classmethod
    @abstractmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        """Make a manifest of these records by the fastest way there is."""

    @classmethod
    @abstractmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:
        """Open what `fill` has made; `shared` when other processes write as well."""

    @classmethod
    def settle(cls, directory: Path) -> None:
        """Finish, outside the timed part, what earlier writers have left to do: here nothing."""
        del directory

    @classmethod
    def reorganised(cls, directory: Path) -> object:
        """A value that changes when the peer rewrites its main file beside the writers: here it never does."""
        del directory
        return None

    @abstractmethod
    def add(self, record: ManifestRecord) -> str:
        """Register a record and give the verdict, decided alone among all writers; durable on return."""

    def add_many(self, records: Iterable[ManifestRecord], batch_records: int) -> None:
        """Register many, so many at once, each batch durable before the next; the later of a source comes later.

        A known checksum may be replaced without a verdict.
        """
        raise NotImplementedError

    @abstractmethod
    def has(self, checksum: str) -> bool:
        """Whether this content is known."""

    @abstractmethod
    def get_by_source(self, source_id: str, dataset: str) -> ManifestRecord | Fields | None:
        """The latest record of a source."""

    @abstractmethod
    def close(self) -> None:
        """End the use."""


def missing() -> dict[str, str]:
    """The peers whose library is not installed, and its name."""
    found = {}
    for name in PEERS:
        try:
            load(name)
        except ModuleNotFoundError as error:
            found[name] = str(error.name)
    return found


def load(name: str) -> type[Peer]:
    """The class of a peer in `PEERS` or `VARIANTS`."""
    module, _, attribute = (PEERS | VARIANTS)[name].partition(":")
    return cast("type[Peer]", getattr(importlib.import_module(module), attribute))


def batches(records: Iterable[ManifestRecord], count: int) -> Iterator[list[ManifestRecord]]:
    """So many at once, the last ones fewer."""
    waiting = iter(records)
    while batch := list(islice(waiting, count)):
        yield batch


def fields(record: ManifestRecord | Fields) -> Fields:
    """The same data whoever gave it: what peers store, and what results are compared by."""
    if isinstance(record, Fields):
        return record
    return Fields(
        record.source_id,
        record.dataset,
        record.checksum,
        str(record.file_path),
        record.file_size,
        record.etag,
        record.ts_downloaded.isoformat(timespec="microseconds"),
        record.version,
    )


def verdict(event: Fields, known: Fields | None, current: Fields | None) -> str:
    """The verdict of peers that keep one record for a content: `known` has its checksum, `current` is its source's.

    They have no place for a second source of a content, so for them `alias` replaces the first.
    """
    if known is None:
        return "new" if current is None else "changed"
    if (known.source_id, known.dataset) != (event.source_id, event.dataset):
        return "alias"
    if current is not None and current.checksum == event.checksum:
        same = (known.etag, known.file_path) == (event.etag, event.file_path)
        return "duplicate" if same or event.ts_downloaded < known.ts_downloaded else "refreshed"
    return "duplicate" if current is not None and event.ts_downloaded <= current.ts_downloaded else "reverted"
