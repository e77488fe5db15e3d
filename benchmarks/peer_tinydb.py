"""TinyDB as a peer: its one JSON file, read at each question and written anew at each addition.

Document numbers are the checksums, because `get(doc_id=...)` is its fastest lookup; it has no other index, so a source
is searched for. Its cache of queries is off, since it does not see what other processes write; so is `CachingMiddleware`,
which writes late. TinyDB is not made for several processes: between them a `FileLock`, held while one reads, too.

It syncs its file at each addition in either class, and writes in place: a kill in the middle of that leaves half a file.
So it promises less than the others. Small sizes only.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Self

from filelock import FileLock
from tinydb import TinyDB, where
from tinydb.table import Document

from benchmarks.peers import Fields, Peer, fields, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from manifestlog import ManifestRecord


def _number(checksum: str) -> int:
    return int(checksum, 16)


class TinydbPeer(Peer):
    """A file and its lock."""

    reads_everything: ClassVar[bool] = True
    rewrites_everything: ClassVar[bool] = True
    records_max: ClassVar[int | None] = 10_000

    def __init__(self, directory: Path) -> None:
        """Open the file, made if it is missing."""
        self._database = TinyDB(directory / "manifest.json", encoding="utf-8")
        self._table = self._database.table("records", cache_size=0)
        self._lock = FileLock(directory / "manifest.json.lock")

    @classmethod
    def version(cls) -> str:
        return f"TinyDB {version('tinydb')}"

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        made = cls(directory)
        made._table.insert_multiple(
            Document(event._asdict(), doc_id=_number(event.checksum)) for event in map(fields, records)
        )
        made.close()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:  # noqa: ARG003 -- one way for all
        return cls(directory)

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        number = _number(event.checksum)
        with self._lock:
            found = self._table.get(doc_id=number)
            known = None if found is None else self._fields(found)
            word = verdict(event, known, self._current(event.source_id, event.dataset))
            if word != "duplicate":
                self._table.upsert(Document(event._asdict(), doc_id=number))
        return word

    @staticmethod
    def _fields(found: Mapping[str, Any]) -> Fields:
        return Fields(**found)

    def _current(self, source_id: str, dataset: str) -> Fields | None:
        found = self._table.search((where("source_id") == source_id) & (where("dataset") == dataset))
        return max(map(self._fields, found), key=lambda one: one.ts_downloaded, default=None)

    def has(self, checksum: str) -> bool:
        with self._lock:
            return self._table.contains(doc_id=_number(checksum))

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        with self._lock:
            return self._current(source_id, dataset)

    def close(self) -> None:
        self._database.close()
