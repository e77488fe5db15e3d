"""The memory engine: a manifest in memory only, for tests, notebooks and experiments.

Invariants:

- Writes mean the same as in the file engine: the same plans decide (`model.writes`).
- A manifest ends with its manager. No file is read or written; each process has its own, and a forked child has a copy.

The code favours simplicity over speed: its only index is by source, and a snapshot is a copy.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING

from manifestlog.copy_errors import ManifestExistsError
from manifestlog.engines import no_replicas
from manifestlog.engines.memory_claims import MemoryClaims, claimed
from manifestlog.engines.memory_records import Records
from manifestlog.engines.past import PastEngine
from manifestlog.engines.protocol import Capability, Image, Location
from manifestlog.engines.reports import (
    CheckReport,
    CompactionOutcome,
    CompactionReport,
    Footprint,
    Holder,
    LogStatus,
    ProbeResult,
    RepairReport,
)
from manifestlog.errors import (
    CursorError,
    HistoryReachError,
    ManifestClosedError,
    ManifestNotFoundError,
)
from manifestlog.model import codec, roots
from manifestlog.model.earlier import UnknownBeforeError, earlier
from manifestlog.model.events import Event, EventKind
from manifestlog.model.rows import EXTRACTOR, Row, moment_text, utc_text
from manifestlog.model.writes import Added, Rewritten, Rules, forget_details, plan_add, plan_update, rewrite_events
from manifestlog.names import MEMORY, NAME_RULE, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details, Query
    from manifestlog.model.followers import Follower
    from manifestlog.model.writes import Plan, TimeLookup
    from manifestlog.options import ManifestOptions

capabilities: frozenset[Capability] = frozenset({Capability.HISTORY})


def locate(text: str) -> Location:
    """Return the location of a name such as `memory:systems_download`; relative roots start at the working directory.

    Raises `ValueError` for another name, and for none.
    """
    try:
        name = check_name(text[len(MEMORY) :].removeprefix("//"))
    except ValueError:
        raise _not_one(text) from None
    return Location(MEMORY + name, MEMORY + name, name, os.getcwd())


def _not_one(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is not a manifest in memory, which is in no directory: expected memory:<domain>_<process> as text,"
        f" such as memory:systems_download ({NAME_RULE})"
    )


def open(  # noqa: A001 -- called as `driver.open`, as the protocol has it
    location: Location, metadata: Row | None, options: ManifestOptions, *, read_only: bool
) -> MemoryEngine:
    """Create an empty manifest; raises `ManifestNotFoundError` without metadata, since no manifest exists beforehand."""
    if metadata is None or read_only:
        raise ManifestNotFoundError(location.display)
    return MemoryEngine(location, metadata, options)


def load(location: Location, image: Image, options: ManifestOptions) -> MemoryEngine:
    """Make a manifest of an image."""
    engine = MemoryEngine(location, image.metadata, options)
    engine.take(image)
    return engine


replica, set_replica, open_replica = no_replicas.replica, no_replicas.set_replica, no_replicas.open_replica


def prepare(location: Location) -> None:
    """Do nothing: nothing is stored."""
    del location


def check(location: Location) -> CheckReport:
    """Report no damage: nothing is stored."""
    return CheckReport(location.display)


def repair(location: Location, *, dry_run: bool, lock_timeout_s: float) -> RepairReport:  # noqa: ARG001 -- the protocol's
    """Report that there is nothing to repair."""
    return RepairReport(location.display)


def footprint(location: Location) -> Footprint:  # noqa: ARG001 -- the protocol's
    """Report zero bytes: nothing is stored."""
    return Footprint()


def diagnose(directory: str) -> Generator[ProbeResult]:
    """Raise `ValueError`: this engine uses no directory."""
    raise _not_one(directory)


def manifests(directory: str) -> list[str]:
    """Raise `ValueError`: no manifest of this engine is in a directory."""
    raise _not_one(directory)


class MemoryEngine:
    """One manifest in this process's memory."""

    capabilities = capabilities
    read_only = False

    def __init__(self, location: Location, metadata: Row, options: ManifestOptions) -> None:
        self.location = location
        self.options = options
        self.closed = False
        self._lock = threading.RLock()
        self._records = Records(metadata | {"total_records": 0}, {})
        self._events: list[Event] = []
        self._missing = 0
        """1 if there are records older than the first event, else 0."""
        self._reach = str(metadata["ts_created"])
        self._followers: dict[str, Follower] = {}

    def take(self, image: Image) -> None:
        """Begin with the records and events of an image."""
        self._records = Records(dict(image.metadata), dict(image.snapshot.records()))
        if image.reach is not None:
            self._missing, self._reach = 1, image.reach
        for event in image.events:
            self._keep(event)

    def _keep(self, event: Event) -> None:
        self._events.append(event._replace(cursor=str(self._missing + len(self._events) + 1)))

    def _open(self) -> Records:
        if self.closed:
            raise ManifestClosedError(self.location.display)
        return self._records

    # -- reading -------------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self._open().encoded(checksum) is not None

    def has_many(self, checksums: Sequence[str]) -> set[str]:
        with self._lock:
            return set(filter(self.has, checksums))

    def get(self, checksum: str) -> Row | None:
        return self._open().row(checksum)

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        with self._lock:
            return self._open().latest(source_id, dataset)

    def count(self) -> int:
        return len(self._open())

    def metadata(self) -> Row:
        return self._open().metadata

    def snapshot(self) -> Records:
        with self._lock:
            return self._open().copy()

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(self, record: Encoded, *, live: bool = False, details: Details | None = None) -> Added:
        with self._lock:
            return self._put(plan_add(self._open(), record, self._rules(), live=live, details=details))

    def add_batch(
        self,
        records: Sequence[Encoded],
        *,
        live: bool = False,
        details: Details | None = None,
        each: Sequence[Details | None] = (),
    ) -> list[Added]:
        with self._lock:
            found, events = self._open(), len(self._events)
            before, metadata = [(one[1], found.encoded(one[1])) for one in records], found.metadata
            try:
                additions = zip_longest(records, each)
                return [self.add(one, live=live, details={**(details or {}), **(own or {})}) for one, own in additions]
            except BaseException:
                found.put_back(before, metadata)  # all of them or none
                del self._events[events:]
                raise

    def add_batches(self, batches: Iterable[tuple[Sequence[Encoded], Details | None]]) -> Iterator[list[Added]]:
        return (self.add_batch(some, details=details) for some, details in batches)

    def update(self, checksum: str, changes: Row, *, details: Details | None = None) -> Added:
        with self._lock:
            return self._put(plan_update(self._open(), checksum, changes, self._rules(), details=details))

    def forget(self, checksum: str, *, details: Details | None = None) -> bool:
        with self._lock:
            known = self._open().row(checksum)
            if known is not None:
                self._remove(checksum, forget_details(known, details))
            return known is not None

    def rewrite(
        self, plan: Callable[[TimeLookup], Rewritten], kind: EventKind, *, details: Details | None = None
    ) -> None:
        with self._lock:
            changes = plan(self._open())
            events = [{**(details or {}), **found} for found in rewrite_events(self._records, changes, kind)]
            for record, found in zip(changes.puts, events, strict=False):
                self._replace(record, found)
            for checksum, found in zip(changes.forgets, events[len(changes.puts) :], strict=True):
                self._remove(checksum, found)

    def set_metadata(self, changes: Mapping[str, str], *, details: Details | None = None) -> None:
        with self._lock:
            before = self._open().metadata
            if not changes.items() <= before.items():
                self._records.change_metadata(changes)
                was = {name: before.get(name) for name in changes}
                self._note(EventKind.META, None, None, {**(details or {}), "was": was, "metadata": dict(changes)})

    def record_event(self, kind: EventKind, details: Details) -> None:
        with self._lock:
            self._open()
            self._note(kind, details.get("checksum"), None, details)

    def record_events(self, kind: EventKind, each: Sequence[Details]) -> None:
        with self._lock:
            for details in each:
                self.record_event(kind, details)

    def replay(self, events: Sequence[Event], expected: str) -> str:
        with self._lock:
            if self.cursor() != expected:
                raise ManifestExistsError(self.location.display, "another thread has written to it meanwhile")
            for event in events:
                self._replay(event)
            return self.cursor()

    def _replay(self, event: Event) -> None:
        if event.kind is EventKind.META:
            self._records.change_metadata(event.details["metadata"])
        elif event.is_change and event.checksum is not None and event.row is not None:
            self._records.put(codec.encoded_row(codec.dumps(event.row), event.row))
        elif event.is_change and event.checksum is not None:
            self._records.remove(event.checksum)
        self._keep(event)
        if event.is_change:
            self._records.change_metadata({"ts_updated": utc_text(event.time)})

    def sync(self) -> None:
        """Do nothing: a manifest in memory ends with its process."""

    def _put(self, plan: Plan) -> Added:
        if plan.record is not None:
            self._replace(plan.record, plan.details or {})
        elif plan.details is not None:
            self.record_event(EventKind.DERIVED, plan.details)
        return plan.answer

    def _replace(self, record: Encoded, details: Details) -> None:
        self._records.put(record)
        self._note(EventKind.PUT, record[1], codec.loads(record[0]), details)

    def _remove(self, checksum: str, details: Details) -> None:
        self._records.remove(checksum)
        self._note(EventKind.FORGET, checksum, None, details)

    def _note(self, kind: EventKind, checksum: str | None, row: Row | None, details: Details) -> None:
        now = datetime.now(UTC)
        event = Event("", moment_text(now), EventKind(details.get("kind", kind)), checksum, row, details)
        self._keep(event)
        if event.is_change:
            self._records.change_metadata({"ts_updated": utc_text(now)})

    def _rules(self) -> Rules:
        root = roots.root_of(str(self._records.metadata["root_dir"]), self.location.directory)
        return Rules(root, self.options.record_bytes_max, self._records.metadata["process"] != EXTRACTOR)

    def claims(self, directory: str) -> MemoryClaims:
        return MemoryClaims(directory, claimed)

    def holders(self, directory: str, kind: str, names: Sequence[str] | None = None) -> list[Holder]:
        """Return nothing: who works is this process."""
        del directory, kind, names
        return []

    # -- history -------------------------------------------------------------------------------------------------------

    def events(self, query: Query) -> Iterator[Event]:
        self._open()
        found = list(self._events)
        return (event for event in (reversed(found) if query.reverse else found) if query.matches(event))

    def events_after(self, cursor: str, *, without_run: str | None = None) -> Iterator[Event]:
        self._open()
        if not cursor.isdecimal() or int(cursor) > len(self._events) + self._missing:
            raise CursorError(self.location.display, cursor, "is not a cursor of this manifest")
        if int(cursor) < self._missing:
            raise HistoryReachError(self.location.display, f"the cursor {cursor}", self._reach)
        found = self._events[int(cursor) - self._missing :]
        return (event for event in found if without_run is None or event.run != without_run)

    def start(self) -> str:
        return "0"

    def cursor(self) -> str:
        self._open()
        return str(len(self._events) + self._missing)

    def image(self) -> Image:
        with self._lock:
            events = list(self._events)
            reach = self._reach if self._missing else None
            now = self.snapshot()
            return Image(now.metadata, now, self.cursor(), iter(events), len(events), reach)

    def present(self) -> tuple[str, Records]:
        with self._lock:
            return self.cursor(), self.snapshot()

    def followers(self) -> list[Follower]:
        return [self._followers[name] for name in sorted(self._followers)]

    def set_follower(self, follower: Follower) -> None:
        self.events_after(follower.cursor)
        self._followers[follower.name] = follower

    def remove_follower(self, name: str) -> bool:
        return self._followers.pop(name, None) is not None

    def reach(self) -> str:
        self._open()
        return self._reach

    def as_of(self, moment: str) -> PastEngine:
        with self._lock:
            records, reach = self._open().copy(), self.reach()
            if moment < moment_text(datetime.fromisoformat(reach)):
                raise HistoryReachError(self.location.display, moment, reach)
            try:
                records.go_back(earlier(reversed(self._events), moment))
            except UnknownBeforeError as error:
                raise HistoryReachError(self.location.display, moment, error.ts) from None
        return PastEngine(self.location, self.options, records, moment)

    # -- maintenance: there is no log, and nothing outlives the process ------------------------------------------------

    def compact(self, *, wait: bool = False, if_needed: bool = False) -> CompactionReport:
        del wait, if_needed
        return CompactionReport(CompactionOutcome.NOTHING_TO_DO, records_total=self.count())

    def log_status(self) -> LogStatus:
        return LogStatus(0, 0, 0, 0, None, "", 0.0)

    def close(self) -> None:
        self.closed = True

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
