"""The managers, which are the public interface to a manifest. They take and return models; the engine works on rows.

Invariants:

- A process has one manager per file. Opening the file again returns the same object.
- Opening writes nothing, except metadata changes and a missing or stale index. A read-only manager never writes.

The engine (`engines`) owns locks, bytes and durability.
"""

from __future__ import annotations

import functools
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from manifestlog import corrections, root
from manifestlog.adoption import Given, adopt_metadata, difference
from manifestlog.engines.protocol import Capability, Claims, Engine, Location, Snapshot
from manifestlog.engines.registry import driver_for
from manifestlog.engines.reports import CompactionReport
from manifestlog.errors import AddManyStoppedError, ManifestError, ManifestInUseError
from manifestlog.model.batches import batches, encoded
from manifestlog.model.downloads import (
    EventLike,
    SourceLike,
    is_live,
    moved_time,
    record_from_download,
    validated_changes,
)
from manifestlog.model.models import (
    AddResult,
    ManifestMetadata,
    ManifestRecord,
    Observation,
    metadata_row,
    record_from_row,
    refuse_unkept_metadata,
)
from manifestlog.model.relocation import Relocation
from manifestlog.model.retiming import Retimed
from manifestlog.model.rows import normal_checksum
from manifestlog.model.verdict import Verdict
from manifestlog.open_managers import Entry, open_managers
from manifestlog.options import ManifestOptions
from manifestlog.records import Records

log = logging.getLogger(__name__)

_UPDATABLE = frozenset(ManifestRecord.model_fields)


class AbstractManifest(ABC):
    """One manifest of this process: a ledger of contents by SHA-256, shared with every other process that opens it.

    Threads may share a manager. After a fork it works in the child. Use it as a context manager, or call `close`.
    """

    _engine: Engine
    _version: str

    def __new__(
        cls,
        path: str | os.PathLike[str],
        metadata: ManifestMetadata | None = None,
        *,
        options: ManifestOptions | None = None,
        read_only: bool = False,
    ) -> Self:
        # `__new__` does everything, because it may return an open manager. `__init__` carries the signature and the docstring.
        driver = driver_for(path)
        location = driver.locate(os.fspath(path))
        refuse_unkept_metadata(metadata)
        with open_managers.lock:
            entry = open_managers.get(location.key)
            if entry is not None:
                found = cast("AbstractManifest", entry.manager)
                kind = None if type(found) is cls else f"class ({type(found).__name__})"
                given = Given(metadata, options, read_only)
                if differs := kind or difference(entry.engine, found.version, given):
                    raise ManifestInUseError(location.display, differs)
                entry.holders += 1
                log.debug("%s: open already", location.display)
                return cast("Self", found)
            self = super().__new__(cls)
            row = None if metadata is None else metadata_row(metadata)
            self._engine = driver.open(location, row, options or ManifestOptions(), read_only=read_only)
            try:
                self._version = adopt_metadata(self._engine, metadata)
            except BaseException:
                self._engine.close()
                raise
            open_managers.add(location.key, Entry(self, self._engine))
        log.info(
            "%s: opened%s, by %s %s", location.display, " to read" if read_only else "", cls.__name__, self._version
        )
        return self

    def __init__(  # noqa: B027 -- `__new__` has opened it; editors and subclasses look for this
        self,
        path: str | os.PathLike[str],
        metadata: ManifestMetadata | None = None,
        *,
        options: ManifestOptions | None = None,
        read_only: bool = False,
    ) -> None:
        """Open the manifest at `path`, or create it if `metadata` is given.

        Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`, `MetadataConflictError`,
        `ManifestInUseError` if this process has it open with other arguments, and `ValueError` for a bad file name.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        # A child process that receives a manager opens the manifest itself.
        engine = self._engine
        if not self.is_shared:
            raise ManifestError(
                f"{engine.location.display}: lives in this process only; open it in the process that uses it"
            )
        metadata = self.metadata.model_copy(update={"etl_version": self._version})
        opener = functools.partial(type(self), options=engine.options, read_only=engine.read_only)
        return opener, (self.path, metadata)

    # -- reading -------------------------------------------------------------------------------------------------

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

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, record: ManifestRecord, *, live: bool = False) -> AddResult:
        """Register a content. It is durable on return, according to `options.durability`.

        Set `live` for a download that has just ended: it becomes the source's current record whatever the clock says.
        Its time is then at least one microsecond after the previous current record. Otherwise its time stays.
        Raises `RecordRejectedError` (nothing was written), `LockTimeoutError`, `DiskFullError`,
        `IndeterminateWriteError` if the disk did not confirm the write, `ReadOnlyError`.
        """
        verdict, row = self._engine.add(encoded(record, self._engine.options), live=live)
        return AddResult(verdict, record if row is None else record_from_row(row))

    def add_many(self, records: Iterable[ManifestRecord]) -> dict[Verdict, int]:
        """Register many contents in atomic batches, and return the count of each verdict.

        Raises `AddManyStoppedError`, with the counts of what was added, if the iterable, a record or the disk fails.
        """
        landed = dict.fromkeys(Verdict, 0)
        try:
            for batch in batches(records, self._engine.options):
                for verdict, count in self._engine.add_batch(batch).items():
                    landed[verdict] += count
        except Exception as cause:
            raise AddManyStoppedError(landed, cause) from cause
        return landed

    def add_from_event(self, source: SourceLike, event: EventLike, *, live: bool | None = None) -> AddResult:
        """Register a finished download, with the `etl_version` of this opening.

        Uses the event's ETag, or else the source's last one. `live` is as in `add`, and logs a warning if the time moved.
        By default an event is live if its time is at most `LIVE_S` from now; pass False for a back-fill. Raises as `add`.
        """
        return self._add_event(record_from_download(source, event, self._version), live)

    def _add_event(self, record: ManifestRecord, live: bool | None) -> AddResult:  # noqa: FBT001 -- three values
        result = self.add(record, live=is_live(record.ts_downloaded) if live is None else live)
        if warning := moved_time(record, result):
            log.warning("%s: %s/%s: %s", self.path, record.dataset, record.source_id, warning)
        return result

    @abstractmethod
    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`."""

    def _update(self, key: str, value: Mapping[str, Any], required: tuple[str, ...]) -> AddResult:
        checksum = normal_checksum(key)
        if checksum is None:
            raise ValueError(f"{key!r:.80} is not a checksum: expected 64 hexadecimal digits")
        missing = [name for name in required if name not in value]
        if missing:
            raise ValueError(f"the value lacks {', '.join(missing)}")
        unknown = sorted(set(value) - _UPDATABLE)
        if unknown:
            raise ValueError(f"a record has no field {', '.join(unknown)}")
        if normal_checksum(value["checksum"]) != checksum:
            raise ValueError(f"value['checksum'] is {value['checksum']!r:.80}, the key is {checksum!r}")
        verdict, row = self._engine.update(checksum, validated_changes(value))
        assert row is not None
        return AddResult(verdict, record_from_row(row))

    def forget(self, checksum: str) -> bool:
        """Remove a content with all its observations. Return whether it was there. Durable as `add` is."""
        key = normal_checksum(checksum)
        return key is not None and self._engine.forget(key)

    def relocate(
        self, old: str | os.PathLike[str], new: str | os.PathLike[str], *, dry_run: bool = False
    ) -> Relocation:
        """Change every path below the absolute directory `old`, and `root_dir`, to the same path below `new`.

        Touches no data file. Writes one atomic batch, or several if it is larger than `segment_bytes_max`; running it again
        completes an interrupted run. Raises `RecordRejectedError`, with nothing written, if a record grows too large.
        """
        before, after = os.fspath(old), os.fspath(new)
        if wrong := next((path for path in (before, after) if not os.path.isabs(path)), None):
            raise ValueError(f"{wrong!r} must be an absolute path")
        return corrections.relocate(self._engine, before, after, dry_run=dry_run)

    def retime(
        self,
        source_id: str | None = None,
        dataset: str | None = None,
        *,
        keep_current: bool = False,
        dry_run: bool = False,
    ) -> list[Retimed]:
        """Correct times in the future, from a clock that was ahead, of one source or of all. Durable as `add` is.

        Moves a record to just before the source's latest record with a plausible time. Moves it to now if there is none, if
        live downloads followed it, or with `keep_current`. Writes one atomic batch. Returns the changes, also in a dry run.
        """
        return corrections.retime(self._engine, source_id, dataset, keep_current=keep_current, dry_run=dry_run)

    def claims(self, directory: str | os.PathLike[str]) -> Claims:
        """Return a worker's claims on names in an existing directory, so that no two workers do the same work.

        Each worker needs its own. Use it as a context manager: `with manager.claims(d) as claims, claims.claim(…) as ours:`.
        """
        return self._engine.claims(os.path.abspath(directory))

    # -- keeping -------------------------------------------------------------------------------------------------

    def compact(self, *, if_needed: bool = False) -> CompactionReport:
        """Merge the log into the canonical file; with `if_needed`, only if the trigger rule requires it.

        Returns at once if another compaction is running. Raises `DamagedManifestError`, with nothing changed.
        """
        return self._engine.compact(if_needed=if_needed)

    def save(self) -> CompactionReport:
        """Merge the log into the canonical file, which on return holds every record acknowledged before the call.

        Raises `LockTimeoutError` if another compaction does not end within `lock_timeout_s`.
        """
        return self._engine.compact(wait=True)

    def close(self) -> None:
        """Close the manager. It stays open until every opening has been closed.

        The last writer to close merges the log into the canonical file.
        """
        if open_managers.release(self._engine.location.key, self) and not self._engine.closed:
            self._engine.close()
            log.info("%s: closed", self._engine.location.display)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}{' (closed)' if self._engine.closed else ''}>"


class DownloadManifestManager(AbstractManifest):
    """The manifest of downloads: which file came from which source."""

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; durable as `add` is.

        `value` must have at least `checksum` (the key), `etag`, `file_path` and `file_size`. Raises `ValueError`, which names
        missing, unknown or invalid fields, and `RecordNotFoundError` for an unknown key.
        """
        result = self._update(key, value, ("checksum", "etag", "file_path", "file_size"))
        log.warning("%s: update() changed a record by hand; use add_from_event() to register downloads", self.path)
        return result


class ProcessedManifestManager(AbstractManifest):
    """The manifest of the outputs of a transformer or loader. Each record names the inputs of its output."""

    def add_output(
        self, source: SourceLike, event: EventLike, derived_from: Iterable[str], *, live: bool | None = None
    ) -> AddResult:
        """Register an output derived from the inputs with these checksums; otherwise as `add_from_event`."""
        return self._add_event(record_from_download(source, event, self._version, derived_from), live)

    def pending(self, upstream: AbstractManifest) -> Iterator[ManifestRecord]:
        """Yield the records of `upstream` that no output in this manifest is derived from."""
        done = {checksum for record in self.records.values() for checksum in record.derived_from}
        return (record for checksum, record in upstream.records.items() if checksum not in done)

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; `value` must have `checksum`, `file_path` and `file_size`."""
        return self._update(key, value, ("checksum", "file_path", "file_size"))
