"""The in-memory state of a manifest in one process: base, overlay and log position, kept consistent.

Invariants:

- State changes only by applying log lines in order; this process's own lines are applied the same way.
- Applying a line twice changes nothing, so an interrupted read is simply repeated.
- Loading takes no lock. It retries if the files change while it reads, and reports damage only if they do not.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.canonical import files as base_files
from manifestlog.engines.filelog.canonical.files import CanonicalFiles
from manifestlog.engines.filelog.log import fold, lines, wal
from manifestlog.engines.filelog.log.lines import CanonicalId, LogEntry
from manifestlog.engines.filelog.log.wal import OvertakenError, Wal
from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.engines.filelog.view import View
from manifestlog.errors import (
    DamagedManifestError,
    HistoryUnavailableError,
    ManifestNotFoundError,
    NotAManifestError,
)
from manifestlog.files import disk
from manifestlog.model.rows import Row, utc_text

if TYPE_CHECKING:
    from manifestlog.engines.filelog.canonical.turn import Turn
    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)

_LOAD_TRIES = 100


class State:
    """Base, overlay and log of one manifest. Not thread-safe; the session's mutex protects it."""

    def __init__(self, paths: ManifestPaths, base: CanonicalFiles, log_: Wal | None, *, writable: bool) -> None:
        self.paths = paths
        self.writable = writable
        self.base = base
        self.wal = log_
        self.overlay = Overlay()
        self.view = View(base, (self.overlay,))
        self.metadata: Row = dict(base.metadata)
        self._first_segment = 1
        """What the log begins with, if there is none yet."""
        self._uncounted: set[str] = set()
        self._extra: set[str] = set()
        self._gone: set[str] = set()

    @classmethod
    def load(cls, paths: ManifestPaths, *, writable: bool, turn: Turn | None = None) -> State:
        """Read a manifest from disk; with a `turn`, the whole canonical file only once that has come.

        Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`.
        """
        for _ in range(_LOAD_TRIES):
            before = fingerprint(paths)
            try:
                return cls._load_once(paths, writable=writable, turn=turn)
            except (DamagedManifestError, FileNotFoundError):
                # A concurrent compaction looks like damage, but then the files change between two attempts.
                if fingerprint(paths) == before:
                    raise
        raise DamagedManifestError(
            paths.canonical, 0, f"the files changed during each of {_LOAD_TRIES} attempts to read them"
        )

    @classmethod
    def _load_once(cls, paths: ManifestPaths, *, writable: bool, turn: Turn | None) -> State:
        try:
            base = base_files.open_base(paths, turn=turn)
        except FileNotFoundError:
            if paths.segment_numbers(_names(paths)):
                reason = "the canonical file is missing, but its log exists"
                raise DamagedManifestError(paths.canonical, 0, reason) from None
            raise ManifestNotFoundError(paths.canonical) from None
        except NotAManifestError as error:
            if paths.segment_numbers(_names(paths)) or disk.exists(paths.index):
                # A log or index lies beside it, so this file has replaced the canonical of a manifest.
                raise DamagedManifestError(error.path, 0, error.reason) from None
            raise
        log_, ops = Wal.open(paths, base.identity, base.metadata["ts_created"], writable=writable)
        if log_ is None and base.index.head.covers:
            _miss_log(paths, base)
        state = cls(paths, base, log_, writable=writable)
        if log_ is None:
            with suppress(HistoryUnavailableError):  # then nobody begins a log
                state._first_segment = wal.last_kept(paths) + 1
        for segment, op in ops:
            if log_ is not None and segment > log_.covers and op.kind != "compacted":
                state.apply(segment, op)
        return state

    @property
    def total(self) -> int:
        """The number of records."""
        self._count()
        return self.base.index.count + len(self._extra) - len(self._gone)

    def must_rewrite(self, checksum: str) -> bool:
        """Return whether this checksum's last line is in a segment whose sync failed."""
        entry = self.overlay.entries.get(checksum)
        return entry is not None and self.wal is not None and entry[1] in self.wal.sync_failed_segments

    def live_metadata(self) -> Row:
        """Return the metadata as a compaction would write it now."""
        updated = utc_text(datetime.fromisoformat(self.metadata["ts_updated"]))
        return self.metadata | {"total_records": self.total, "ts_updated": updated}

    def is_fresh(self) -> bool:
        """Return whether nothing was written since the last read: one system call at a clean end, else four."""
        if self.wal is None:
            unchanged = disk.path_stamp(self.paths.canonical) == self.base.index.head.stamp
            return unchanged and not disk.exists(self.paths.segment(self._first_segment))
        current = self.wal.current
        if current.clean:
            return disk.size(current.fd) == current.tail.length
        return self.wal.stands_still()

    def follow(self) -> None:
        """Apply what was written since the last read; raises `OvertakenError` if the manifest must be loaded again."""
        if self.wal is None:
            raise OvertakenError
        self.wal.follow(self.apply)

    def apply(self, segment: int, op: LogEntry) -> None:
        """Apply one line, or several `put` lines in a row."""
        if op.puts:
            self.overlay.put_all(op.puts, segment)
            self._uncounted.update([checksum for _, checksum, _ in op.puts])
        for checksum in lines.forgotten(op) if op.data else ():
            self.overlay.forget(checksum, segment)
            self._uncounted.add(checksum)
        if op.kind == "meta":
            self.metadata |= op.data["metadata"]
        elif op.kind == "compacted":
            self._rebase(fold.stated(op))
        if op.kind in fold.CHANGES:
            self.metadata["ts_updated"] = op.data.get("ts_last", op.ts)

    def _count(self) -> None:
        """Count the checksums that are in both log and canonical; deferred until a total is needed."""
        for checksum in tuple(self._uncounted):
            in_base = self.base.index.find(bytes.fromhex(checksum)) >= 0
            put = self.overlay.entries[checksum][0] is not None
            (self._extra.add if put and not in_base else self._extra.discard)(checksum)
            (self._gone.add if in_base and not put else self._gone.discard)(checksum)
            self._uncounted.discard(checksum)

    def append(self, op: LogEntry) -> None:
        """Append a line and apply it; only under the append lock, after `Wal.prepare`."""
        assert self.wal is not None
        current = self.wal.current
        tail = current.append(lines.encode(op, current.tail.synced))
        self.apply(current.number, op)
        self.wal.accept(tail, op)

    def start_log(self) -> Wal:
        """Return the log, creating it if there is none; only under the append lock."""
        if self.wal is None:
            self.wal = wal.start(self.paths, self.metadata["ts_created"], self.base.identity)
        return self.wal

    def _rebase(self, told: CanonicalId) -> None:
        """Switch to the canonical that a compaction has published."""
        assert self.wal is not None
        try:
            base = base_files.open_base(self.paths)
        except FileNotFoundError:
            return
        if base.identity != told.identity:
            return  # a later compaction has already replaced it; its line follows in the log
        self._take(base, self.overlay.behind(told.covers))
        self.wal.drop_covered(told.covers)

    def rescan(self) -> None:
        """Read the canonical itself, because its index is damaged."""
        log.warning("%s: the index is damaged; reading the canonical instead", self.paths.index)
        base = base_files.open_base(self.paths, scan=True)
        if base.identity != self.base.identity:
            raise OvertakenError
        self._take(base, self.overlay)

    def _take(self, base: CanonicalFiles, overlay: Overlay) -> None:
        self._extra, self._gone, self._uncounted = set(), set(), set(overlay.entries)
        self.base, self.overlay, self.view = base, overlay, View(base, (overlay,))

    def close(self) -> None:
        """Close every file, even if references to this object remain; views that were returned keep theirs open."""
        try:
            if self.wal is not None:
                self.wal.close()
        finally:
            del self.base, self.view, self.overlay

    def abandon(self) -> None:
        """In a forked child: close the inherited descriptors, even if a thread of the parent had pinned them."""
        if self.wal is not None:
            self.wal.abandon()


def _names(paths: ManifestPaths) -> list[str]:
    try:
        return disk.list_names(paths.directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _miss_log(paths: ManifestPaths, base: CanonicalFiles) -> None:
    """Handle an index that names a missing log: damage, unless the canonical was copied alone, which is valid."""
    covers = base.index.head.covers
    if not base.adopted:
        reason = f"the log is missing: segment {covers} was not its last"
        raise DamagedManifestError(paths.segment(covers + 1), 0, reason)
    log.warning(
        "%s: this copy came without its log, so it may lack records added after the last compaction;"
        " copy the %s of the original as well",
        paths.canonical,
        os.path.basename(paths.segment(0)).replace("000000", "*"),
    )


def fingerprint(paths: ManifestPaths) -> tuple[disk.Stamp | None, list[int]]:
    """Return what a concurrent compaction changes: the canonical's stamp and the segment numbers."""
    return disk.path_stamp(paths.canonical), paths.segment_numbers(_names(paths))
