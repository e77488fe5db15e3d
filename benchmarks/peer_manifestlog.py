"""This engine as a peer: its public interface, nothing else.

Compaction beside the writers is on, as it is by default. What is turned off is compaction on closing and by the clock,
so that neither falls into a timed part; the limit of the log's length stays.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import manifestlog
from benchmarks.peers import Peer
from manifestlog import (
    DownloadManifestManager,
    Durability,
    ETLProcess,
    ManifestMetadata,
    ManifestOptions,
    ManifestRecord,
    manifest_path,
)
from manifestlog.engines.filelog import driver as _file_engine  # noqa: F401 -- imported at the first opening otherwise, and timed with it

if TYPE_CHECKING:
    from collections.abc import Iterable

# Saved every so often while filling: one merge of everything would need its memory all at once.
_FILL_RECORDS = 200_000
_NEVER_S = 86_400.0


class ManifestlogPeer(Peer):
    """A manifest of this package."""

    adds_many: ClassVar[bool] = True
    options: ClassVar[ManifestOptions] = ManifestOptions(compact_on_close=False, compact_interval_s=_NEVER_S)

    def __init__(self, manager: DownloadManifestManager) -> None:
        """Wrap an open manager."""
        self._manager = manager

    @classmethod
    def version(cls) -> str:
        return f"manifestlog {manifestlog.__version__}"

    @classmethod
    def _path(cls, directory: Path) -> Path:
        return manifest_path(directory, "bench", "download")

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/srv/etl"))
        options = ManifestOptions(durability=Durability.PROCESS_KILL, auto_compact=False)
        waiting = iter(records)
        with DownloadManifestManager(cls._path(directory), metadata, options=options) as manager:
            while sum(manager.add_many(itertools.islice(waiting, _FILL_RECORDS)).values()):
                manager.save()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:  # noqa: ARG003 -- it always is
        options = replace(cls.options, durability=Durability(durability))
        return cls(DownloadManifestManager(cls._path(directory), options=options))

    @classmethod
    def settle(cls, directory: Path) -> None:
        options = ManifestOptions(durability=Durability.PROCESS_KILL)
        with DownloadManifestManager(cls._path(directory), options=options) as manager:
            manager.save()

    @classmethod
    def reorganised(cls, directory: Path) -> object:
        found = os.stat(cls._path(directory))
        return found.st_ino, found.st_mtime_ns

    def add(self, record: ManifestRecord) -> str:
        return self._manager.add(record).verdict

    def add_many(self, records: Iterable[ManifestRecord], batch_records: int) -> None:
        assert batch_records == ManifestOptions().batch_records_max
        self._manager.add_many(records)

    def has(self, checksum: str) -> bool:
        return self._manager.has_checksum(checksum)

    def get_by_source(self, source_id: str, dataset: str) -> ManifestRecord | None:
        return self._manager.get_record_by_source(source_id, dataset)

    def close(self) -> None:
        self._manager.close()


class ThreadPeer(ManifestlogPeer):
    """The same, with compactions in a thread of the writer's process."""

    options = replace(ManifestlogPeer.options, compact_in_child=False)


class UncompactedPeer(ManifestlogPeer):
    """The same, without compactions."""

    options = replace(ManifestlogPeer.options, auto_compact=False)
