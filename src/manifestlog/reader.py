"""The queries of every manager: its records, metadata, paths and events, now or at an earlier time.

Invariants:

- Every call reads the current state; nothing is cached here.
- Rows and models are copies: changing one changes no manifest.

It writes nothing. `manager` adds opening, writing and caching.
"""

from __future__ import annotations

import os
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from manifestlog import copying, derivations, following, history, root, tabular
from manifestlog.engines.protocol import Capability
from manifestlog.model.models import ManifestMetadata, record_from_row
from manifestlog.model.rows import normal_checksum
from manifestlog.model.url_paths import path_of
from manifestlog.queries import past_time, query
from manifestlog.records import Records
from manifestlog.run import RunContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence

    import pyarrow as pa

    from manifestlog.copying import CopyReport
    from manifestlog.engines.protocol import (
        Engine,
        Location,
        Snapshot as Snapshot,  # noqa: PLC0414 -- handed on to `stages`
    )
    from manifestlog.model.events import Event
    from manifestlog.model.failures import Failure
    from manifestlog.model.lineage import Derivation
    from manifestlog.model.models import ManifestRecord, Observation
    from manifestlog.model.runs import RunSummary
    from manifestlog.options import ManifestOptions
    from manifestlog.queries import Moment


_TOGETHER_MAX = 10_000


class ManifestReader:
    """What can be asked of a manifest. Every manager is one that also writes."""

    _engine: Engine
    _version: str
    _run: RunContext

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
    def options(self) -> ManifestOptions:
        """The options that the manifest was opened with."""
        return self._engine.options

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened with `read_only=True`."""
        return self._engine.read_only

    @property
    def is_shared(self) -> bool:
        """Whether several processes can open the manifest at once."""
        return Capability.SHARED in self._engine.capabilities

    @property
    def has_history(self) -> bool:
        """Whether the manifest keeps every event, and not only the resulting records."""
        return Capability.HISTORY in self._engine.capabilities

    @property
    def is_in_files(self) -> bool:
        """Whether the manifest consists of a canonical file at `path` and files beside it."""
        return Capability.COMPACTION in self._engine.capabilities

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
        """Return the absolute path of the file of a record, or of one of its `also_seen`; of an object, its URL."""
        return self.root / seen.file_path

    def stated(self, path: str | os.PathLike[str]) -> Path:
        """Return an absolute path as a record stores it: relative if it lies below `root`, else unchanged."""
        return path_of(root.stated(self._engine, os.fspath(path)))

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

    def has_many(self, checksums: Iterable[str]) -> set[str]:
        """Return those of these contents, as they were given, that any process has registered.

        Text that is not a checksum is not among them. In a database, this takes one query for each 10,000.
        """
        found: set[str] = set()
        rest = iter(checksums)
        while some := {text: normal_checksum(text) for text in islice(rest, _TOGETHER_MAX)}:
            keys = [key for key in some.values() if key is not None]
            known = self._engine.has_many(keys) if keys else ()
            found.update(text for text, key in some.items() if key in known)
        return found

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

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Iterate over the records of this moment as plain dicts, sorted by checksum, without models.

        Without `columns`, a dict has the members of the record in the canonical file: times and paths are text, and empty
        members are absent. With `columns`, it has exactly these names of fields, and None for a member that is absent.
        """
        return tabular.rows(self._engine.snapshot(), columns)

    def column_batches(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, list[Any]]]:
        """Iterate over the records of this moment in batches, each a dict of one list per column [default: all fields].

        Values are those of `rows`: `for batch in manifest.column_batches(["checksum", "file_size"])`.
        """
        return tabular.column_batches(self._engine.snapshot(), tabular.checked(columns))

    def arrow_batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """Return an Arrow reader of the records of this moment, for Arrow, DuckDB, Polars or pandas [default: all fields].

        Iterating yields record batches; `read_all()` returns a table. `ts_downloaded` is a timestamp in UTC. Needs pyarrow,
        the extra `[arrow]`, and raises `ManifestError` without it.
        """
        return tabular.arrow_batches(self._engine.snapshot(), tabular.checked(columns))

    def copy_to(self, target: str | os.PathLike[str], *, root: str | None = None) -> CopyReport:
        """Copy this manifest to a path or URL, as `copy_manifest` does. Works for a manifest in memory, too."""
        return copying.copy(self._engine, target, self.options, root)

    def present(self) -> tuple[str, Snapshot]:
        """Return the cursor after the last event, and a frozen view of the same moment."""
        return self._engine.present()

    def refresh(self) -> None:
        """Read what other processes wrote. Every other read does so too, so you need not call this."""
        self._engine.count()

    def __len__(self) -> int:
        return self._engine.count()

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __contains__(self, checksum: object) -> bool:
        return checksum in self.records

    # -- history -------------------------------------------------------------------------------------------------

    def history(self, *, reverse: bool = False, **wanted: Any) -> Iterator[Event]:
        """Iterate over the events of this manifest up to now, in order, or latest first with `reverse`.

        Filters: `source_id`, `dataset`, `checksum` or several `checksums`, `run`, `kinds`, `since`, `until` (times). `kinds`
        are of `EventKind`; a `Verdict` among them means puts with this verdict. `other_inputs`: only events with inputs that
        their record no longer shows, or never did.
        Raises `DamagedManifestError` where the history is damaged, after it has yielded the events before the damage.
        """
        return self._engine.events(query(reverse=reverse, **wanted))

    def runs(self, *, since: Moment | None = None, limit: int | None = None) -> list[RunSummary]:
        """Return the runs that wrote to this manifest, the latest first; with `since`, those that began since then.

        With `limit`, return at most that many runs, and do not read earlier events.
        """
        return history.runs([self], since=since, limit=limit)

    def failures(self, *, since: Moment | None = None, recovered: bool = False) -> list[Failure]:
        """Return the sources that failed and have not succeeded since, the latest failure first.

        With `since`, those that failed since then. With `recovered`, also those that have succeeded since: with a new
        record, a new derivation, or because a run says so (`Run.unchanged`, `Run.obsolete`).
        """
        return history.failures([self], since=since, recovered=recovered)

    def derived(self, checksum: str, *, stage: str | None = None, version: str | None = None) -> Derivation | None:
        """Return the latest derivation from this input, by this stage and version if given; None if there is none.

        So a lookup in the history tells whether an input is done. If the input led to no output, the output is empty. A
        derivation does not count if it was undone, if its output was forgotten later, or if the history no longer has it.
        Raises `ValueError` for text that is not a checksum.
        """
        return derivations.latest(self._engine, checksum, stage, version)

    def stands(self, event: Event) -> bool:
        """Return whether the derivation of this event still counts: it was not undone, nor its output forgotten."""
        return derivations.stands(self._engine, event)

    def standing(self, outputs: Collection[str]) -> dict[str, list[Event]]:
        """Return the events of each of these contents that were not undone later, in order."""
        return derivations.standing_of(self._engine, outputs)

    @property
    def cursor(self) -> str:
        """The position after the last event, for `changes`."""
        return self._engine.cursor()

    @property
    def reach(self) -> datetime:
        """The earliest time that `as_of` can answer for."""
        return datetime.fromisoformat(self._engine.reach())

    def as_of(self, moment: Moment) -> Self:
        """Return a read-only manager of this manifest as it was at a time. Raises `HistoryReachError`."""
        past = object.__new__(type(self))
        past._engine = self._engine.as_of(past_time(moment))
        past._version, past._run = self._version, RunContext()
        return past

    def changes(self, since: str | None = None, *, wait_s: float | None = 0.0) -> Iterator[Event]:
        """Iterate over every event after the cursor `since`, in order and each once. None: from the beginning.

        Ends when no event has arrived for `wait_s` seconds; with None, never. To continue later, keep the `cursor` of the
        last event that you have processed; `manifest.cursor` is the present. If events after the cursor are no longer in
        the history, a `RESET` and a `SNAPSHOT` of each present record come first. Raises `CursorError` for the cursor of
        another manifest, or of a newer copy of this one.
        """
        return following.changes(self._engine, since, wait_s)

    def achanges(self, since: str | None = None, *, wait_s: float | None = 0.0) -> AsyncIterator[Event]:
        """Iterate asynchronously, as `changes` does; other tasks run while it waits."""
        return following.achanges(self._engine, since, wait_s)

    def feed(self, since: str | None = None, *, without_run: str | None = None) -> following.ChangeFeed:
        """Return a position whose `new()` yields every event since its last call, for a loop of your own.

        With `without_run`, `new()` omits the events of this run, such as those of your own writes.
        """
        return following.ChangeFeed(self._engine, since, without_run=without_run)
