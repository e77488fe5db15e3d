"""The write-ahead log: the ordered segments, how they follow each other, what they say of the canonical.

Invariants:

- Order is (segment, offset). Segment numbers only grow, and no file is rewound.
- A segment has a successor only if it is sealed, or if its end is no place to append to (torn, damaged, failed sync).
  So whoever stands at a clean, unsealed end that has not grown has seen everything.
- A successor states its predecessor's valid length, lines and CRC; bytes behind that length are junk for ever.
- A segment and all before it are on the disk before its successor has a name.

Reading takes no lock. `prepare`, `append`, `rotate` and `start` are called under the append lock only.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.errors import DamagedManifestError
from manifestlog.storage import disk, lines
from manifestlog.storage.lines import Base, Op, Opening, Summary
from manifestlog.storage.segment import Segment, Tail

if TYPE_CHECKING:
    from manifestlog.naming import ManifestPaths

log = logging.getLogger(__name__)

Ops = list[tuple[int, Op]]
"""Decoded lines with the number of their segment, in log order."""

Take = Callable[[int, Op], None]
"""Receives a decoded line and the number of its segment."""

CHANGES = frozenset({"put", "batch", "forget", "meta"})


class OvertakenError(Exception):
    """The segments to follow were compacted away: load again. Never leaves the engine."""


class Wal:
    """The log from one process's point of view. Not safe for threads; the store's mutex is around it."""

    def __init__(self, paths: ManifestPaths, ts_created: str, current: Segment, *, writable: bool) -> None:
        self._paths = paths
        self._ts_created = ts_created
        self._writable = writable
        self.current = current
        self.bases: list[Base] = list(current.opening.bases)
        self.covers = 0
        self.compacted_at = ""
        self.compaction_s = 0.0
        self._compacted_in = 0
        self._lengths: dict[int, int] = {current.number: current.tail.length}
        self._changed: dict[int, str] = {}
        self.poisoned: set[int] = set()
        self._learn(current)
        self.writes = False

    @classmethod
    def open(
        cls, paths: ManifestPaths, canonical: tuple[int, str], ts_created: str, *, writable: bool
    ) -> tuple[Wal | None, Ops]:
        """Read every line that the canonical of this (size, CRC) does not hold; (None, []) without any segment.

        Raises `DamagedManifestError` for a canonical that the log does not know, and for a segment missing or damaged.
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
            raise DamagedManifestError(current.path, 0, f"the segments behind {wal.covers} are missing")
        before: Ops = []
        wal.replay(wal.covers + 1, lambda number, op: before.append((number, op)))
        return wal, before + last

    def covered_by(self, canonical: tuple[int, str]) -> int:
        """The last segment whose changes the canonical of this (size, CRC) holds.

        Raises `DamagedManifestError` when the log does not know this canonical.
        """
        for base in reversed(self.bases):
            if (base.size, base.crc) == canonical:
                return base.covers
        raise DamagedManifestError(
            self._paths.canonical, 0, "this is not the file that the log belongs to: it was edited, swapped or cut"
        )

    def replay(self, first: int, take: Take) -> None:
        """Hand over the lines of every segment from `first` to before the current one, each checked by its successor."""
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
                self._paths.segment(number), 0, f"segment {number} is missing, and the canonical does not hold it"
            ) from None

    def _note(self, number: int, op: Op) -> None:
        """Remember what a line says of the canonical, and since when there is something to merge."""
        if op.kind in CHANGES:
            self._changed.setdefault(number, op.ts)
        elif op.kind == "compacted" and number >= self._compacted_in:
            self._compacted_in, self.compacted_at, self.compaction_s = number, op.ts, op.data["seconds"]
        if number < self.current.number:
            # Replayed after the current segment, whose first line has the outcome of all that. An old `compacted` would
            # strike out a canonical that was announced since, and our next segment would not know it.
            return
        if op.kind == "compacting":
            self.bases.append(Base(**op.data["base"]))
        elif op.kind == "compacted":
            self.bases = [Base(**op.data["base"])]

    def follow(self, take: Take) -> None:
        """Hand over what was appended since the last call, across seals and fences.

        Raises `OvertakenError` when the way on was compacted away.
        """
        while True:
            self._advance(self.current, take)
            if self.current.clean:
                return
            successor = self._successor()
            if successor is None:
                self.current.report_damage()
                return
            # It may have been finished and left between our look at it and its successor's birth.
            self._advance(self.current, take)
            self.current.check_link(successor.opening.previous)
            self._move_to(successor)

    def stands_still(self) -> bool:
        """Whether nothing has come at an end that cannot be appended to, however long what is torn there.

        A successor may come without a byte in this segment, so its name is asked for. One that has come and was compacted
        away has taken this segment's name with it: covered segments go oldest first.
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
        """Take notice of what is said of syncs that have failed, in this segment or in the one before."""
        previous = segment.opening.previous
        if previous is not None and previous.synced is not None:
            self.poisoned.add(previous.segment)
        if segment.sync_failed:
            self.poisoned.add(segment.number)

    def _successor(self) -> Segment | None:
        number = self.current.number + 1
        if disk.exists(self._paths.segment(number)):
            try:
                successor = _open(self._paths, number, self._ts_created, writable=self._writable)
            except FileNotFoundError:
                raise OvertakenError from None
            if begins_anew(successor.opening):
                successor.unpin()
                raise OvertakenError
            return successor
        # Sealed, torn or damaged: whatever the end is like, with a later segment there its successor was compacted away.
        # Taken for the last one, it would be fenced once more, under a number that is gone, where nobody looks.
        if self._numbers()[-1:] > [number]:
            raise OvertakenError
        return None

    def _numbers(self) -> list[int]:
        return self._paths.segment_numbers(disk.list_names(self._paths.directory))

    def _move_to(self, successor: Segment) -> None:
        # Closed last: an interrupt in between leaves it to the garbage collector, and never closes the current one.
        left, self.current = self.current, successor
        self._learn(successor)
        self._lengths[successor.number] = successor.tail.length
        if self.writes:
            disk.lock_shared(successor.fd)
        left.unpin()

    def prepare(self, line_bytes: int, segment_bytes_max: int) -> None:
        """Make sure that a line of about this length can be appended to the current segment."""
        segment = self.current
        if segment.clean and not segment.sync_failed:
            if segment.tail.length + line_bytes > segment_bytes_max and segment.tail.lines > 1:
                self.rotate()
            elif segment.tail.lines == 1 and not segment.is_named:
                # Its maker may have died before he synced its name; who writes the first line behind that, syncs it.
                disk.sync_directory(self._paths.directory)
                segment.is_named = True
            return
        if segment.clean:
            # Its sync failed, so it is not trusted with more records, nor synced again; the seal only sends readers on.
            segment.seal()
        elif not segment.sealed:
            log.warning(
                "%s: a crash or a full disk left an unfinished end behind offset %d; it is fenced off, segment %d goes on",
                segment.path,
                segment.tail.length,
                segment.number + 1,
            )
        self._start_next()

    def rotate(self) -> None:
        """Seal the current segment and start the next."""
        self.current.seal()
        self._start_next()

    def _start_next(self) -> None:
        number = self.current.number + 1
        if not self.current.sync_failed:
            # Crash here: sealed, no successor; the next writer makes one. Were the successor named first, a power cut
            # could leave it behind a predecessor whose last lines are gone.
            try:
                self.current.sync(self.current.tail.length)
            except OSError as error:
                # The successor says so. Left without one, it would be synced again by the next, who does not know.
                log.error("%s: not synced (%s); it is left, and segment %d goes on", self.current.path, error, number)
                self.poison(self.current)
        self._move_to(create_segment(self._paths, self._ts_created, self.current.summary(), tuple(self.bases)))
        log.debug("%s: begun", self.current.path)

    def be_writer(self) -> None:
        """From now on count as a writer, whom others leave the compaction on closing to."""
        self.writes = True
        disk.lock_shared(self.current.fd)

    def has_other_writers(self) -> bool:
        """Whether another process counts as a writer; this one does no longer."""
        self.writes = False
        return disk.held_by_others(self.current.fd)

    def accept(self, tail: Tail, op: Op) -> None:
        """Count a line of our own as read; last of all, when it was applied."""
        self._note(self.current.number, op)
        self._lengths[self.current.number] = tail.length
        self.current.tail = tail

    def poison(self, segment: Segment) -> None:
        """A sync of this segment failed: never append to it again, never sync it again."""
        segment.sync_failed = True
        self.poisoned.add(segment.number)

    def drop_covered(self, covers: int) -> None:
        """A canonical that holds everything up to this segment is in place."""
        self.covers = covers
        self._lengths = {n: length for n, length in self._lengths.items() if n > covers}
        self._changed = {n: ts for n, ts in self._changed.items() if n > covers}

    @property
    def bytes_to_merge(self) -> int:
        """Size of the segments that hold changes which the canonical does not."""
        return sum(self._lengths.get(number, 0) for number in self._changed)

    @property
    def bytes_total(self) -> int:
        """Size of every segment that is not covered."""
        return sum(self._lengths.values())

    @property
    def changed_since(self) -> str | None:
        """When the oldest change was written that the canonical does not hold."""
        return next(iter(sorted(self._changed.values())), None)

    @property
    def current_changed(self) -> bool:
        """Whether the current segment holds changes."""
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
    told = (segment.opening.manifest, segment.opening.ts_created, segment.number)
    if told != (paths.name, ts_created, number):
        segment.unpin()
        raise DamagedManifestError(
            path, 0, f"this is segment {told[2]} of manifest {told[0]!r} created at {told[1]}, not of this one"
        )
    return segment


def read_segments(paths: ManifestPaths, ts_created: str, first: int, last: int, take: Take) -> None:
    """Hand over every line of these sealed or fenced segments, read from the disk and checked, chain included."""
    end = _open(paths, last + 1, ts_created, writable=False)
    try:
        Wal(paths, ts_created, end, writable=False).replay(first, take)
    finally:
        end.unpin()


def begins_anew(opening: Opening) -> bool:
    """Whether a repair has started this segment: its canonical holds all before it, whatever others know of that.

    After a compaction at least the segment in which it is announced lies between the two.
    """
    return any(base.covers == opening.segment - 1 for base in opening.bases) and opening.segment > 1


def create_segment(
    paths: ManifestPaths,
    ts_created: str,
    previous: Summary | None,
    bases: tuple[Base, ...],
    like: str | None = None,
) -> Segment:
    """Make the next segment: whole and synced before it has its name, so no half-made one is ever seen.

    Its mode and group are those of `like`, by default the canonical's. Raises `FileExistsError` if there is one already,
    or a later one: numbers are never used again.
    """
    names = disk.list_names(paths.directory)
    for left in paths.temporaries(names):
        if ".wal-" in left:  # another writer's, who died in here: we hold the append lock
            disk.remove(left)
    number = previous.segment + 1 if previous else 1
    path = paths.segment(number)
    if paths.segment_numbers(names)[-1:] > [number]:
        raise FileExistsError(errno.EEXIST, "a later segment exists", path)
    temporary = paths.temporary(path)
    opening = Opening(paths.name, ts_created, number, secrets.randbits(32), previous, bases)
    fd = disk.create(temporary, like=like or paths.canonical)
    try:
        disk.append(fd, lines.opening_line(opening))
        disk.sync_data(fd)
        disk.publish_new(temporary, path)
        disk.sync_directory(paths.directory)
    except BaseException:
        disk.close(fd)
        with suppress(OSError):
            disk.remove(temporary)
        raise
    segment = Segment(path, fd)
    segment.is_named = True
    return segment


def start(paths: ManifestPaths, ts_created: str, base: Base) -> Wal:
    """The first segment of a manifest that has no log yet."""
    # The canonical's maker may have died before he synced its name, and a log without its canonical is damage.
    disk.sync_directory(paths.directory)
    return Wal(paths, ts_created, create_segment(paths, ts_created, None, (base,)), writable=True)
