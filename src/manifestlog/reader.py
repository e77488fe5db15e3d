"""What every manager answers about its manifest as it is: records, metadata and paths.

Invariants:

- Every answer is read when it is asked for; nothing is kept here.
- Rows and models are copies: changing one changes no manifest.

`manager` adds what opens, writes and keeps; `history` answers what was.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog import root
from manifestlog.engines.protocol import Capability
from manifestlog.model.models import ManifestMetadata, record_from_row
from manifestlog.model.rows import normal_checksum
from manifestlog.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.protocol import Engine, Location, Snapshot
    from manifestlog.model.models import ManifestRecord, Observation


class ManifestReader:
    """The reading part of every manager."""

    _engine: Engine
    _version: str

    @property
    def path(self) -> Path:
        """The path of the canonical file, with links resolved."""
        return Path(self._engine.location.display)

    @property
    def location(self) -> Location:
        """The location of the manifest: a file's path or an engine's URL."""
        return self._engine.location

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The optional features that the manifest's engine supports."""
        return self._engine.capabilities

    @property
    def is_shared(self) -> bool:
        """Whether several processes can open the manifest at once."""
        return Capability.SHARED in self._engine.capabilities

    @property
    def metadata(self) -> ManifestMetadata:
        """A copy of the current metadata."""
        known = {k: v for k, v in self._engine.metadata().items() if k in ManifestMetadata.model_fields}
        return ManifestMetadata.model_validate(known)

    @property
    def root(self) -> Path:
        """The absolute directory of relative paths: `root_dir`, itself relative to the manifest's directory."""
        return Path(root.root_of(self._engine))

    def locate(self, seen: ManifestRecord | Observation) -> Path:
        """Return the absolute path of the file of a record, or of one of its `also_seen`."""
        return self.root / seen.file_path

    def stated(self, path: str | os.PathLike[str]) -> Path:
        """Return an absolute path as a record stores it: relative if it lies below `root`, else unchanged."""
        return Path(root.stated(self._engine, os.fspath(path)))

    @property
    def version(self) -> str:
        """The `etl_version` of this opening, which `add_from_event` stores in its records."""
        return self._version

    @property
    def records(self) -> Records:
        """A live, read-only mapping of checksum to record. An iteration sees one snapshot."""
        return Records(self._engine)

    def has_checksum(self, sha256: str) -> bool:
        """Return whether any process has registered this content; False if the text is not a checksum."""
        key = normal_checksum(sha256)
        return key is not None and self._engine.has(key)

    def get(self, checksum: str) -> ManifestRecord | None:
        """Return the record of this content, or None."""
        key = normal_checksum(checksum)
        row = self._engine.get(key) if key else None
        return record_from_row(row) if row is not None else None

    def get_record_by_source(self, source_id: str, dataset: str | None = None) -> ManifestRecord | None:
        """Return the latest record of a source, with that source's path, ETag and time [dataset: default all]."""
        row = self._engine.latest(source_id, dataset)
        return record_from_row(row) if row is not None else None

    def snapshot(self) -> Snapshot:
        """Return a frozen view of plain rows, sorted by checksum, for tools that read the whole manifest."""
        return self._engine.snapshot()

    def refresh(self) -> None:
        """Read what other processes wrote. Every other read does so too, so calls of this are optional."""
        self._engine.count()

    def __len__(self) -> int:
        return self._engine.count()

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __contains__(self, checksum: object) -> bool:
        return checksum in self.records
