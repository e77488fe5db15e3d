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
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

from manifestlog import corrections
from manifestlog.adoption import Given, adopt_metadata, difference
from manifestlog.engines.protocol import Claims as Claims  # noqa: PLC0414 -- handed on to `stages`
from manifestlog.engines.registry import driver_for
from manifestlog.engines.reports import CompactionReport
from manifestlog.errors import AddManyStoppedError, ManifestError, ManifestInUseError
from manifestlog.model import roots
from manifestlog.model.attempts import attempt_details, failure_text, writable
from manifestlog.model.batches import batches, encoded, single_batch
from manifestlog.model.downloads import (
    EventLike,
    SourceLike,
    attempt_of,
    checked_changes,
    is_live,
    moved_time,
    record_from_download,
)
from manifestlog.model.events import Details, EventKind, kept
from manifestlog.model.followers import Follower, follower
from manifestlog.model.models import (
    AddResult,
    ManifestMetadata,
    ManifestRecord,
    metadata_row,
    record_from_row,
    refuse_unkept_metadata,
)
from manifestlog.model.relocation import Relocation
from manifestlog.model.retiming import Retimed
from manifestlog.model.rows import normal_checksum
from manifestlog.model.verdict import Verdict
from manifestlog.names import is_url
from manifestlog.open_managers import Entry, open_managers
from manifestlog.options import ManifestOptions
from manifestlog.queries import Moment, log_time
from manifestlog.reader import ManifestReader
from manifestlog.run import JoinedRun, Run, RunContext, begin
from manifestlog.undo import Choice, Undone, undo

log = logging.getLogger(__name__)


class AbstractManifest(ManifestReader, ABC):
    """One manifest of this process: a ledger of contents by SHA-256, shared with every other process that opens it.

    Threads may share a manager. After a fork it works in the child. Use it as a context manager, or call `close`.
    """

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
            self._run = RunContext()
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

    def __init__(
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
        return opener, (engine.location.display, metadata), self._run.details

    def __setstate__(self, run: Details | None) -> None:
        self._run.receive(run)  # that of the manager that was sent here

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, record: ManifestRecord, *, live: bool = False, attempt: Mapping[str, Any] | None = None) -> AddResult:
        """Register a content. It is durable on return, according to `options.durability`.

        Set `live` for a download that has just ended: it becomes the source's current record, regardless of the clock.
        Its time is then at least one microsecond after the previous current record. Without `live`, its time stays.
        `attempt` has details of the download for the history: `url`, `status`, `bytes`, `seconds`, each optional; for an
        output also `started`, `judgement`, `reason`, `rows` and `target`.
        Raises `RecordRejectedError` (nothing was written), `LockTimeoutError`, `DiskFullError`,
        `IndeterminateWriteError` if the disk did not confirm the write, `ReadOnlyError`.
        """
        details = self._run.joined(attempt_details(attempt)) if attempt else self._run.details
        verdict, row = self._engine.add(encoded(record, self._engine.options), live=live, details=details)
        return AddResult(verdict, record if row is None else record_from_row(row))

    def add_many(self, records: Iterable[ManifestRecord]) -> dict[Verdict, int]:
        """Register many contents in atomic batches, and return the count of each verdict.

        Raises `AddManyStoppedError`, with the counts of what was added, if the iterable, a record or the disk fails.
        """
        landed = dict.fromkeys(Verdict, 0)
        try:
            each = ((batch, self._run.details) for batch in batches(records, self._engine.options))
            for answers in self._engine.add_batches(each):
                for verdict, _ in answers:
                    landed[verdict] += 1
        except Exception as cause:
            raise AddManyStoppedError(landed, cause) from cause
        return landed

    def add_each(
        self,
        records: Sequence[ManifestRecord],
        *,
        live: bool = False,
        attempts: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> list[AddResult]:
        """Register several contents in one atomic write with one sync, and return the result of each, in order.

        `live` and each of the `attempts` are as in `add`. A later record sees the earlier ones, as after an `add` of
        each. Raises `ValueError` if the records exceed one batch (`batch_records_max`, `batch_bytes_max`) or the number
        of attempts differs from that of the records. Otherwise raises as `add`. An error means that nothing was written.
        """
        each, own = single_batch(records, self._engine.options), attempts or [None] * len(records)
        if len(own) != len(each):
            raise ValueError(f"{len(own)} attempts for {len(each)} records: give one for each, or None")
        if not each:
            return []
        events = [attempt_details(attempt or {}) for attempt in own]
        added = self._engine.add_batch(each, live=live, details=self._run.details, each=events)
        return [
            AddResult(verdict, given if row is None else record_from_row(row))
            for given, (verdict, row) in zip(records, added, strict=True)
        ]

    def add_from_event(self, source: SourceLike, event: EventLike, *, live: bool | None = None) -> AddResult:
        """Register a finished download, with the `etl_version` of this opening.

        Uses the event's ETag, or else the source's last one. `live` is as in `add`, and logs a warning if the time moved.
        By default, an event is live if its time is at most `LIVE_S` from now; pass False for a back-fill. The history
        keeps the event's `url`, `status` and `seconds`, if it has them. Raises as `add`.
        """
        return self._add_event(record_from_download(source, event, self._version), event, live)

    def _add_event(self, record: ManifestRecord, event: EventLike, live: bool | None) -> AddResult:  # noqa: FBT001 -- three values
        live = is_live(record.ts_downloaded) if live is None else live
        result = self.add(record, live=live, attempt=attempt_of(event))
        if warning := moved_time(record, result):
            log.warning("%s: %s/%s: %s", self._engine.location.display, record.dataset, record.source_id, warning)
        return result

    @abstractmethod
    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`."""

    def _update(self, key: str, value: Mapping[str, Any], required: tuple[str, ...]) -> AddResult:
        checksum, changes = checked_changes(key, value, required)
        verdict, row = self._engine.update(checksum, changes, details=self._run.details)
        assert row is not None
        return AddResult(verdict, record_from_row(row))

    def forget(self, checksum: str) -> bool:
        """Remove a content with all its observations. Return whether it existed. As durable as `add`."""
        key = normal_checksum(checksum)
        return key is not None and self._engine.forget(key, details=self._run.details)

    def relocate(
        self, old: str | os.PathLike[str], new: str | os.PathLike[str], *, dry_run: bool = False
    ) -> Relocation:
        """Change every path below the absolute directory `old`, and `root_dir`, to the same path below `new`.

        Either may be the URL of a directory in an object store; `root_dir` itself stays local.

        Touches no data file. Writes one atomic batch, or several if one would exceed `segment_bytes_max`; another call
        completes an interrupted one. Raises `RecordRejectedError`, with nothing written, if a record grows too large.
        """
        before, after = os.fspath(old), os.fspath(new)
        if wrong := next((path for path in (before, after) if not roots.is_absolute(path)), None):
            raise ValueError(f"{wrong!r} must be an absolute path")
        return corrections.relocate(self._engine, before, after, dry_run=dry_run, details=self._run.details)

    def retime(
        self,
        source_id: str | None = None,
        dataset: str | None = None,
        *,
        keep_current: bool = False,
        dry_run: bool = False,
    ) -> list[Retimed]:
        """Correct times in the future, from a clock that was ahead, of one source or of all. As durable as `add`.

        Moves a record to just before the source's latest record with a plausible time. Moves it to now if there is none, if
        live downloads followed it, or with `keep_current`. Writes one atomic batch. Returns the changes, even in a dry run.
        """
        wanted = corrections.Ahead(source_id, dataset, keep_current)
        return corrections.retime(self._engine, wanted, dry_run=dry_run, details=self._run.details)

    def claims(self, directory: str | os.PathLike[str]) -> Claims:
        """Return a worker's claims on names in an existing directory, so that no two workers do the same work.

        `directory` may be the URL of a directory in an object store. Workers then share the claims if they share the
        manifest's directory.

        Each worker needs its own. Use it as a context manager: `with manager.claims(d) as claims, claims.claim(…) as ours:`.
        """
        place = os.fspath(directory)
        return self._engine.claims(place if is_url(place) else os.path.abspath(place))

    # -- history -------------------------------------------------------------------------------------------------

    def run(
        self, name: str, version: str | None = None, *, stage: str | None = None, about: Mapping[str, str] | None = None
    ) -> Run:
        """Return a context manager for one run of a pipeline: every write inside carries its id.

        Its beginning and end are events, as durable as `add`. `version` is by default that of this opening. Every event of
        the run gets `about`: `command`, `host` and `code` (what was run, where, and a digest of it), each optional.
        """
        return begin(self._engine, self._run, name, version or self._version, stage=stage, about=about)

    def join_run(self, run: str, *, stage: str | None = None) -> JoinedRun:
        """Return a context manager for a part of a run that another process has begun."""
        return JoinedRun(self._run, writable(kept({"run": run, "stage": stage})))

    def fail(self, source: SourceLike, error: BaseException | str, **attempt: Any) -> None:
        """Record a failed attempt, which leaves no record. As durable as `add`.

        `attempt` may have `url`, `status`, `bytes`, `seconds` and `inputs` (checksums), and for a stage also `version`,
        `started`, `exit_code` and `stderr`. Raises `ValueError` for any other member.
        """
        failed = kept({"source_id": source.source_id, "dataset": source.dataset, "error": failure_text(error)})
        details = self._run.joined({**failed, **attempt_details(attempt)})
        self._engine.record_event(EventKind.FAILED, writable(details or {}))

    def undo(
        self,
        *,
        to: Moment | None = None,
        change: str | None = None,
        run: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Undone:
        """Undo every change after the time `to`, the one change with the cursor `change`, or the changes of `run`.

        Writes new events of kind `undo`: the records in one atomic batch, then the metadata. Outside a run, it is a run of
        its own, named `undo`, and undoing that run undoes the undo. Raises `UndoConflictError`, with nothing written, if
        something was changed again after `change` or `run` changed it; with `force`, it also undoes the later changes.
        Raises `HistoryReachError`, `CursorError`, and `ManifestError` for an unknown run.
        """
        return undo(self._engine, self._run.details, self._version, Choice(to, change, run, force), dry_run=dry_run)

    def register_follower(self, name: str, cursor: str, *, keep: str = "30d") -> Follower:
        """Store the cursor of a follower under its name, and return the registration.

        For the time `keep` from now, such as `30d`, the history keeps what this cursor still needs, regardless of the
        option `history`. Registering again replaces the cursor. Durable on return. Raises `CursorError`, and `ValueError`
        for a bad name or time.
        """
        found = follower(name, cursor, log_time(datetime.now(UTC)), keep)
        self._engine.set_follower(found)
        return found

    def followers(self) -> dict[str, Follower]:
        """Return the registered followers by name."""
        return {found.name: found for found in self._engine.followers()}

    def remove_follower(self, name: str) -> bool:
        """Forget a registered follower; return whether it existed."""
        return self._engine.remove_follower(name)

    # -- keeping -------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make every write that this process can see as durable as `options.durability` says.

        Your own writes are durable when they return. But another process may have been killed between its write and its
        sync: call this before you remove something that its record replaces.
        """
        self._engine.sync()

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

        The last writer to close merges the log into the canonical file, if the log is worth it (`compact_write_ratio`).
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
        return f"<{type(self).__name__} {self._engine.location.display}{' (closed)' if self._engine.closed else ''}>"


def open_already(path: str | os.PathLike[str]) -> AbstractManifest | None:
    """Return the manager that this process has open for this manifest, as one more holder of it; None if there is none.

    Its class and options may be any. The caller closes it.
    """
    location = driver_for(path).locate(os.fspath(path))
    with open_managers.lock:
        entry = open_managers.get(location.key)
        if entry is None:
            return None
        entry.holders += 1
        return cast("AbstractManifest", entry.manager)
