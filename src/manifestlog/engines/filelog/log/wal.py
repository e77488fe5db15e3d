"""The write-ahead log: the ordered segments, their succession, and the canonical files that they name.

Invariants:

- Lines are ordered by (segment, offset). Segment numbers only grow, and no file is rewritten.
- A segment has a successor only if it is sealed, or if its end accepts no append (torn, damaged, failed sync). So a
  reader at a clean, unsealed end that has not grown has read everything.
- A successor states its predecessor's valid length, lines and CRC; readers ignore all bytes after that length.
- A segment and all earlier ones are on the disk before its successor gets its name.

Reading takes no lock. `prepare`, `append`, `rotate` and `start` require the append lock.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.log import fold, lines
from manifestlog.engines.filelog.log.lines import CanonicalId, LogEntry, SegmentHeader, Summary
from manifestlog.engines.filelog.log.segment import Segment, Tail
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk, publish
from manifestlog.files.publish import Target

if TYPE_CHECKING:
    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)

Ops = list[tuple[int, LogEntry]]
"""Decoded lines with the number of their segment, in log order."""

Take = Callable[[int, LogEntry], None]
"""Receives a decoded line and the number of its segment."""


class OvertakenError(Exception):
    """A compaction removed the segments to read next, so the manifest must be loaded again. Never leaves the engine."""


class Wal:
    """The log as one process has read it. Not thread-safe; the session's mutex protects it."""

    def __init__(self, paths: ManifestPaths, ts_created: str, current: Segment, *, writable: bool) -> None:
        self._paths = paths
        self._ts_created = ts_created
        self._writable = writable
        self.current = current
        self.bases: fold.CanonicalIds = current.opening.bases
        self.covers = 0
        self.compacted_at = ""
        self.compaction_s = 0.0
        self._compacted_in = 0
        self._lengths: dict[int, int] = {current.number: current.tail.length}
        self._changed: dict[int, str] = {}
        self.sync_failed_segments: set[int] = set()
        self._learn(current)
        self.writes = False

    @classmethod
    def open(
        cls, paths: ManifestPaths, canonical: tuple[int, str], ts_created: str, *, writable: bool
    ) -> tuple[Wal | None, Ops]:
        """Read every line that the canonical with this (size, CRC) does not cover; (None, []) if there is no segment.

        Raises `DamagedManifestError` if the log does not name this canonical, or if a segment is missing or damaged.
        """
        numbers = paths.segment_numbers(disk.list_names(paths.directory))
        if not numbers:
            return None, []
        current = _open(paths, numbers[-1], ts_created, writable=writable)
        wal = cls(paths, ts_created, current, writable=writable)
        last: Ops = []
        wal._advance(current, lambda number, op: last.append((number, op)))
        current.report_damage()
        wal.covers = wal.covered_by(canonical)
        if wal.covers >= current.number:
            raise DamagedManifestError(current.path, 0, f"the segments after {wal.covers} are missing")
        before: Ops = []
        wal.replay(wal.covers + 1, lambda number, op: before.append((number, op)))
        return wal, before + last

    def covered_by(self, canonical: tuple[int, str]) -> int:
        """Return the last segment that the canonical with this (size, CRC) covers.

        Raises `DamagedManifestError` if the log does not name this canonical.
        """
        covers = fold.covered_by(self.bases, canonical)
        if covers is None:
            raise DamagedManifestError(
                self._paths.canonical, 0, "the log does not belong to this file: it was edited, replaced or truncated"
            )
        return covers

    def replay(self, first: int, take: Take) -> None:
        """Pass on the lines of every segment from `first` up to the current one, and check each against its successor."""
        previous: Segment | None = None
        try:
            for number in range(first, self.current.number):
                segment = self._open_needed(number)
                left, previous = previous, segment
                if left is not None:
                    try:
                        left.check_link(segment.opening.previous)
                    finally:
                        left.unpin()
                self._advance(segment, take)
            if previous is not None:
                previous.check_link(self.current.opening.previous)
        finally:
            if previous is not None:
                previous.unpin()

    def _open_needed(self, number: int) -> Segment:
        try:
            return _open(self._paths, number, self._ts_created, writable=False)
        except FileNotFoundError:
            raise DamagedManifestError(
                self._paths.segment(number), 0, f"segment {number} is missing, and the canonical does not cover it"
            ) from None

    def _note(self, number: int, op: LogEntry) -> None:
        """Record what a line says about the canonical, and the time of the first change to merge."""
        if op.kind in fold.WRITES:
            self._changed.setdefault(number, op.ts)
            return
        if op.kind == "compacted" and number >= self._compacted_in:
            self._compacted_in, self.compacted_at, self.compaction_s = number, op.ts, op.data["seconds"]
        if number < self.current.number:
            # Older segments are replayed after the current one, whose first line already states their result. An old
            # `compacted` would remove a canonical that was announced since, and our next segment would not name it.
            return
        self.bases = fold.after(self.bases, op)

    def follow(self, take: Take) -> None:
        """Pass on what was appended since the last call, across seals and fences.

        Raises `OvertakenError` if a compaction removed the next segment.
        """
        while True:
            self._advance(self.current, take)
            if self.current.clean:
                return
            successor = self._successor()
            if successor is None:
                self.current.report_damage()
                return
            # Other lines may have been appended to it between our read and the creation of its successor.
            self._advance(self.current, take)
            self.current.check_link(successor.opening.previous)
            self._move_to(successor)

    def stands_still(self) -> bool:
        """Return whether nothing was written since the last read, for an end that accepts no append.

        A successor may appear without a new byte in this segment, so its name is looked up. If it appeared and was
        compacted away, this segment's name is gone too: covered segments are removed oldest first.
        """
        return self.current.stands_still() and not disk.exists(self._paths.segment(self.current.number + 1))

    def _advance(self, segment: Segment, take: Take) -> None:
        number = segment.number
        for op in segment.advance():
            self._note(number, op)
            take(number, op)
        self._lengths[segment.number] = segment.tail.length
        self._learn(segment)

    def _learn(self, segment: Segment) -> None:
        """Record failed syncs of this segment or of the one before it."""
        previous = segment.opening.previous
        if previous is not None and previous.synced is not None:
            self.sync_failed_segments.add(previous.segment)
        if segment.sync_failed:
            self.sync_failed_segments.add(segment.number)

    def _successor(self) -> Segment | None:
        number = self.current.number + 1
        if disk.exists(self._paths.segment(number)):
            try:
                successor = _open(self._paths, number, self._ts_created, writable=self._writable)
            except FileNotFoundError:
                raise OvertakenError from None
            if fold.begins_anew(successor.opening):
                successor.unpin()
                raise OvertakenError
            return successor
        # If a later segment exists, the successor was compacted away. Otherwise this process would take this segment
        # for the last one and create a successor with a reused number, which no reader opens.
        if self._numbers()[-1:] > [number]:
            raise OvertakenError
        return None

    def _numbers(self) -> list[int]:
        return self._paths.segment_numbers(disk.list_names(self._paths.directory))

    def _move_to(self, successor: Segment) -> None:
        # Close the old segment last: after an interrupt the garbage collector closes it, and never the current one.
        left, self.current = self.current, successor
        self._learn(successor)
        self._lengths[successor.number] = successor.tail.length
        if self.writes:
            disk.lock_shared(successor.fd)
        left.unpin()

    def prepare(self, line_bytes: int, segment_bytes_max: int) -> None:
        """Make sure that a line of about this length can be appended, starting the next segment if needed.

        Raises `OSError` if that segment cannot be created.
        """
        segment = self.current
        if not (segment.is_named or segment.marked or self._compacted_in == segment.number):
            # Its creator may have died before syncing its name, with lines in it. A mark or a compaction comes after that sync.
            disk.sync_directory(self._paths.directory)
            segment.is_named = True
        if segment.clean and not segment.sync_failed:
            if segment.opening.format < lines.FORMAT:
                self.rotate()  # this version writes no line of an older format
            elif segment.tail.length + line_bytes > segment_bytes_max and segment.tail.lines > 1:
                self.rotate()
            return
        if segment.clean:
            # Its sync failed, so no records are appended and it is not synced again. The seal only sends readers on.
            segment.seal()
        elif not segment.sealed:
            log.warning(
                "%s: a crash or a full disk left an unfinished end after offset %d; it is fenced off, continuing in segment %d",
                segment.path,
                segment.tail.length,
                segment.number + 1,
            )
        self._start_next()

    def rotate(self, following: Sequence[LogEntry] = ()) -> None:
        """Seal the current segment and start the next, which has these lines already when it gets its name."""
        self.current.seal()
        self._start_next(following)

    def _start_next(self, following: Sequence[LogEntry] = ()) -> None:
        number = self.current.number + 1
        if not self.current.sync_failed:
            # After a crash here the segment is sealed and has no successor; the next writer creates it. Naming the
            # successor before this sync could let a power cut remove lines of its predecessor.
            try:
                self.current.sync(self.current.tail.length)
            except OSError as error:
                # The successor records the failure. Without one, the next writer would not know of it and sync again.
                log.error("%s: sync failed (%s); continuing in segment %d", self.current.path, error, number)
                self.mark_sync_failed(self.current)
        summary = self.current.summary()
        self._move_to(create_segment(self._paths, self._ts_created, summary, self.bases, following=following))
        log.debug("%s: segment started", self.current.path)

    def register_writer(self) -> None:
        """Register as a writer. The last registered writer compacts on close."""
        self.writes = True
        disk.lock_shared(self.current.fd)

    def release_writer(self) -> bool:
        """Deregister as a writer, and return whether another process is still registered."""
        self.writes = False
        return disk.held_by_others(self.current.fd)

    def accept(self, tail: Tail, op: LogEntry) -> None:
        """Move past a line of this process; the last step, after the line was applied."""
        self._note(self.current.number, op)
        self._lengths[self.current.number] = tail.length
        self.current.tail = tail

    def mark_sync_failed(self, segment: Segment) -> None:
        """Record a failed sync: this segment is never appended to or synced again."""
        segment.sync_failed = True
        self.sync_failed_segments.add(segment.number)

    def drop_covered(self, covers: int) -> None:
        """Forget the segments up to `covers`: a canonical that covers them has been published."""
        self.covers = covers
        self._lengths = {n: length for n, length in self._lengths.items() if n > covers}
        self._changed = {n: ts for n, ts in self._changed.items() if n > covers}

    @property
    def bytes_to_merge(self) -> int:
        """Size in bytes of the segments with changes that the canonical does not cover."""
        return sum(self._lengths.get(number, 0) for number in self._changed)

    @property
    def bytes_total(self) -> int:
        """Size in bytes of all segments that the canonical does not cover."""
        return sum(self._lengths.values())

    @property
    def changed_since(self) -> str | None:
        """Time of the oldest change that the canonical does not cover, or None."""
        return next(iter(sorted(self._changed.values())), None)

    @property
    def current_changed(self) -> bool:
        """Whether the current segment contains changes."""
        return self.current.number in self._changed

    @property
    def segments(self) -> int:
        return len(self._lengths)

    def close(self) -> None:
        self.current.unpin()

    def abandon(self) -> None:
        self.current.abandon()


def _open(paths: ManifestPaths, number: int, ts_created: str, *, writable: bool) -> Segment:
    path = paths.segment(number)
    segment = Segment.open(path, writable=writable)
    found = (segment.opening.manifest, segment.opening.ts_created, segment.number)
    if found != (paths.name, ts_created, number):
        segment.unpin()
        raise DamagedManifestError(
            path, 0, f"this is segment {found[2]} of another manifest, {found[0]!r}, created at {found[1]}"
        )
    return segment


def read_segments(paths: ManifestPaths, ts_created: str, first: int, last: int, take: Take) -> None:
    """Pass on every line of these sealed or fenced segments, read from disk and checked, including the chain.

    Raises `DamagedManifestError`.
    """
    end = _open(paths, last + 1, ts_created, writable=False)
    try:
        Wal(paths, ts_created, end, writable=False).replay(first, take)
    finally:
        end.unpin()


def create_segment(
    paths: ManifestPaths,
    ts_created: str,
    previous: Summary | None,
    bases: fold.CanonicalIds,
    mode_from: str | None = None,
    following: Sequence[LogEntry] = (),
) -> Segment:
    """Create the next segment. It is whole and synced before it gets its name, so no reader sees an unfinished one.

    It copies mode and group of `mode_from`, by default of the canonical. Raises `FileExistsError` if this segment or a later
    one exists: numbers are never reused.
    """
    names = disk.list_names(paths.directory)
    for left in paths.temporaries(names):
        if ".wal-" in left:  # left by a writer that died here: we hold the append lock
            disk.remove(left)
    number = previous.segment + 1 if previous else 1
    path = paths.segment(number)
    if paths.segment_numbers(names)[-1:] > [number]:
        raise FileExistsError(errno.EEXIST, "a later segment exists", path)
    opening = SegmentHeader(paths.name, ts_created, number, secrets.randbits(32), previous, bases)
    target = Target(paths.temporary(path), path, paths.directory, must_be_new=True)
    data = bytearray(lines.header_line(opening))
    for entry in following:
        data += checksums.seal_line(lines.encode(entry, 0), opening.salt, len(data))
    segment = Segment(path, publish.publish_open(target, [bytes(data)], mode_from=mode_from or paths.canonical))
    segment.is_named = True
    return segment


def start(paths: ManifestPaths, ts_created: str, identity: tuple[int, str]) -> Wal:
    """Create the first segment of a manifest without a log; `identity` is the canonical's.

    If a canonical was restored alone, beside its history, the segment begins anew behind that, as after a repair. So no
    file of the history is ever replaced by another of the same number.
    """
    # The creator of the canonical may have died before syncing its name, and a log without its canonical is damage.
    disk.sync_directory(paths.directory)
    last = last_kept(paths)
    previous = Summary(last, 0, 0, checksums.hex_crc(0)) if last else None
    opened = create_segment(paths, ts_created, previous, (CanonicalId(*identity, last),))
    return Wal(paths, ts_created, opened, writable=True)


def last_kept(paths: ManifestPaths) -> int:
    """Return the last segment in the history, or 0."""
    names = history_folder.names_if_any(paths)
    return max([0, *paths.segment_numbers(names), *(last for _, last in paths.pack_ranges(names))])
