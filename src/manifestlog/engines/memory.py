"""The memory engine: a manifest in memory only, for tests, notebooks and experiments.

Invariants:

- Writes mean the same as in the file engine: the same plans decide (`model.writes`).
- A manifest ends with its manager. No file is read or written; each process has its own, and a forked child has a copy.

The code favours simplicity over speed: its only index is by source, and a snapshot is a copy.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from manifestlog.engines.protocol import Capability, Location
from manifestlog.engines.reports import (
    CheckReport,
    CompactionOutcome,
    CompactionReport,
    Footprint,
    LogStatus,
    ProbeResult,
    RepairReport,
)
from manifestlog.errors import ManifestClosedError, ManifestNotFoundError
from manifestlog.model import codec, roots
from manifestlog.model.rows import Row, Sighting, as_seen_by, observations, sort_key, utc_text
from manifestlog.model.verdict import Verdict
from manifestlog.model.writes import Added, Rules, plan_add, plan_update
from manifestlog.names import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from types import TracebackType

    from manifestlog.model.codec import Encoded
    from manifestlog.model.writes import History
    from manifestlog.options import ManifestOptions

SCHEME = "memory:"
_POLL_S = 0.005

capabilities: frozenset[Capability] = frozenset()


def locate(text: str) -> Location:
    """Return the location of a name such as `memory:systems_download`; relative roots start at the working directory."""
    name = check_name(text[len(SCHEME) :].removeprefix("//"))
    return Location(SCHEME + name, SCHEME + name, name, os.getcwd())


def open(  # noqa: A001 -- called as `driver.open`, as the protocol has it
    location: Location, metadata: Row | None, options: ManifestOptions, *, read_only: bool
) -> MemoryEngine:
    """Create an empty manifest; raises `ManifestNotFoundError` without metadata, since no manifest exists beforehand."""
    if metadata is None or read_only:
        raise ManifestNotFoundError(location.display)
    return MemoryEngine(location, metadata, options)


def check(location: Location) -> CheckReport:
    """Report no damage: nothing is stored."""
    return CheckReport(location.display)


def repair(location: Location, *, dry_run: bool, lock_timeout_s: float) -> RepairReport:  # noqa: ARG001 -- the protocol's
    """Report that there is nothing to repair."""
    return RepairReport(location.display)


def footprint(location: Location) -> Footprint:  # noqa: ARG001 -- the protocol's
    """Report zero bytes: nothing is stored."""
    return Footprint()


def diagnose(directory: str) -> Generator[ProbeResult]:  # noqa: ARG001 -- the protocol's
    """Yield nothing: this engine uses no directory."""
    yield from ()


def manifests(directory: str) -> list[str]:  # noqa: ARG001 -- the protocol's
    """Return nothing: no manifest of this engine is in a directory."""
    return []


class Records:
    """Encoded records by checksum and by source: the plans look them up, and a snapshot copies them."""

    def __init__(self, metadata: Row, encoded: dict[str, bytes]) -> None:
        self._metadata = metadata
        self._encoded = encoded
        self._of_source: defaultdict[str, set[str]] = defaultdict(set)
        for checksum, raw in encoded.items():
            self._index(codec.encoded_bytes(raw), checksum)

    def _index(self, record: Encoded, checksum: str) -> None:
        for source_id in record[2]:
            self._of_source[source_id].add(checksum)

    def put(self, record: Encoded) -> None:
        """Add a record, or replace the one with the same checksum."""
        self._encoded[record[1]] = record[0]
        self._index(record, record[1])  # a source that the record no longer names stays here; lookups filter it out

    def remove(self, checksum: str) -> None:
        del self._encoded[checksum]

    def copy(self) -> Records:
        return Records(dict(self._metadata), dict(self._encoded))

    # -- the `Snapshot` protocol ---------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Row:
        return self._metadata | {"total_records": len(self)}

    def change_metadata(self, changes: Mapping[str, str]) -> None:
        self._metadata |= changes

    def __len__(self) -> int:
        return len(self._encoded)

    def checksums(self) -> Iterator[str]:
        return iter(sorted(self._encoded))

    def encoded(self, checksum: str) -> bytes | None:
        return self._encoded.get(checksum)

    def records(self) -> Iterator[tuple[str, bytes]]:
        return ((checksum, self._encoded[checksum]) for checksum in self.checksums())

    def rows(self) -> Iterator[Row]:
        return (codec.loads(raw) for _, raw in self.records())

    def row(self, checksum: str) -> Row | None:
        raw = self._encoded.get(checksum)
        return None if raw is None else codec.loads(raw)

    def might_know(self, checksum: str, source_id: str) -> bool:
        return checksum in self._encoded or source_id in self._of_source

    def sightings(self, source_id: str) -> Iterator[Sighting]:
        """Yield every content that a source has had, with its time."""
        for checksum in self._of_source.get(source_id, ()):
            for one in observations(self.row(checksum) or {}) if checksum in self._encoded else ():
                if one["source_id"] == source_id:
                    yield Sighting(sort_key(one), one["dataset"], checksum)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        seen = list(self.sightings(source_id))
        latest = max((one for one in seen if one.dataset == dataset), default=None)
        return [one for one in seen if one is latest or one.order[0] == moment]

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        seen = (one for one in self.sightings(source_id) if one.dataset == dataset and one.order[0] <= moment)
        return max(seen, default=None)

    def later_than(self, moment: str) -> Iterator[Row]:
        return (row for row in self.rows() if sort_key(row)[0] > moment)


_holders: dict[tuple[str, str, str], MemoryClaims] = {}
"""The holder of each claim, by directory, kind and name."""
_skips: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
"""By directory: the times of the runs in a row that skipped a claimed name."""


class MemoryClaims:
    """The claims of one worker in a directory, among the workers of this process."""

    def __init__(self, directory: str) -> None:
        self.display = directory
        self._directory = os.path.realpath(directory)

    @contextmanager
    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        key = self._directory, kind, name
        ours = self._take(key, time.monotonic() + wait_s)
        try:
            yield ours
        finally:
            if ours:
                self._release(key)

    def _take(self, key: tuple[str, str, str], deadline: float) -> bool:
        while _holders.setdefault(key, self) is not self:  # one step, so no lock that a fork could leave held
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _release(self, key: tuple[str, str, str]) -> None:
        if _holders.get(key) is self:
            del _holders[key]

    def record_skip(self, name: str) -> list[str]:
        times = _skips[self._directory].setdefault(name, [])
        times.append(utc_text(datetime.now(UTC)))
        return list(times)

    def clear_skips(self, name: str) -> None:
        _skips[self._directory].pop(name, None)

    def close(self) -> None:
        for key in list(_holders):
            self._release(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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

    def _open(self) -> Records:
        if self.closed:
            raise ManifestClosedError(self.location.display)
        return self._records

    # -- reading -------------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self._open().encoded(checksum) is not None

    def get(self, checksum: str) -> Row | None:
        return self._open().row(checksum)

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        with self._lock:
            seen = (one for one in self._open().sightings(source_id) if dataset in (None, one.dataset))
            found = max(seen, default=None)
            row = None if found is None else self._records.row(found.checksum)
        return None if found is None or row is None else as_seen_by(row, (source_id, found.dataset))

    def count(self) -> int:
        return len(self._open())

    def metadata(self) -> Row:
        return self._open().metadata

    def snapshot(self) -> Records:
        with self._lock:
            return self._open().copy()

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(self, record: Encoded, *, live: bool = False) -> Added:
        with self._lock:
            plan = plan_add(self._open(), record, self._rules(), live=live)
            self._put([plan.record] if plan.record else [])
        return plan.answer

    def add_batch(self, records: Sequence[Encoded]) -> dict[Verdict, int]:
        counts = dict.fromkeys(Verdict, 0)
        with self._lock:
            before = self._open().copy()
            try:
                for record in records:
                    counts[self.add(record).verdict] += 1
            except BaseException:
                self._records = before  # all of them or none
                raise
        return counts

    def update(self, checksum: str, changes: Row) -> Added:
        with self._lock:
            plan = plan_update(self._open(), checksum, changes, self._rules())
            self._put([plan.record] if plan.record else [])
        return plan.answer

    def forget(self, checksum: str) -> bool:
        with self._lock:
            if not self.has(checksum):
                return False
            self._open().remove(checksum)
            self._touch()
            return True

    def rewrite(self, plan: Callable[[History], Sequence[Encoded]]) -> None:
        with self._lock:
            self._put(list(plan(self._open())))

    def set_metadata(self, changes: Mapping[str, str]) -> None:
        with self._lock:
            if not changes.items() <= self._open().metadata.items():
                self._records.change_metadata(changes)
                self._touch()

    def _put(self, records: list[Encoded]) -> None:
        for record in records:
            self._records.put(record)
        if records:
            self._touch()

    def _touch(self) -> None:
        self._records.change_metadata({"ts_updated": utc_text(datetime.now(UTC))})

    def _rules(self) -> Rules:
        root = roots.root_of(str(self._records.metadata["root_dir"]), self.location.directory)
        return Rules(root, self.options.record_bytes_max)

    def claims(self, directory: str) -> MemoryClaims:
        return MemoryClaims(directory)

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
