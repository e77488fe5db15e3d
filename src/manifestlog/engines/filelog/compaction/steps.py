"""Compaction: the eight steps from the log to the next canonical file.

::

    (1) take the compaction lock, or leave the work to its holder
    (2) seal the active segment: writers continue in the next one
    (3) read the index and the sealed segments, check everything, stop at any damage
    (4) merge into a temporary file, checking the canonical while copying it, sync it, read it back; announce it in the
        log (`compacting`)
    (5) rename it over the canonical, sync the directory
    (6) replace the index in the same way
    (7) record it in the log (`compacted`)
    (8) move the covered segments to the history, oldest first; pack and cut the history if that is due

Invariants:

- A crash before (5) leaves the old canonical and every segment. A crash after (5) leaves a canonical that the log has
  announced, and segments whose replay changes nothing. There is no state in between.
- Writers are blocked only during (2), the announcement and (7): for a seal, a file creation and two lines.
- Damage is never merged: index and segments are checked before (4), the canonical file while it is copied in (4), and
  the new file before it is announced.
- If there is nothing to merge, the canonical file does not change. Segments with events only are covered without a
  merge.

`docs/FORMAT.md` and the crash tests use the same numbers.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.canonical import files as base, merge, reading
from manifestlog.engines.filelog.canonical.index import Head, IndexDamagedError
from manifestlog.engines.filelog.canonical.turn import Turn
from manifestlog.engines.filelog.canonical.write import Writer, read_back
from manifestlog.engines.filelog.history import keep
from manifestlog.engines.filelog.log import fold, wal
from manifestlog.engines.filelog.log.lines import CanonicalId, LogEntry
from manifestlog.engines.filelog.session import Session, now_text, reraise_with_advice
from manifestlog.engines.filelog.state import State
from manifestlog.engines.reports import CompactionOutcome, CompactionReport
from manifestlog.errors import DamagedManifestError, HistoryUnavailableError, ManifestError
from manifestlog.files import disk, publish
from manifestlog.model import document
from manifestlog.options import parse_history

if TYPE_CHECKING:
    from manifestlog.engines.filelog.canonical.columns import RowColumns

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Input:
    """What step (3) has read and checked, except for the canonical, which is checked while it is copied."""

    base: base.CanonicalFiles
    state: State
    changes: list[merge.Change]
    changed: bool
    """Whether there is anything to merge; otherwise the segments hold events only."""


def compact(session: Session, *, wait: bool = False) -> CompactionReport:
    """Merge the log into the canonical. If another compaction is running, wait for it, or without `wait` do nothing.

    On return the canonical survives a power cut and contains everything acknowledged before the call.
    Raises `DamagedManifestError` or `DiskFullError` with nothing changed, and `LockTimeoutError` only with `wait`. In a
    signal handler of a thread that compacts, it does nothing, and with `wait` raises `ManifestError`.
    """
    began, thread = time.perf_counter(), threading.get_ident()
    if thread in session.compactors:
        # Its lock is reentrant, so this would work between two steps of the compaction that was interrupted.
        return _refuse_handler(session.paths.canonical, wait=wait)
    try:
        session.compactors.add(thread)
        with session.compaction_lock(wait=wait) as alone:  # (1)
            if not alone:
                log.debug("%s: another compaction is running", session.paths.canonical)
                return CompactionReport(CompactionOutcome.ALREADY_RUNNING)
            report = _Compaction(session, began).run()
    except OSError as error:
        reraise_with_advice(session.paths.canonical, error)
        raise
    finally:
        session.compactors.discard(thread)
    _log(session.paths.canonical, report)
    return report


def _refuse_handler(path: str, *, wait: bool) -> CompactionReport:
    if wait:
        raise ManifestError(
            f"{path}: a signal handler tried to compact while its thread was compacting;"
            " set a flag in the handler, and compact after the interrupted call has returned"
        )
    return CompactionReport(CompactionOutcome.ALREADY_RUNNING)


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


def deregister_writer(session: Session) -> bool:
    """Deregister as a writer; return whether this was the last one and there is something to merge."""
    if not session.read(lambda state: state.wal is not None and state.wal.writes):
        return False

    def act(state: State) -> bool:
        if state.wal is None or state.wal.release_writer():
            return False
        return state.wal.changed_since is not None

    return session.transact(act)


class _Sealed(NamedTuple):
    """The last segment to merge (None if there is nothing to merge), and for how many seconds writers were blocked."""

    last: int | None
    held_s: float


def _seal_for_merge(session: Session) -> _Sealed:
    """Seal the segments to merge, so that nothing more is written into them."""

    def act(state: State) -> _Sealed:
        began = time.perf_counter()
        base.sweep(session.paths)
        if state.wal is None and not state.base.foreign:
            return _Sealed(None, 0.0)
        log_ = state.start_log()
        log_.prepare(0, session.options.segment_bytes_max)
        if log_.current_changed:
            log_.rotate()
        merges = log_.changed_since is not None or state.base.foreign
        return _Sealed(log_.current.number - 1 if merges else None, time.perf_counter() - began)

    return session.transact(act)


def _log_base(session: Session, kind: str, told: CanonicalId, seconds: float) -> float:
    """Record in the log that a canonical is coming or has come; return the seconds under the lock.

    On return the line survives a power cut.
    """

    def act(state: State) -> float:
        began = time.perf_counter()
        session.append(state, LogEntry(kind, now_text(), [], {"base": told._asdict(), "seconds": seconds}))
        return time.perf_counter() - began

    held_s = session.transact(act)
    session.sync()
    return held_s


def _covered_by(session: Session, identity: tuple[int, str]) -> int:
    """Return the last segment that the canonical with this (size, CRC) covers."""
    return session.read(lambda state: state.wal.covered_by(identity) if state.wal else 0)


class _Compaction:
    def __init__(self, session: Session, began: float) -> None:
        self._session = session
        self._paths = session.paths
        self._began = began
        self._temporary = session.paths.temporary(session.paths.canonical)

    def run(self) -> CompactionReport:
        session = self._session
        session.sync()  # most of the disk's work, before writers are blocked
        cut = _seal_for_merge(session)  # (2)
        if cut.last is None:
            self._tidy()
            return self._report(
                CompactionOutcome.NOTHING_TO_DO, total=session.read(lambda state: state.total), pause=cut.held_s
            )
        with suppress(IndexDamagedError):
            return self._complete(cut.last, cut.held_s, self._read(cut.last, scan=False))
        # The index was found damaged in (3), or in (4) while editing source rows: nothing has been announced yet.
        return self._complete(cut.last, cut.held_s, self._read(cut.last, scan=True))

    def _complete(self, last: int, held_s: float, found: _Input) -> CompactionReport:
        with Turn(self._paths) as turn:
            return self._merge(last, held_s, found, turn) if found.changed else self._cover(last, held_s, found)

    def _cover(self, last: int, held_s: float, found: _Input) -> CompactionReport:
        """Let the present canonical cover segments that hold events only."""
        told = CanonicalId(*found.base.identity, last)
        pause = _log_base(self._session, "compacting", told, 0.0)
        pause = max(pause, _log_base(self._session, "compacted", told, time.perf_counter() - self._began))  # (7)
        self._keep(last, found.base)  # (8)
        return self._report(CompactionOutcome.NOTHING_TO_DO, total=found.state.total, pause=max(pause, held_s))

    def _merge(self, last: int, held_s: float, found: _Input, turn: Turn) -> CompactionReport:
        session = self._session
        with publish.unfinished(self._temporary, mode_from=self._paths.canonical) as fd:
            columns, out = self._write(found, fd)  # (4)
            told = CanonicalId(out.size, checksums.hex_crc(out.crc), last)
            pause = _log_base(session, "compacting", told, 0.0)
            turn.hold(out.size)  # up to (6), whoever opens the manifest finds an index that does not fit
            self._publish(found.base)  # (5)
            head = Head(disk.stamp(fd), told.crc, told.covers, found.state.live_metadata())
        base.write_index(self._paths, columns, head)  # (6)
        turn.end()
        pause = max(pause, _log_base(session, "compacted", told, time.perf_counter() - self._began))  # (7)
        self._keep(last, found.base)  # (8)
        return self._report(
            CompactionOutcome.COMPACTED,
            merged=len(found.changes),
            total=len(columns.crcs),
            written=out.size,
            pause=max(pause, held_s),
        )

    def _report(
        self, outcome: CompactionOutcome, *, total: int, pause: float, merged: int = 0, written: int = 0
    ) -> CompactionReport:
        return CompactionReport(outcome, merged, total, written, time.perf_counter() - self._began, pause)

    def _tidy(self) -> None:
        """Finish a compaction that died after (5)."""
        found = base.open_base(self._paths)
        covers = _covered_by(self._session, found.identity)
        if not found.kept:
            base.keep_index(self._paths, found, covers)
        disk.sync_directory(self._paths.directory)  # it may have died before syncing it
        self._keep(covers, found)

    def _read(self, last: int, *, scan: bool) -> _Input:
        found = base.open_base(self._paths, scan=scan)
        found.index.check_all()
        state = State(self._paths, found, None, writable=False)
        first = _covered_by(self._session, found.identity) + 1

        changed = found.foreign

        def take(segment: int, op: LogEntry) -> None:
            nonlocal changed
            if op.kind in fold.CHANGES:
                changed = True
                state.apply(segment, op)
                disk.yield_gil()

        wal.read_segments(self._paths, found.metadata["ts_created"], first, last, take)
        changes = merge.plan(found, state.overlay)
        if merge.records_after(found, changes) != state.total:
            raise IndexDamagedError("the number of records in the index does not fit the log")
        return _Input(found, state, changes, changed)

    def _write(self, found: _Input, fd: int) -> tuple[RowColumns, Writer]:
        out = Writer(fd)
        metadata = found.state.live_metadata()
        columns, old_crc = merge.write(found.base, found.changes, metadata, out)
        reading.check_read(found.base.canonical, found.base.index, old_crc)
        disk.sync_data(fd)
        self._read_again(fd, out, document.head(metadata, empty=not columns.crcs).count(b"\n") + len(columns.crcs))
        return columns, out

    def _read_again(self, fd: int, out: Writer, lines_before_foot: int) -> None:
        if read_back(fd, out.size) != (out.crc, out.size, lines_before_foot + 2):
            raise DamagedManifestError(self._temporary, 0, "the merged file does not read back as it was written")

    def _publish(self, old: base.CanonicalFiles) -> None:
        if disk.path_stamp(self._paths.canonical) != old.index.head.stamp:
            raise DamagedManifestError(
                self._paths.canonical, 0, "another program replaced the file during a compaction"
            )
        disk.replace(self._temporary, self._paths.canonical)
        # Without this sync, a power cut after deleting segments could bring back the old canonical without its log.
        disk.sync_directory(self._paths.directory)

    def _keep(self, covers: int, canonical: base.CanonicalFiles) -> None:
        """Do (8). If the history cannot take the segments, they stay where they are: the canonical has their changes."""
        try:
            with history_folder.stated(self._paths):
                self._move(covers, canonical)
        except (HistoryUnavailableError, DamagedManifestError) as error:
            log.warning("%s (the segments that should go there stay beside the manifest)", error)

    def _move(self, covers: int, canonical: base.CanonicalFiles) -> None:
        keep_options = parse_history(self._session.options.history)
        created = canonical.metadata["ts_created"]
        needed = keep.floor(self._paths, created, keep_options)
        names = keep.move(self._paths, covers, needed if keep_options.off else 0)
        keep.tidy(self._paths, created, keep_options, needed, names)
