"""Compaction: the eight steps, and the rule when to take them.

::

    (1) take the compaction lock, or leave it to whoever has it
    (2) seal the active segment: from here on writers write elsewhere
    (3) read the index and the sealed segments, check everything, stop at any damage
    (4) merge into a temporary file, checking the canonical as it is copied, sync, read it again; announce it in the log
        (`compacting`)
    (5) rename it over the canonical, sync the directory
    (6) replace the index likewise
    (7) say so in the log (`compacted`)
    (8) delete the covered segments, oldest first

Invariants:

- A crash before (5) leaves the old canonical and every segment; after (5), a canonical that the log has announced and
  segments whose replay changes nothing. There is no state in between.
- Writers are kept out during (2), the announcement and (7) only: a seal, a file creation, two lines.
- Damage is never merged: index and segments are checked before (4), the canonical while it is copied in (4) and before it
  is announced, what was written before (5).
- With nothing to merge the canonical is not touched.

`docs/FORMAT.md` and the crash tests use the same numbers.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.errors import DamagedManifestError
from manifestlog.options import ManifestOptions
from manifestlog.session import explain, now_text
from manifestlog.storage import base, canonical, codec, disk, merge, wal
from manifestlog.storage.index import Head, IndexDamagedError
from manifestlog.storage.lines import Base, Op
from manifestlog.storage.state import State

if TYPE_CHECKING:
    from manifestlog.storage.columns import RowColumns
    from manifestlog.storage.merge import Writer
    from manifestlog.store import Store

log = logging.getLogger(__name__)

COMPACTION_SHARE = 100
"""A periodic compaction waits this many times as long as the last one took, failed or not: it never costs more than 1 %."""


class CompactionOutcome(StrEnum):
    """How a call of `compact` ended.

    - `COMPACTED`: the log was merged into a new canonical file.
    - `NOTHING_TO_DO`: there was nothing to merge; the canonical file was not touched.
    - `ALREADY_RUNNING`: another process or thread is compacting, and this call did not wait for it.
    """

    COMPACTED = "compacted"
    NOTHING_TO_DO = "nothing_to_do"
    ALREADY_RUNNING = "already_running"


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did. `writer_pause_s` is the longest time for which it kept writers out."""

    outcome: CompactionOutcome
    records_merged: int = 0
    records_total: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    writer_pause_s: float = 0.0


@dataclass(slots=True)
class _Input:
    """What step (3) has read and found good, but for the canonical: that is checked as it is copied."""

    last: int
    """The last segment to merge."""
    base: base.BaseFiles
    state: State
    changes: list[merge.Change]


def compact(store: Store, *, wait: bool = False) -> CompactionReport:
    """Merge the log into the canonical; with `wait`, after a compaction that runs elsewhere, else not beside one.

    On return the canonical is durable and holds everything that was acknowledged before the call.
    Raises `DamagedManifestError` or `DiskFullError` with nothing changed, `LockTimeoutError` only with `wait`.
    """
    began = time.perf_counter()
    try:
        with store.session.alone_compacting(wait=wait) as alone:  # (1)
            if not alone:
                log.debug("%s: is being compacted elsewhere", store.paths.canonical)
                return CompactionReport(CompactionOutcome.ALREADY_RUNNING)
            report = _Compaction(store, began).run()
    except OSError as error:
        explain(store.paths.canonical, error)
        raise
    _log(store.paths.canonical, report)
    return report


def _log(path: str, report: CompactionReport) -> None:
    if report.outcome is not CompactionOutcome.COMPACTED:
        log.debug("%s: nothing to compact", path)
        return
    log.info(
        "%s: compacted: %d records merged, %d in all, %d bytes written in %.3f s",
        path,
        report.records_merged,
        report.records_total,
        report.bytes_written,
        report.seconds,
    )


class LogStatus(NamedTuple):
    """How much is in the log. Sizes in bytes; `changed_since` and `compacted_at` are the times of log lines."""

    canonical_bytes: int
    log_bytes: int
    bytes_to_merge: int
    segments: int
    changed_since: str | None
    compacted_at: str
    compaction_s: float


def log_status(store: Store) -> LogStatus:
    """How much is in the log, and since when."""

    def look(state: State) -> LogStatus:
        size, wal_ = state.base.canonical_bytes, state.wal
        if wal_ is None:
            return LogStatus(size, 0, 0, 0, None, "", 0.0)
        return LogStatus(
            size,
            wal_.bytes_total,
            wal_.bytes_to_merge,
            wal_.segments,
            wal_.changed_since,
            wal_.compacted_at,
            wal_.compaction_s,
        )

    return store.session.read(look)


def leave(store: Store) -> bool:
    """Stop being counted as a writer; true for the last one, when it leaves something to merge."""
    if not store.session.read(lambda state: state.wal is not None and state.wal.writes):
        return False

    def act(state: State) -> bool:
        if state.wal is None or state.wal.has_other_writers():
            return False
        return state.wal.changed_since is not None

    return store.session.transact(act)


class _Cut(NamedTuple):
    """The last segment to merge (None: there is nothing to merge), and for how long writers were kept out."""

    last: int | None
    held_s: float


def _cut(store: Store) -> _Cut:
    """Seal what is to be merged, so that nothing more is written into it."""

    def act(state: State) -> _Cut:
        began = time.perf_counter()
        base.sweep(store.paths)
        if state.wal is None and not state.base.foreign:
            return _Cut(None, 0.0)
        log_ = state.start_log()
        log_.prepare(0, store.options.segment_bytes_max)
        if log_.current_changed:
            log_.rotate()
        merges = log_.changed_since is not None or state.base.foreign
        return _Cut(log_.current.number - 1 if merges else None, time.perf_counter() - began)

    return store.session.transact(act)


def _tell(store: Store, kind: str, told: Base, seconds: float) -> float:
    """Say in the log which canonical is coming, or has come; durable on return. Gives the seconds under the lock."""

    def act(state: State) -> float:
        began = time.perf_counter()
        store.session.append(state, Op(kind, now_text(), [], {"base": told._asdict(), "seconds": seconds}))
        return time.perf_counter() - began

    held_s = store.session.transact(act)
    store.session.sync()
    return held_s


def _covered_by(store: Store, identity: tuple[int, str]) -> int:
    """Up to which segment the canonical of this (size, CRC) holds everything."""
    return store.session.read(lambda state: state.wal.covered_by(identity) if state.wal else 0)


class _Compaction:
    def __init__(self, store: Store, began: float) -> None:
        self._store = store
        self._paths = store.paths
        self._began = began
        self._temporary = store.paths.temporary(store.paths.canonical)

    def run(self) -> CompactionReport:
        store = self._store
        store.session.sync()  # the bulk of the disk's work, before writers are kept out
        cut = _cut(store)  # (2)
        if cut.last is None:
            self._tidy()
            return self._report(CompactionOutcome.NOTHING_TO_DO, total=store.total(), pause=cut.held_s)
        with suppress(IndexDamagedError):
            return self._merge(cut, self._read(cut.last, scan=False))
        # Found in (3), or not before its source rows were edited in (4): nothing has been announced by then.
        return self._merge(cut, self._read(cut.last, scan=True))

    def _merge(self, cut: _Cut, found: _Input) -> CompactionReport:
        store, last = self._store, found.last
        fd = disk.create(self._temporary, like=self._paths.canonical)
        try:
            columns, out = self._write(found, fd)  # (4)
            told = Base(out.size, codec.hex_crc(out.crc), last)
            pause = _tell(store, "compacting", told, 0.0)
            self._publish(found.base)  # (5)
            head = Head(disk.stamp(fd), told.crc, told.covers, found.state.live_metadata())
        except BaseException:
            with suppress(OSError):
                disk.remove(self._temporary)
            raise
        finally:
            disk.close(fd)
        base.write_index(self._paths, columns, head)  # (6)
        pause = max(pause, _tell(store, "compacted", told, time.perf_counter() - self._began))  # (7)
        self._delete_covered(last)  # (8)
        return self._report(
            CompactionOutcome.COMPACTED,
            merged=len(found.changes),
            total=len(columns.crcs),
            written=out.size,
            pause=max(pause, cut.held_s),
        )

    def _report(
        self, outcome: CompactionOutcome, *, total: int, pause: float, merged: int = 0, written: int = 0
    ) -> CompactionReport:
        return CompactionReport(outcome, merged, total, written, time.perf_counter() - self._began, pause)

    def _tidy(self) -> None:
        """Finish what a compactor that died after (5) has left to do."""
        found = base.open_base(self._paths)
        covers = _covered_by(self._store, found.identity)
        if not found.kept:
            base.keep_index(self._paths, found, covers)
        disk.sync_directory(self._paths.directory)  # it may have died before its own
        self._delete_covered(covers)

    def _read(self, last: int, *, scan: bool) -> _Input:
        found = base.open_base(self._paths, scan=scan)
        found.index.check_all()
        state = State(self._paths, found, None, writable=False)
        first = _covered_by(self._store, found.identity) + 1

        def take(segment: int, op: Op) -> None:
            if op.kind in wal.CHANGES:
                state.apply(segment, op)
                disk.rest()

        wal.read_segments(self._paths, found.metadata["ts_created"], first, last, take)
        changes = merge.plan(found, state.overlay)
        if merge.records_after(found, changes) != state.total:
            raise IndexDamagedError("the records do not add up")
        return _Input(last, found, state, changes)

    def _check_base(self, found: base.BaseFiles, crc: int) -> None:
        """Stop at a canonical that is not what was written; `crc` is over the very bytes that were copied from it."""
        if found.foreign or codec.hex_crc(crc) == found.index.head.crc:
            return
        for number in range(found.index.count):
            found.canonical.record(found.index.place(number))
        raise DamagedManifestError(self._paths.canonical, 0, "the bytes between the records are not what was written")

    def _write(self, found: _Input, fd: int) -> tuple[RowColumns, Writer]:
        out = merge.Writer(fd)
        metadata = found.state.live_metadata()
        columns, old_crc = merge.write(found.base, found.changes, metadata, out)
        self._check_base(found.base, old_crc)
        disk.sync_data(fd)
        self._read_again(fd, out, canonical.head(metadata, empty=not columns.crcs).count(b"\n") + len(columns.crcs))
        return columns, out

    def _read_again(self, fd: int, out: Writer, lines_before_foot: int) -> None:
        crc = newlines = 0
        for block in disk.blocks(fd, 0, out.size):
            crc = crc32(block, crc)
            newlines += block.count(b"\n")
            disk.rest()
        if (crc, disk.size(fd), newlines) != (out.crc, out.size, lines_before_foot + 2):
            raise DamagedManifestError(self._temporary, 0, "the merged file does not read back as it was written")

    def _publish(self, old: base.BaseFiles) -> None:
        if disk.path_stamp(self._paths.canonical) != old.index.head.stamp:
            raise DamagedManifestError(self._paths.canonical, 0, "somebody replaced the file during a compaction")
        disk.replace(self._temporary, self._paths.canonical)
        # Crash here, with segments deleted before the directory is on the disk: the old canonical would come back alone.
        disk.sync_directory(self._paths.directory)

    def _delete_covered(self, covers: int) -> None:
        # Oldest first: whatever a crash leaves is the end of the covered log, and replaying an end changes nothing.
        for number in self._paths.segment_numbers(disk.list_names(self._paths.directory)):
            if number <= covers:
                disk.remove(self._paths.segment(number))


def seconds_until_due(status: LogStatus, options: ManifestOptions, now: datetime) -> float:
    """The trigger rule: how long until a compaction is wanted; infinite when there is nothing to merge."""
    if status.changed_since is None:
        return float("inf")
    if status.bytes_to_merge >= options.log_bytes_limit(status.canonical_bytes):
        return 0.0
    waits = [_age(status.changed_since, now, options.compact_interval_s)]
    if status.compacted_at:
        waits.append(_age(status.compacted_at, now, COMPACTION_SHARE * status.compaction_s))
    return max(0.0, *waits)


def _age(since: str, now: datetime, wanted_s: float) -> float:
    age_s = (now - datetime.fromisoformat(since)).total_seconds()
    # A time in the future means that the clock was set back: better one compaction too early than none for a day.
    return wanted_s - age_s if age_s >= 0 else 0.0


def is_due(store: Store) -> bool:
    """Whether a compaction is wanted now."""
    return seconds_until_due(log_status(store), store.options, datetime.now(UTC)) <= 0
