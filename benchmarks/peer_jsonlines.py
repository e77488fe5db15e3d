"""JSON lines as a peer: one file, a line appended under a `FileLock`, and an index in memory that follows the file.

Written as a careful author would: before every question and every addition it looks whether the file has grown, and
reads what others have written; what a killed writer left of a line is cut off by the next one. `fdatasync` under the
lock when a power cut must be survived. Each process reads the whole file when it opens it; the index holds places of
lines, since a million records would take a gigabyte in each process.

The lock is always taken, for one writer as well: nobody can know that there is no second. It polls every millisecond
instead of every 50.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, ClassVar, Self

import orjson
from filelock import FileLock

from benchmarks.peers import POWER_CUT, Fields, Peer, batches, fields, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manifestlog import ManifestRecord

_POLL_S = 0.001
_FILL_RECORDS = 10_000
_READ_BYTES = 1 << 20


def _line(event: Fields) -> bytes:
    return orjson.dumps(event._asdict(), option=orjson.OPT_APPEND_NEWLINE)


class JsonLinesPeer(Peer):
    """A file, its lock, and where the lines begin."""

    adds_many: ClassVar[bool] = True
    reads_everything: ClassVar[bool] = True

    def __init__(self, directory: Path, *, sync: bool) -> None:
        """Open the file, made if it is missing, and read it."""
        path = directory / "manifest.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = FileLock(f"{path}.lock", poll_interval=_POLL_S)
        self._sync = sync
        self._end = 0
        self._places: dict[bytes, tuple[int, int]] = {}
        self._latest: dict[tuple[str, str], tuple[int, int]] = {}
        self._follow()

    @classmethod
    def version(cls) -> str:
        return f"JSON lines of Python {platform.python_version()}"

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        made = cls(directory, sync=False)
        made.add_many(records, _FILL_RECORDS)
        made.close()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:  # noqa: ARG003 -- it always is
        return cls(directory, sync=durability == POWER_CUT)

    def _follow(self) -> None:
        """Read the whole lines that others have appended."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        while self._end < size:
            data = os.pread(self._file, _READ_BYTES, self._end)
            whole = data.rfind(b"\n") + 1
            if not whole:
                return
            for line in data[:whole].splitlines(keepends=True):
                self._take(Fields(**orjson.loads(line)), len(line))

    def _take(self, record: Fields, length: int) -> None:
        place = self._end, length
        self._end += length
        self._places[bytes.fromhex(record.checksum)] = place
        source = record.source_id, record.dataset
        other = self._latest.get(source)
        if other is None or self._read(other).ts_downloaded <= record.ts_downloaded:
            self._latest[source] = place

    def _read(self, place: tuple[int, int]) -> Fields:
        start, length = place
        return Fields(**orjson.loads(os.pread(self._file, length, start)))

    def _append(self, data: bytes) -> None:
        """Under the lock, and after following: what is behind the end was written by nobody who is alive."""
        if os.lseek(self._file, 0, os.SEEK_END) > self._end:
            os.ftruncate(self._file, self._end)
        waiting = memoryview(data)
        while waiting:
            waiting = waiting[os.write(self._file, waiting) :]
        if self._sync:
            os.fdatasync(self._file)

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        with self._lock:
            self._follow()
            place = self._places.get(bytes.fromhex(event.checksum))
            known = None if place is None else self._read(place)
            word = verdict(event, known, self._current(event.source_id, event.dataset))
            if word != "duplicate":
                line = _line(event)
                self._append(line)
                self._take(event, len(line))
        return word

    def add_many(self, records: Iterable[ManifestRecord], batch_records: int) -> None:
        for batch in batches(records, batch_records):
            events = [fields(record) for record in batch]
            lines = [_line(event) for event in events]
            with self._lock:
                self._follow()
                self._append(b"".join(lines))
                for event, line in zip(events, lines, strict=True):
                    self._take(event, len(line))

    def _current(self, source_id: str, dataset: str) -> Fields | None:
        place = self._latest.get((source_id, dataset))
        return None if place is None else self._read(place)

    def has(self, checksum: str) -> bool:
        self._follow()
        return bytes.fromhex(checksum) in self._places

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        self._follow()
        return self._current(source_id, dataset)

    def close(self) -> None:
        os.close(self._file)
