"""What one process knows of a manifest: base, overlay and log position, kept in step.

Invariants:

- Knowledge comes from reading lines in log order, and from nowhere else; our own lines take the same way.
- Applying a line twice changes nothing, so an interrupt anywhere only costs a second look.
- Loading takes no lock: what changes under its hands (a compaction) makes it start again; what stands still is damage.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime
from typing import TYPE_CHECKING

from manifestlog.errors import DamagedManifestError, ManifestNotFoundError, NotAManifestError
from manifestlog.rows import Row, utc_text
from manifestlog.storage import base as base_files
from manifestlog.storage import disk, lines, wal
from manifestlog.storage.base import BaseFiles
from manifestlog.storage.lines import Base, Op
from manifestlog.storage.overlay import Overlay
from manifestlog.storage.view import View
from manifestlog.storage.wal import OvertakenError, Wal

if TYPE_CHECKING:
    from manifestlog.naming import ManifestPaths

log = logging.getLogger(__name__)

_LOAD_TRIES = 100


class State:
    """Base, overlay and log of one manifest. Not safe for threads; the store's mutex is around it."""

    def __init__(self, paths: ManifestPaths, base: BaseFiles, log_: Wal | None, *, writable: bool) -> None:
        self.paths = paths
        self.writable = writable
        self.base = base
        self.wal = log_
        self.overlay = Overlay()
        self.view = View(base, (self.overlay,))
        self.metadata: Row = dict(base.metadata)
        self._uncounted: set[str] = set()
        self._extra: set[str] = set()
        self._gone: set[str] = set()

    @classmethod
    def load(cls, paths: ManifestPaths, *, writable: bool) -> State:
        """Read a manifest from the disk.

        Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`.
        """
        for _ in range(_LOAD_TRIES):
            before = fingerprint(paths)
            try:
                return cls._load_once(paths, writable=writable)
            except (DamagedManifestError, FileNotFoundError):
                # A compaction between two of our looks shows the same signs as damage, but does not stand still.
                if fingerprint(paths) == before:
                    raise
        raise DamagedManifestError(paths.canonical, 0, "the files change faster than they can be read")

    @classmethod
    def _load_once(cls, paths: ManifestPaths, *, writable: bool) -> State:
        try:
            base = base_files.open_base(paths)
        except FileNotFoundError:
            if paths.segment_numbers(_names(paths)):
                reason = "the canonical file is missing, its log is there"
                raise DamagedManifestError(paths.canonical, 0, reason) from None
            raise ManifestNotFoundError(paths.canonical) from None
        except NotAManifestError as error:
            if paths.segment_numbers(_names(paths)) or disk.exists(paths.index):
                # What a manifest leaves beside itself: somebody put this file in its place.
                raise DamagedManifestError(error.path, 0, error.reason) from None
            raise
        log_, ops = Wal.open(paths, base.identity, base.metadata["ts_created"], writable=writable)
        if log_ is None and base.index.head.covers:
            _miss_log(paths, base)
        state = cls(paths, base, log_, writable=writable)
        for segment, op in ops:
            if log_ is not None and segment > log_.covers and op.kind != "compacted":
                state.apply(segment, op)
        return state

    @property
    def total(self) -> int:
        """How many records there are."""
        self._count()
        return self.base.index.count + len(self._extra) - len(self._gone)

    def distrusts(self, checksum: str) -> bool:
        """Whether this checksum's last line is in a segment whose sync has failed here."""
        entry = self.overlay.entries.get(checksum)
        return entry is not None and self.wal is not None and entry[1] in self.wal.poisoned

    def live_metadata(self) -> Row:
        """The metadata as a compaction of this moment would write it."""
        updated = utc_text(datetime.fromisoformat(self.metadata["ts_updated"]))
        return self.metadata | {"total_records": self.total, "ts_updated": updated}

    def is_fresh(self) -> bool:
        """Whether nothing was written since the last look: one system call at a clean end, four small ones at any other."""
        if self.wal is None:
            unchanged = disk.path_stamp(self.paths.canonical) == self.base.index.head.stamp
            return unchanged and not disk.exists(self.paths.segment(1))
        current = self.wal.current
        if current.clean:
            return disk.size(current.fd) == current.tail.length
        return self.wal.stands_still()

    def follow(self) -> None:
        """Apply what was written since the last look; raises `OvertakenError` when only loading helps."""
        if self.wal is None:
            raise OvertakenError
        self.wal.follow(self.apply)

    def apply(self, segment: int, op: Op) -> None:
        """Take over what one line says, or several `put` lines in a row."""
        if op.puts:
            self.overlay.put_all(op.puts, segment)
            self._uncounted.update([checksum for _, checksum, _ in op.puts])
        elif op.kind == "forget":
            self.overlay.forget(op.data["checksum"], segment)
            self._uncounted.add(op.data["checksum"])
        elif op.kind == "meta":
            self.metadata |= op.data["metadata"]
        elif op.kind == "compacted":
            self._rebase(Base(**op.data["base"]))
        if op.kind in wal.CHANGES:
            self.metadata["ts_updated"] = op.data.get("ts_last", op.ts)

    def _count(self) -> None:
        """Find out which checksums of the log the canonical has as well: put off until somebody asks for a number."""
        for checksum in tuple(self._uncounted):
            in_base = self.base.index.find(bytes.fromhex(checksum)) >= 0
            put = self.overlay.entries[checksum][0] is not None
            (self._extra.add if put and not in_base else self._extra.discard)(checksum)
            (self._gone.add if in_base and not put else self._gone.discard)(checksum)
            self._uncounted.discard(checksum)

    def append(self, op: Op) -> None:
        """Write a line of our own and take it over; only under the append lock, after `Wal.prepare`."""
        assert self.wal is not None
        current = self.wal.current
        tail = current.append(lines.encode(op, current.tail.synced))
        self.apply(current.number, op)
        self.wal.accept(tail, op)

    def start_log(self) -> Wal:
        """The log, begun if there is none; only under the append lock."""
        if self.wal is None:
            size, crc = self.base.identity
            self.wal = wal.start(self.paths, self.metadata["ts_created"], lines.Base(size, crc, 0))
        return self.wal

    def _rebase(self, told: Base) -> None:
        """Change over to the canonical that a compaction has put in place."""
        assert self.wal is not None
        try:
            base = base_files.open_base(self.paths)
        except FileNotFoundError:
            return
        if base.identity != (told.size, told.crc):
            return  # already the next one: its own line will come
        self._take(base, self.overlay.behind(told.covers))
        self.wal.drop_covered(told.covers)

    def rescan(self) -> None:
        """The index turned out damaged: read the canonical itself."""
        log.warning("%s: the index is damaged; reading the canonical instead", self.paths.index)
        base = base_files.open_base(self.paths, scan=True)
        if base.identity != self.base.identity:
            raise OvertakenError
        self._take(base, self.overlay)

    def _take(self, base: BaseFiles, overlay: Overlay) -> None:
        self._extra, self._gone, self._uncounted = set(), set(), set(overlay.entries)
        self.base, self.overlay, self.view = base, overlay, View(base, (overlay,))

    def close(self) -> None:
        """Let go of every file, whoever still holds this object; views that were handed out keep theirs."""
        try:
            if self.wal is not None:
                self.wal.close()
        finally:
            del self.base, self.view, self.overlay

    def abandon(self) -> None:
        """In a forked child: close our copies, whoever still had them pinned in the parent."""
        if self.wal is not None:
            self.wal.abandon()


def _names(paths: ManifestPaths) -> list[str]:
    try:
        return disk.list_names(paths.directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _miss_log(paths: ManifestPaths, base: BaseFiles) -> None:
    """The index tells of a log that is not there: damage, unless the canonical was copied alone, which is a whole manifest."""
    covers = base.index.head.covers
    if not base.adopted:
        reason = f"the log is missing: segment {covers} was not its last"
        raise DamagedManifestError(paths.segment(covers + 1), 0, reason)
    log.warning(
        "%s: this copy came without its log, and lacks what was registered after the last compaction, if anything was;"
        " to have it, copy the %s of the original as well",
        paths.canonical,
        os.path.basename(paths.segment(0)).replace("000000", "*"),
    )


def fingerprint(paths: ManifestPaths) -> tuple[disk.Stamp | None, list[int]]:
    """What changes when a compaction goes on beside a reader: which canonical, which segments."""
    return disk.path_stamp(paths.canonical), paths.segment_numbers(_names(paths))
