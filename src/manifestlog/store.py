"""The engine: one open manifest of one process, shared by its threads, beside any number of other processes.

The way of a record: `add` → `_transact` (three locks) → `_catch_up` (read what others wrote) → `decide` (verdict) →
`_append` (one line) → `_make_durable` (sync, after the locks are released).

Invariants:

- Order of locks: writers' mutex, append lock (between processes), state mutex. A reader takes the last only.
- Under the append lock nothing is synced, validated or logged that could be done before or after it, rotation apart.
- What a call has acknowledged is in the log; memory is only ever brought up to the log.
- Whoever answers "already there" answers for its durability too.

It knows rows, not models; and it starts no thread: periodic work is the manager's (`compactor.Runner`).
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from manifestlog.errors import (
    DiskFullError,
    IndeterminateWriteError,
    LockTimeoutError,
    ManifestClosedError,
    ReadOnlyError,
    RecordNotFoundError,
)
from manifestlog.options import Durability, ManifestOptions
from manifestlog.rows import Row, normalise, pair_of, view
from manifestlog.storage import codec, disk, lines
from manifestlog.storage.index import IndexDamagedError
from manifestlog.storage.lines import Op
from manifestlog.storage.lock import FileLock
from manifestlog.storage.overlay import Overlay
from manifestlog.storage.state import State
from manifestlog.storage.view import View
from manifestlog.storage.wal import OvertakenError
from manifestlog.verdict import Verdict, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.naming import ManifestPaths
    from manifestlog.storage.segment import Segment

T = TypeVar("T")


class LogStatus(NamedTuple):
    """Sizes in bytes; `changed_since` and `compacted_at` are the times of log lines."""

    canonical_bytes: int
    log_bytes: int
    bytes_to_merge: int
    segments: int
    changed_since: str | None
    compacted_at: str
    compaction_s: float


class Cut(NamedTuple):
    """The last segment to merge (None: there is nothing to merge), and for how long writers were kept out."""

    last: int | None
    held_s: float


Event = tuple[Row, bytes]
"""A row and its JSON, encoded before any lock is taken."""

_LINE_EXTRA_BYTES = 128


def now_text() -> str:
    """The time of a log line: always 27 characters."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Store:
    """One open manifest. Threads may share it; after a fork it works in the child."""

    def __init__(self, paths: ManifestPaths, options: ManifestOptions, *, read_only: bool) -> None:
        self.paths = paths
        self.options = options
        self.read_only = read_only
        self.closed = False
        self.on_write: Callable[[], None] | None = None
        self.log_is_long = False
        self._must_load = False
        self._fresh_locks()
        self._state = State.load(paths, writable=not read_only)

    def _fresh_locks(self) -> None:
        self._pid = os.getpid()
        self._writers = threading.Lock()
        self._mutex = threading.Lock()
        self._append_lock = FileLock(self.paths.append_lock, self.options.lock_timeout_s)
        self._compacting = threading.Lock()
        self._compact_lock = FileLock(self.paths.compact_lock, self.options.lock_timeout_s)

    # -- entering ------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self._pid != os.getpid():
            self.drop_inherited()
        if self.closed:
            raise ManifestClosedError(self.paths.canonical)
        if self._must_load:
            with self._mutex:
                if self._must_load:
                    self._state = State.load(self.paths, writable=not self.read_only)
                    self._must_load = False

    def _read(self, ask: Callable[[View], T]) -> T:
        """Answer from everything that was acknowledged before this call, by whichever process."""
        self._enter()
        with self._mutex:
            self._catch_up()
            try:
                return ask(self._state.view)
            except IndexDamagedError:
                self._rescan()
                return ask(self._state.view)

    def _catch_up(self) -> None:
        if self._state.is_fresh():
            return
        try:
            self._state.follow()
        except OvertakenError:
            self._reload()
        except IndexDamagedError:
            self._rescan()
            self._catch_up()

    def _reload(self) -> None:
        old = self._state
        self._state = State.load(self.paths, writable=not self.read_only)
        old.close()

    def _rescan(self) -> None:
        try:
            self._state.rescan()
        except OvertakenError:
            self._reload()

    def _transact(self, act: Callable[[], T]) -> T:
        """Run `act` alone among all threads and processes, on fresh knowledge; then make durable what it relied on."""
        self._enter()
        if self.read_only:
            raise ReadOnlyError(self.paths.canonical)
        with self._writers, self._append_lock, self._mutex:
            self._catch_up()
            try:
                result = act()
            except IndexDamagedError:
                # Nothing is written before the last lookup of an `act`, so it may run again.
                self._rescan()
                result = act()
            unsynced = self._pin_unsynced()
        if unsynced is not None:
            self._make_durable(*unsynced)
        if self.on_write is not None:
            self.on_write()
        return result

    def _append(self, body: bytes, op: Op) -> None:
        state = self._state
        try:
            wal = state.start_log()
            wal.prepare(len(body) + _LINE_EXTRA_BYTES, self.options.segment_bytes_max)
            state.append(op, body)
            self.log_is_long = wal.bytes_to_merge >= self.options.log_bytes_limit(state.base.canonical_bytes)
        except OSError as error:
            if error.errno in disk.FULL_ERRNOS:
                raise DiskFullError(self.paths.canonical, error) from error
            raise

    def _synced(self) -> int:
        return self._state.wal.current.tail.synced if self._state.wal else 0

    # -- durability ----------------------------------------------------------------------------------------------

    def _pin_unsynced(self, *, force: bool = False) -> tuple[Segment, int] | None:
        wal = self._state.wal
        if wal is None or not (force or self.options.durability is Durability.POWER_CUT):
            return None
        tail = wal.current.tail
        if tail.synced >= tail.length:
            return None
        wal.current.pin()
        return wal.current, tail.length

    def _make_durable(self, segment: Segment, length: int) -> None:
        """Sync outside the locks, so that concurrent writers share the disk's work."""
        failure: OSError | None = None
        try:
            disk.sync_data(segment.fd)
        except OSError as error:
            failure = error
        with self._mutex:
            if failure is None:
                segment.mark_synced(length)
            elif self._state.wal is not None:
                self._state.wal.poison(segment)
            segment.unpin()
        if failure is not None:
            raise IndeterminateWriteError(segment.path, failure) from failure

    def sync(self) -> None:
        """Make everything in the log survive a power cut, in whichever mode it was written."""
        self._enter()
        with self._mutex:
            unsynced = None if self.read_only else self._pin_unsynced(force=True)
        if unsynced is not None:
            self._make_durable(*unsynced)

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, event: Event) -> tuple[Verdict, Row]:
        """Record one event; the answer holds the row as its source sees it."""
        return self._transact(lambda: self._add(event))

    def _add(self, event: Event) -> tuple[Verdict, Row]:
        row = event[0]
        verdict, stored, known = self._decide(self._state.view, row)
        if stored is None:
            assert known is not None
            return verdict, view(known, pair_of(row))
        raw = self._encode(stored, event)
        ts = now_text()
        self._append(lines.put_body(ts, self._synced(), raw), Op("put", ts, [(raw, stored)], {}))
        return verdict, view(stored, pair_of(row))

    @staticmethod
    def _decide(seen: View, row: Row) -> tuple[Verdict, Row | None, Row | None]:
        known = seen.row(row["checksum"])
        verdict, stored = decide(row, known, seen.sightings(row["source_id"], None))
        return verdict, stored, known

    def _encode(self, stored: Row, event: Event) -> bytes:
        if stored is event[0]:
            return event[1]
        return codec.encode_row(stored, self.options.record_bytes_max)

    def add_batch(self, events: list[Event]) -> dict[Verdict, int]:
        """Record many events as one line: all of them or none."""
        return self._transact(lambda: self._add_batch(events))

    def _add_batch(self, events: list[Event]) -> dict[Verdict, int]:
        staged = Overlay()
        seen = View(self._state.base, (staged, self._state.overlay))
        counts = dict.fromkeys(Verdict, 0)
        records = []
        for event in events:
            verdict, stored, _ = self._decide(seen, event[0])
            counts[verdict] += 1
            if stored is not None:
                raw = self._encode(stored, event)
                staged.put(raw, stored, 0)
                records.append((raw, stored))
        if records:
            ts = now_text()
            body = lines.batch_body(ts, self._synced(), (raw for raw, _ in records))
            self._append(body, Op("batch", ts, records, {}))
        return counts

    def forget(self, checksum: str) -> bool:
        """Remove a content and all that was observed of it; false when it was not there."""
        return self._transact(lambda: self._forget(checksum))

    def _forget(self, checksum: str) -> bool:
        if not self._state.view.has(checksum):
            return False
        ts = now_text()
        body = lines.forget_body(ts, self._synced(), checksum)
        self._append(body, Op("forget", ts, [], {"checksum": checksum}))
        return True

    def update(self, checksum: str, changes: Row) -> tuple[Verdict, Row]:
        """Replace members of a record; raises `RecordNotFoundError`."""
        return self._transact(lambda: self._update(checksum, changes))

    def _update(self, checksum: str, changes: Row) -> tuple[Verdict, Row]:
        known = self._state.view.row(checksum)
        if known is None:
            raise RecordNotFoundError(checksum)
        changed, _ = normalise(known | changes, checksum)
        if changed == known:
            return Verdict.DUPLICATE, known
        raw = codec.encode_row(changed, self.options.record_bytes_max)
        ts = now_text()
        self._append(lines.put_body(ts, self._synced(), raw), Op("put", ts, [(raw, changed)], {}))
        return Verdict.REFRESHED, changed

    def set_metadata(self, changes: dict[str, str]) -> None:
        """Change members of the manifest's metadata."""
        self._transact(lambda: self._set_metadata(changes))

    def _set_metadata(self, changes: dict[str, str]) -> None:
        if changes.items() <= self._state.metadata.items():
            return
        ts = now_text()
        body = lines.meta_body(ts, self._synced(), changes)
        self._append(body, Op("meta", ts, [], {"metadata": changes}))

    # -- reading -------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self._read(lambda seen: seen.has(checksum))

    def get(self, checksum: str) -> Row | None:
        """The row with this checksum."""
        return self._read(lambda seen: seen.row(checksum))

    def current(self, source_id: str, dataset: str | None) -> Row | None:
        """A source's latest row, as it sees it."""
        return self._read(lambda seen: seen.current(source_id, dataset))

    def frozen(self) -> tuple[View, Iterator[str]]:
        """A view that stays as it is now, and its checksums, sorted."""

        def freeze(seen: View) -> tuple[View, Iterator[str]]:
            frozen = seen.frozen()
            return frozen, frozen.checksums()

        return self._read(freeze)

    def total(self) -> int:
        return self._read(lambda _: self._state.total)

    def metadata(self) -> Row:
        return self._read(lambda _: self._state.live_metadata())

    def log_status(self) -> LogStatus:
        """How much is in the log, and since when."""
        return self._read(lambda _: self._log_status())

    def _log_status(self) -> LogStatus:
        wal = self._state.wal
        size = self._state.base.canonical_bytes
        if wal is None:
            return LogStatus(size, 0, 0, 0, None, "", 0.0)
        return LogStatus(
            size, wal.bytes_total, wal.bytes_to_merge, wal.segments, wal.changed_since, wal.compacted_at, wal.compaction_s
        )

    # -- compaction's side of the log ----------------------------------------------------------------------------

    def cut(self) -> Cut:
        """Seal what is to be merged, so that nothing more is written into it."""
        return self._transact(self._cut)

    def _cut(self) -> Cut:
        began = time.perf_counter()
        state = self._state
        if state.wal is None and not state.base.foreign:
            return Cut(None, 0.0)
        wal = state.start_log()
        wal.prepare(0, self.options.segment_bytes_max)
        if wal.current_changed:
            wal.rotate()
        last = wal.current.number - 1
        merges = wal.changed_since is not None or state.base.foreign
        return Cut(last if merges else None, time.perf_counter() - began)

    def tell(self, kind: str, base: lines.Base, seconds: float) -> float:
        """Say in the log which canonical is coming, or has come; durable on return. Gives the seconds under the lock."""

        def act() -> float:
            began = time.perf_counter()
            ts = now_text()
            data = {"base": base._asdict(), "seconds": seconds}
            self._append(lines.base_body(kind, ts, base, seconds), Op(kind, ts, [], data))
            return time.perf_counter() - began

        held = self._transact(act)
        self.sync()
        return held

    @contextmanager
    def alone_compacting(self, *, wait: bool) -> Iterator[bool]:
        """Hold the compaction lock; gives false when another thread or process has it and `wait` is not set."""
        self._enter()
        timeout = self.options.lock_timeout_s
        if not self._compacting.acquire(blocking=wait, timeout=timeout if wait else -1):
            if wait:
                raise LockTimeoutError(self.paths.compact_lock, timeout, "another thread of this process")
            yield False
            return
        lock = self._compact_lock
        try:
            if wait:
                lock.acquire()
            elif not lock.try_acquire():
                yield False
                return
            yield True
        finally:
            # Released, not only closed: a child that was forked meanwhile may still hold a copy of the descriptor.
            lock.release()
            self._compacting.release()

    def covered_by(self, identity: tuple[int, str]) -> int:
        """Up to which segment the canonical of this (size, CRC) holds everything."""
        return self._read(lambda _: self._state.wal.covered_by(identity) if self._state.wal else 0)

    def leave(self) -> bool:
        """Stop being counted as a writer; true for the last one, when it leaves something to merge."""
        return self._transact(self._leave)

    def _leave(self) -> bool:
        wal = self._state.wal
        if wal is None or disk.held_by_others(wal.current.fd):
            return False
        return wal.changed_since is not None

    # -- ending and forking --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of files and locks; nothing is written."""
        if self._pid != os.getpid():
            self.drop_inherited()
        with self._writers, self._mutex:
            if not self.closed:
                self.closed = True
                self._append_lock.close()
                self._compact_lock.close()
                if not self._must_load:
                    self._state.close()

    def before_fork(self) -> None:
        """Let no thread be in the middle of anything while the process is copied."""
        self._writers.acquire()
        self._mutex.acquire()

    def after_fork_in_parent(self) -> None:
        self._mutex.release()
        self._writers.release()

    def drop_inherited(self) -> None:
        """In a forked child: close what is the parent's, and load anew at the next call.

        Closing a copied descriptor leaves the parent's locks alone; unlocking it would not.
        """
        self._append_lock.close()
        self._compact_lock.close()
        if not self.closed and not self._must_load:
            self._state.abandon()
            self._must_load = True
        self._fresh_locks()
