"""The engine protocol: exactly what managers, `extract`, the command line and tests need from an engine.

Invariants:

- Rows and encoded records go in and out, never models, so an engine does not load pydantic.
- Every read sees all writes acknowledged before the call, from any process.
- Every write is one atomic transaction: it decides the verdict and records it, with no other write in between.
- A feature that only some engines have is a `Capability`; a verb checks for it first.

An engine decides how records are stored, shared and made durable. `model.writes` decides what a write means.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from manifestlog.model.writes import Added, Rewritten, TimeLookup

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
    from contextlib import AbstractContextManager
    from types import TracebackType

    from manifestlog.engines.reports import (
        CheckReport,
        CompactionReport,
        Footprint,
        Holder,
        LogStatus,
        ProbeResult,
        RepairReport,
    )
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details, Event, EventKind, Query
    from manifestlog.model.followers import Follower
    from manifestlog.model.rows import Row
    from manifestlog.options import ManifestOptions


class Capability(StrEnum):
    """Features that an engine may have besides keeping records."""

    SHARED = "shared"
    """Several processes can open the manifest at once, and each sees the others' acknowledged writes."""
    DURABLE = "durable"
    """Records survive the process."""
    COMPACTION = "compaction"
    """It has a log, which a compaction merges into a canonical file."""
    CHECK = "check"
    """It can check its own storage for damage."""
    REPAIR = "repair"
    """It can repair damage."""
    HISTORY = "history"
    """It keeps every event, not only the resulting rows."""
    REPLICA = "replica"
    """A manifest of it can be a replica of another one, which only its mirror may write to."""


class Location(NamedTuple):
    """Where a manifest is; created by `Driver.locate`."""

    key: str
    """Equal for the same manifest, however its location was spelt."""
    display: str
    """How messages name it; contains no secrets."""
    name: str
    """The manifest's name, such as `systems_download`."""
    directory: str
    """The absolute directory that a relative `root_dir` starts from."""


class Snapshot(TimeLookup, Protocol):
    """The manifest at one moment; later writes do not change it."""

    @property
    def metadata(self) -> Row: ...

    def __len__(self) -> int: ...

    def checksums(self) -> Iterator[str]:
        """Iterate over all checksums, sorted."""

    def encoded(self, checksum: str) -> bytes | None:
        """Return a record's JSON, or None if there is no record."""

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Iterate over (checksum, JSON) of all records, sorted by checksum."""

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        """Iterate over lists of what `records` yields, for a reader that takes many records in one step."""

    def containing(self, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        """Iterate over (checksum, JSON) of the records with one of these texts in their JSON, in no order.

        It takes a tenth of the time of `records`. Damage elsewhere may be raised at the end only.
        """

    def rows(self) -> Iterator[Row]:
        """Iterate over all rows, sorted by checksum."""

    def may_differ(self, other: object) -> Iterator[str] | None:
        """Iterate over the checksums, sorted, whose records may differ from another snapshot's; None if that is not known."""

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        """Return a source's latest row as seen by that source; with `dataset=None`, over all its datasets."""

    def newest(self, until: str) -> str | None:
        """Return the time of the latest observation not after this time, both in the form of `rows.sort_key`."""


class Image(NamedTuple):
    """A manifest at one moment with its history: what `Driver.load` makes another manifest of."""

    metadata: Row
    snapshot: Snapshot
    """The records; the metadata of a copy may differ from its own."""
    cursor: str
    """The position of the moment, after the events."""
    events: Iterator[Event]
    """The events up to that moment, without a gap and the first one first; to be read once."""
    events_total: int
    reach: str | None
    """The earliest time that these events can answer for; None if they begin with an empty manifest."""


class Replica(NamedTuple):
    """What a replica knows of the manifest that it follows. Texts are empty while nothing is known."""

    source: str
    """The display of the manifest's location."""
    cursor: str
    """The position up to which the replica has its events."""
    own: str
    """The replica's own position after these events."""
    as_of: str
    """The last time at which nothing was missing, as text in UTC."""


class Claims(Protocol):
    """The claims of one worker on sources, contents and paths of a data directory. A context manager, which closes them.

    A name has at most one holder, over all processes if the engine is `SHARED`. A claim ends with its block, with
    `close`, or with the process. Threads of one object share its claims, so each worker needs its own object.
    """

    @property
    def display(self) -> str:
        """The place of these claims, as messages name it."""

    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> AbstractContextManager[bool]:
        """Claim a name, waiting up to `wait_s` for its holder; the block receives whether the claim succeeded."""

    def claim_many(
        self, kind: str, wanted: Sequence[str], *, wait_s: float = 0.0
    ) -> AbstractContextManager[AbstractSet[str]]:
        """Claim those of these names that are free; the block receives which ones. A server is asked once."""

    def fence(self, *others: Self) -> AbstractContextManager[None]:
        """In this block, writes of this thread raise `ClaimLostError`, with nothing written, if a claim was lost.

        That is one that this object, or one of the `others`, held at the beginning of the block. Their workers wait.
        """

    def ensure_held(self, *others: Self) -> None:
        """Raise `ClaimLostError` if a claim was lost, as `fence` does: for what no fence covers, such as a new name of a file."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a child process inherits in order to hold these claims until it ends, if its parent is killed."""

    def record_skip(self, name: str) -> list[str]:
        """Note that this run skips a claimed name; return the times of the runs in a row that have skipped it."""

    def clear_skips(self, name: str) -> None:
        """Delete the note of runs that skipped this name."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """One open manifest. Threads may share it."""

    @property
    def location(self) -> Location: ...

    @property
    def options(self) -> ManifestOptions: ...

    @property
    def read_only(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    # -- reading: raises `ManifestClosedError`, `DamagedManifestError` ------------------------------------------------

    def has(self, checksum: str) -> bool: ...

    def has_many(self, checksums: Sequence[str]) -> set[str]:
        """Return those of these contents that are known, as of one moment."""

    def get(self, checksum: str) -> Row | None: ...

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        """Return a source's latest row as seen by that source; with `dataset=None`, over all its datasets."""

    def count(self) -> int: ...

    def metadata(self) -> Row:
        """Return the manifest's current metadata, including `total_records`."""

    def snapshot(self) -> Snapshot: ...

    # -- writing: one transaction each, durable on return as `options.durability` says ---------------------------------

    #    `details` are the caller's facts about the event, such as its run and its URL (`model.events`).

    def add(self, record: Encoded, *, live: bool = False, details: Details | None = None) -> Added: ...

    def add_batch(
        self,
        records: Sequence[Encoded],
        *,
        live: bool = False,
        details: Details | None = None,
        each: Sequence[Details | None] = (),
    ) -> list[Added]:
        """Record many contents, all or none; return the answers in order. `each` adds details of the single records."""

    def add_batches(self, batches: Iterable[tuple[Sequence[Encoded], Details | None]]) -> Iterator[list[Added]]:
        """Record batches, each with its details, as `add_batch` does; yield the answers of each.

        A batch may be fetched before the one before it is recorded.
        """

    def update(self, checksum: str, changes: Row, *, details: Details | None = None) -> Added: ...

    def forget(self, checksum: str, *, details: Details | None = None) -> bool:
        """Remove a record and all its observations; return whether it existed."""

    def set_metadata(self, changes: Mapping[str, str], *, details: Details | None = None) -> None: ...

    def rewrite(
        self, plan: Callable[[TimeLookup], Rewritten], kind: EventKind, *, details: Details | None = None
    ) -> None:
        """Replace and remove rows as `plan` says, which runs inside the transaction and may run twice."""

    def record_event(self, kind: EventKind, details: Details) -> None:
        """Record an event that changes no record: a run's begin or end, a failed attempt, or a derivation without output."""

    def record_events(self, kind: EventKind, each: Sequence[Details]) -> None:
        """Record several such events with one sync. A crash leaves all of them, or the first ones."""

    def sync(self) -> None:
        """Make durable, as `options.durability` says, what others wrote: a process may be killed before its own sync."""

    # -- history: only with `Capability.HISTORY` -------------------------------------------------------------------------

    def events(self, query: Query) -> Iterator[Event]:
        """Iterate over the events that match, up to the present; raises `DamagedManifestError` for a damaged history."""

    def events_after(self, cursor: str, *, without_run: str | None = None) -> Iterator[Event]:
        """Iterate over every event after a cursor, in order, up to the present; without those of a run, if asked.

        Raises `CursorError`, and `HistoryReachError` if some of them are no longer there.
        """

    def start(self) -> str:
        """Return the cursor before the first event that the manifest ever had."""

    def cursor(self) -> str:
        """Return the position after the last event: another text whenever an event was added. Followers poll it."""

    def present(self) -> tuple[str, Snapshot]:
        """Return a snapshot, and the cursor of the same moment."""

    def image(self) -> Image:
        """Return a snapshot with all events that lead to it; raises `DamagedManifestError` for a damaged history."""

    def replay(self, events: Sequence[Event], expected: str) -> str:
        """Write these events of another manifest as they are, in one transaction, and return the cursor after them.

        All of them or none. Raises `ManifestExistsError`, with nothing written, if the manifest has other events after the
        cursor `expected`.
        """

    def followers(self) -> list[Follower]:
        """Return the registered followers, by name. For its time, the history keeps what a follower's cursor needs."""

    def set_follower(self, follower: Follower) -> None:
        """Register a follower, or replace its registration; raises `CursorError`."""

    def remove_follower(self, name: str) -> bool:
        """Remove a registration; return whether it existed."""

    def reach(self) -> str:
        """Return the earliest time that `as_of` can answer for, as text in UTC."""

    def as_of(self, moment: str) -> Engine:
        """Return the manifest as it was at a time (text in UTC), to be read only; raises `HistoryReachError`."""

    # -- claims: for workers that fetch or make files; they need no open manifest and change none -----------------------

    def claims(self, directory: str) -> Claims:
        """Return a new worker's claims in this existing directory, which manifests may share."""

    def holders(self, directory: str, kind: str, names: Sequence[str] | None = None) -> list[Holder]:
        """Return who holds claims of this kind in a directory, on these names, as far as that can be seen from here.

        Without names: all that are held for the sake of this manifest, of an engine that keeps names; else none.
        """

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def compact(self, *, wait: bool = False, if_needed: bool = False) -> CompactionReport:
        """Merge the log into the canonical file; does nothing in an engine without `COMPACTION`."""

    def log_status(self) -> LogStatus: ...

    def close(self) -> None:
        """Close the engine; idempotent. Acknowledged writes are kept."""

    # -- forks: called before and after `fork` in the parent, and after it in the child ---------------------------------

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


class Driver(Protocol):
    """What an engine offers without an open manifest, including for one that is damaged or missing."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def locate(self, text: str) -> Location:
        """Return the location for this path or URL; raises `ValueError` if its name is not a manifest name."""

    def open(self, location: Location, metadata: Row | None, options: ManifestOptions, *, read_only: bool) -> Engine:
        """Open the manifest, or create it with `metadata` if it does not exist.

        Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`, and `ReplicaError` for a replica.
        """

    def load(self, location: Location, image: Image, options: ManifestOptions) -> Engine:
        """Make a manifest of an image, with its metadata as they are, or nothing. It is durable on return.

        A manifest without records and events is filled. Raises `ManifestExistsError` for any other.
        """

    def replica(self, location: Location) -> Replica | None:
        """Return what is noted of the replica at this location; None if it is none."""

    def set_replica(self, location: Location, replica: Replica) -> None:
        """Note it, durably, also before the manifest exists: from then on `open` lets nobody write. With `REPLICA` only."""

    def open_replica(self, location: Location, options: ManifestOptions) -> Engine:
        """Open a replica for its mirror, which may write to it. With `REPLICA` only. Raises as `open`."""

    def prepare(self, location: Location) -> None:
        """Bring what manifests there need up to date, such as a database's tables; does nothing where there is nothing."""

    def check(self, location: Location) -> CheckReport:
        """Check for damage without changing anything."""

    def repair(self, location: Location, *, dry_run: bool, lock_timeout_s: float) -> RepairReport:
        """Repair damage; does nothing in an engine without `REPAIR`. With `dry_run`, only report what it would do."""

    def footprint(self, location: Location) -> Footprint:
        """Return the disk space it uses, in bytes; also works for a damaged manifest."""

    def diagnose(self, directory: str) -> Generator[ProbeResult]:
        """Test whether this directory can hold manifests. The iterator cleans up when it ends or is closed."""

    def manifests(self, directory: str) -> Sequence[str]:
        """Return the paths of the manifests in this directory, sorted by name."""
