"""The home-made manifest as a peer: one JSON file in memory, written anew at each addition.

Written as a careful author would: through a temporary file and `os.replace`, synced when a power cut must be survived,
and with several processes under a `FileLock`, reading the file again when another process has replaced it. For one
process there is no lock and no reading again.
"""

from __future__ import annotations

import json
import os
import platform
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Self

from benchmarks.peers import POWER_CUT, Fields, Peer, fields, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from manifestlog import ManifestRecord

_METADATA = {"process": "extractor", "etl_version": "1.0.0", "root_dir": "/srv/etl"}


class JsonPeer(Peer):
    """A dictionary and its file."""

    reads_everything: ClassVar[bool] = True
    rewrites_everything: ClassVar[bool] = True

    def __init__(self, directory: Path, durability: str, *, shared: bool) -> None:
        """Read the file."""
        self._path = directory / "manifest.json"
        self._temporary = directory / f"manifest.json.{os.getpid()}.tmp"
        self._sync = durability == POWER_CUT
        self._shared = shared
        self._lock: AbstractContextManager[Any] = nullcontext()
        if shared:
            from filelock import FileLock

            self._lock = FileLock(f"{self._path}.lock")
        self._read()

    @classmethod
    def version(cls) -> str:
        return f"json of Python {platform.python_version()}"

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        text = json.dumps
        with (directory / "manifest.json").open("w", encoding="utf-8") as out:
            out.write('{\n    "metadata": ' + text(_METADATA, indent=4).replace("\n", "\n    ") + ',\n    "records": {')
            separator = "\n"
            for record in records:
                values = fields(record)._asdict()
                body = ",\n".join([f'            "{name}": {text(value)}' for name, value in values.items()])
                out.write(f'{separator}        "{record.checksum}": {{\n{body}\n        }}')
                separator = ",\n"
            out.write("\n    }\n}")

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:
        return cls(directory, durability, shared=shared)

    def _stamp(self) -> tuple[int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_mtime_ns

    def _read(self) -> None:
        self._seen = self._stamp()
        with self._path.open(encoding="utf-8") as file:
            self._data: dict[str, Any] = json.load(file)
        self._records: dict[str, dict[str, Any]] = self._data["records"]
        self._current: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self._records.values():
            self._index(record)

    def _index(self, record: dict[str, Any]) -> None:
        source = record["source_id"], record["dataset"]
        other = self._current.get(source)
        if other is None or other["ts_downloaded"] <= record["ts_downloaded"]:
            self._current[source] = record

    def _write(self) -> None:
        with self._temporary.open("w", encoding="utf-8") as out:
            json.dump(self._data, out, indent=4)
            if self._sync:
                out.flush()
                os.fsync(out.fileno())
        os.replace(self._temporary, self._path)
        if self._sync:
            directory = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        with self._lock:
            if self._shared and self._stamp() != self._seen:
                self._read()
            known = self._fields(self._records.get(event.checksum))
            word = verdict(event, known, self.get_by_source(event.source_id, event.dataset))
            if word != "duplicate":
                stored = event._asdict()
                self._records[event.checksum] = stored
                self._index(stored)
                self._write()
                self._seen = self._stamp()
        return word

    @staticmethod
    def _fields(record: dict[str, Any] | None) -> Fields | None:
        return None if record is None else Fields(**record)

    def has(self, checksum: str) -> bool:
        return checksum in self._records

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        return self._fields(self._current.get((source_id, dataset)))

    def close(self) -> None:
        """Nothing is open."""
