"""The managers: what a pipeline holds in its hands. Models in, models out; the engine below works on rows.

Invariants:

- One manager per file and process; asking again for the same gives the same object.
- A manager opened without changes to make writes nothing but an index where none fits, and a read-only one never does.

Everything about locks, bytes and durability is in `store` and below.
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

from manifestlog import naming, opening
from manifestlog.batches import batches, encoded
from manifestlog.compactor import CompactionOutcome, CompactionReport, compact, is_due, leave
from manifestlog.errors import AddManyStoppedError, ManifestClosedError, ManifestError, ManifestInUseError
from manifestlog.events import EventLike, SourceLike, changes_of, is_live, moved_time, record_of
from manifestlog.models import (
    AddResult,
    ManifestMetadata,
    ManifestRecord,
    Observation,
    record_from_row,
    refuse_unkept_metadata,
)
from manifestlog.options import Durability, ManifestOptions
from manifestlog.records import Records
from manifestlog.registry import ForkHooks, open_managers
from manifestlog.relocation import Relocation
from manifestlog.retiming import Retimed
from manifestlog.rows import normal_checksum
from manifestlog.runner import Runner
from manifestlog.store import Store
from manifestlog.verdict import Verdict

log = logging.getLogger(__name__)

_UPDATABLE = frozenset(ManifestRecord.model_fields)


class AbstractManifest(ABC):
    """One manifest of this process: a ledger of contents by SHA-256, shared with every other process that opens it.

    Threads may share a manager. After a fork it works in the child. Use it as a context manager, or call `close`.
    """

    _store: Store
    _runner: Runner
    _version: str

    def __new__(
        cls,
        path: str | os.PathLike[str],
        metadata: ManifestMetadata | None = None,
        *,
        options: ManifestOptions | None = None,
        read_only: bool = False,
    ) -> Self:
        # All of it is done here, as an open manager is given out again; `__init__` shows how, and to whom to hand arguments on.
        paths = naming.resolve(path)
        refuse_unkept_metadata(metadata)
        with open_managers.lock:
            found = cast("AbstractManifest | None", open_managers.get(paths))
            if found is not None:
                AbstractManifest._check_same(found, cls, metadata, options, read_only=read_only)
                log.debug("%s: open already", paths.canonical)
                return cast("Self", found)
            self = super().__new__(cls)
            self._store, self._version = opening.open_store(
                paths, metadata, options or ManifestOptions(), read_only=read_only
            )
            self._begin_periodic_work()
            open_managers.add(
                paths, self, ForkHooks(self._before_fork, self._after_fork_in_parent, self._after_fork_in_child)
            )
        log.info(
            "%s: opened%s, by %s %s", paths.canonical, " to read" if read_only else "", cls.__name__, self._version
        )
        return self

    def __init__(  # noqa: B027 -- `__new__` has opened it; this is what editors and subclasses look for
        self,
        path: str | os.PathLike[str],
        metadata: ManifestMetadata | None = None,
        *,
        options: ManifestOptions | None = None,
        read_only: bool = False,
    ) -> None:
        """Open the manifest at `path`, or create it when `metadata` says how.

        Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`, `MetadataConflictError`,
        `ManifestInUseError` when this process has it open in another way, and `ValueError` for a bad file name.
        """

    def _check_same(
        self,
        cls: type[AbstractManifest],
        metadata: ManifestMetadata | None,
        options: ManifestOptions | None,
        *,
        read_only: bool,
    ) -> None:
        if type(self) is not cls:
            differs: str | None = f"class ({type(self).__name__})"
        else:
            differs = opening.difference(self._store, self._version, metadata, options, read_only=read_only)
        if differs:
            raise ManifestInUseError(str(self.path), differs)

    def __reduce__(self) -> tuple[Any, ...]:
        # A child process that is handed a manager opens the file for itself.
        store = self._store
        metadata = self.metadata.model_copy(update={"etl_version": self._version})
        opener = functools.partial(type(self), options=store.options, read_only=store.session.read_only)
        return opener, (self.path, metadata)

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The canonical file, links resolved."""
        return Path(self._store.paths.canonical)

    @property
    def metadata(self) -> ManifestMetadata:
        """The manifest's metadata as of now; a copy."""
        known = {k: v for k, v in self._store.metadata().items() if k in ManifestMetadata.model_fields}
        return ManifestMetadata.model_validate(known)

    @property
    def root(self) -> Path:
        """The absolute folder at which relative paths of records begin: `root_dir`, which begins at the manifest's own folder."""
        return Path(self._store.root())

    def locate(self, seen: ManifestRecord | Observation) -> Path:
        """Where the file of a record, or of one of its `also_seen`, is; the same from every working folder."""
        return self.root / seen.file_path

    def stated(self, path: str | os.PathLike[str]) -> Path:
        """An absolute path as a record should state it: relative when it lies below `root`, else as it is."""
        return Path(self._store.stated(os.fspath(path)))

    @property
    def version(self) -> str:
        """The `etl_version` that this manifest was opened with: records of events are stamped with it."""
        return self._version

    @property
    def records(self) -> Records:
        """Checksum → record, live and read-only; an iteration sees one moment."""
        return Records(self._store)

    def has_checksum(self, sha256: str) -> bool:
        """Whether this content was ever registered, by any process; false for text that is no checksum."""
        key = normal_checksum(sha256)
        return key is not None and self._store.has(key)

    def get(self, checksum: str) -> ManifestRecord | None:
        """The record of this content."""
        key = normal_checksum(checksum)
        row = self._store.get(key) if key else None
        return record_from_row(row) if row is not None else None

    def get_record_by_source(self, source_id: str, dataset: str | None = None) -> ManifestRecord | None:
        """The latest record of a source, with that source's own path, ETag and time; over all its datasets without one."""
        row = self._store.current(source_id, dataset)
        return record_from_row(row) if row is not None else None

    def refresh(self) -> None:
        """Take notice of what other processes wrote. Every read does so by itself."""
        self._store.total()

    def __len__(self) -> int:
        return self._store.total()

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __contains__(self, checksum: object) -> bool:
        return checksum in self.records

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, record: ManifestRecord, *, live: bool = False) -> AddResult:
        """Register a content; durable on return, as `options.durability` says.

        A `live` record, of a download that has just ended, becomes its source's current one whatever the clock says:
        it is stamped no earlier than one microsecond after the record that was current. Otherwise its time stays.
        Raises `RecordRejectedError` (nothing was written), `LockTimeoutError`, `DiskFullError`,
        `IndeterminateWriteError` when the disk failed to confirm, `ReadOnlyError`.
        """
        verdict, row = self._store.add(encoded(record, self._store.options), live=live)
        return AddResult(verdict, record if row is None else record_from_row(row))

    def add_many(self, records: Iterable[ManifestRecord]) -> dict[Verdict, int]:
        """Register many, in batches that are each there whole or not at all; gives the count of every verdict.

        Raises `AddManyStoppedError` with what has landed when the iterable, a record or the disk stops it.
        """
        landed = dict.fromkeys(Verdict, 0)
        try:
            for batch in batches(records, self._store.options):
                for verdict, count in self._store.add_batch(batch).items():
                    landed[verdict] += count
        except Exception as cause:
            raise AddManyStoppedError(landed, cause) from cause
        return landed

    def add_from_event(self, source: SourceLike, event: EventLike, *, live: bool | None = None) -> AddResult:
        """Register a finished download; its version is the `etl_version` that this manifest was opened with.

        The event's ETag wins; without one the source's last ETag is taken. `live` as in `add`, with a warning where the
        time was moved; None: when the event's time is at most `LIVE_S` from now. Say False for a back-fill. Raises as `add`.
        """
        return self._add_event(record_of(source, event, self._version), live)

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
            raise ValueError(f"{key!r:.80} is no checksum: expected 64 hexadecimal digits")
        missing = [name for name in required if name not in value]
        if missing:
            raise ValueError(f"the value lacks {', '.join(missing)}")
        unknown = sorted(set(value) - _UPDATABLE)
        if unknown:
            raise ValueError(f"a record has no field {', '.join(unknown)}")
        if normal_checksum(value["checksum"]) != checksum:
            raise ValueError(f"value['checksum'] is {value['checksum']!r:.80}, the key is {checksum!r}")
        verdict, row = self._store.update(checksum, changes_of(value))
        return AddResult(verdict, record_from_row(row))

    def forget(self, checksum: str) -> bool:
        """Remove a content with everything observed of it; false when it was not there. Durable as `add` is."""
        key = normal_checksum(checksum)
        return key is not None and self._store.forget(key)

    def relocate(
        self, old: str | os.PathLike[str], new: str | os.PathLike[str], *, dry_run: bool = False
    ) -> Relocation:
        """Change every path below the absolute folder `old`, and `root_dir`, to the same place below `new`; touches no file.

        The records are one atomic batch, or several when they are larger than `segment_bytes_max`; running it again
        finishes what was interrupted. Raises `RecordRejectedError` with nothing written when a record grows too large.
        """
        before, after = os.fspath(old), os.fspath(new)
        if wrong := next((path for path in (before, after) if not os.path.isabs(path)), None):
            raise ValueError(f"{wrong!r} is no absolute path")
        return self._store.relocate(before, after, dry_run=dry_run)

    def retime(
        self,
        source_id: str | None = None,
        dataset: str | None = None,
        *,
        keep_current: bool = False,
        dry_run: bool = False,
    ) -> list[Retimed]:
        """Put right what a clock that was ahead has stamped in the future, of one source or of all; durable as `add` is.

        Such a record goes right before the source's latest one with a believable time, or to now where there is none, where
        live downloads have followed it, or with `keep_current`. One atomic batch; returns what was changed, or would be.
        """
        return self._store.retime(source_id, dataset, keep_current=keep_current, dry_run=dry_run)

    # -- keeping -------------------------------------------------------------------------------------------------

    def compact(self, *, if_needed: bool = False) -> CompactionReport:
        """Merge the log into the canonical file; with `if_needed`, only when the trigger rule asks for it.

        Returns at once when a compaction runs elsewhere. Raises `DamagedManifestError` with nothing changed.
        """
        if if_needed and not is_due(self._store):
            return CompactionReport(CompactionOutcome.NOTHING_TO_DO, records_total=self._store.total())
        return compact(self._store)

    def save(self) -> CompactionReport:
        """Bring everything into the canonical file: when this returns, it holds all that was acknowledged before.

        Raises `LockTimeoutError` when a compaction elsewhere does not end within `lock_timeout_s`.
        """
        return compact(self._store, wait=True)

    def close(self) -> None:
        """End the use of this manager; the last writer to do so leaves nothing in the log. May be called again."""
        open_managers.remove(self._store.paths, self)
        if self._store.session.closed:
            return
        try:
            self._runner.stop()
            if not (self._store.session.read_only or self._store.session.unused):
                self._leave()
        except ManifestClosedError:
            pass
        finally:
            self._store.session.close()
        log.info("%s: closed", self.path)

    def _leave(self) -> None:
        options = self._store.options
        try:
            if options.durability is Durability.INTERVAL:
                self._store.session.sync()
            if leave(self._store) and options.compact_on_close:
                # After one that still runs elsewhere: it began before our last records.
                compact(self._store, wait=True)
            else:
                opening.keep_index(self._store)
        except (ManifestError, OSError) as error:
            # Nothing is lost: what was acknowledged is in the log, and the next compaction or `check` says more.
            log.error("%s: not compacted on closing: %s", self.path, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}{' (closed)' if self._store.session.closed else ''}>"

    # -- handed to the registry ----------------------------------------------------------------------------------

    def _begin_periodic_work(self) -> None:
        self._runner = Runner(self._store)
        self._store.session.on_write = self._runner.after_write

    def _before_fork(self) -> None:
        try:
            self._runner.pause()
            self._store.session.before_fork()
        except BaseException:  # Ctrl-C: the fork goes on all the same, and nobody would resume what is not halted
            self._runner.resume()
            raise

    def _after_fork_in_parent(self) -> None:
        self._store.session.after_fork_in_parent()
        self._runner.resume()

    def _after_fork_in_child(self) -> None:
        self._store.session.drop_inherited()
        self._begin_periodic_work()


class DownloadManifestManager(AbstractManifest):
    """The manifest of downloads: which file came from which source."""

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; durable as `add` is.

        `value` must hold at least `checksum` (the key), `etag`, `file_path` and `file_size`. Raises `ValueError` naming
        what is missing, unknown or invalid, `RecordNotFoundError` for an unknown key.
        """
        result = self._update(key, value, ("checksum", "etag", "file_path", "file_size"))
        log.warning(
            "%s: update() changed a record by hand; add_from_event() is the way to register downloads", self.path
        )
        return result


class ProcessedManifestManager(AbstractManifest):
    """The manifest of what a transformer or loader made, each output with the inputs that it was made from."""

    def add_output(
        self, source: SourceLike, event: EventLike, derived_from: Iterable[str], *, live: bool | None = None
    ) -> AddResult:
        """Register an output made from the inputs with these checksums; otherwise as `add_from_event`."""
        return self._add_event(record_of(source, event, self._version, derived_from), live)

    def pending(self, upstream: AbstractManifest) -> Iterator[ManifestRecord]:
        """The records of `upstream` that no output here was derived from, as of now."""
        done = {checksum for record in self.records.values() for checksum in record.derived_from}
        return (record for checksum, record in upstream.records.items() if checksum not in done)

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; `value` must hold `checksum`, `file_path` and `file_size`."""
        return self._update(key, value, ("checksum", "file_path", "file_size"))
