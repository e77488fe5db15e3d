"""One log segment: opens, reads, appends, syncs and seals it.

Invariants:

- `tail` is the position after the last accepted line; it only moves forward, and never into an unfinished line.
- A line is appended whole or removed. A complete line is never removed, since a reader may have accepted it.
- A segment is *clean* if an append may follow its last byte. Nothing is ever written after any other end.
- A moved line, unless it is a copy, is an error: no crash moves lines, and skipping it would lose its records.
- Other damage that a crash explains is skipped. The successor states which lines were valid, and so confirms it.

It takes no lock and chooses no successor; the log does (`wal`).
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.engines.filelog.log.framing import Piece
from manifestlog.engines.filelog.log.lines import LogEntry, PutRun, SegmentHeader, Summary
from manifestlog.engines.filelog.log.moved import Search
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk

log = logging.getLogger(__name__)


_TURN_S = 60.0
"""How long a thread waits for another thread's sync, in seconds; a longer one counts as failed."""
_FAILED_BEFORE = "an earlier sync of this file failed"
_READ_BYTES = 128 << 10
_END_BYTES = 64
"""Number of last bytes to compare at an end that accepts no append: more than a line's CRC and newline take."""
_OPENING_BYTES_MAX = 16 << 20
"""Far more than a header line takes. A longer first line is not a header and is not read to its end."""


class Tail(NamedTuple):
    """How far a segment was read: offset, number of lines, CRC over their CRCs, offset known to be on the disk."""

    length: int = 0
    lines: int = 0
    chain: int = 0
    synced: int = 0
    terminated: bool = True

    def after(self, line: bytes, end: int, *, terminated: bool) -> Tail:
        """Return the tail after this line, which ends at offset `end`."""
        return Tail(end, self.lines + 1, crc32(checksums.line_crc(line), self.chain), self.synced, terminated)


def explained_by_crash(piece: Piece, synced: int, sealed_end: int | None) -> bool:
    """Return whether a crash explains this damage: it starts after the last synced offset, and not after the seal."""
    return piece.offset >= synced and (sealed_end is None or piece.end <= sealed_end)


class Segment:
    """An open segment file; its last user closes it. Only `sync` is thread-safe; the session's mutex protects the rest."""

    fd = -1

    def __init__(self, path: str, fd: int) -> None:
        self.fd = fd
        self.path = path
        self.tail = Tail()
        self.opening = self._read_opening()
        self.number = self.opening.segment
        self._search = Search(fd, self.opening.salt)
        self.sealed = False
        self.is_named = False
        """Whether its name is known to be on the disk."""
        self.sync_failed = False
        """Whether a sync of it failed, in this process or in the one that sealed it: it is never synced again."""
        self._unfinished = False
        self._seen: tuple[disk.Stamp, bytes] | None = None
        self.marked = 0
        self._damage: list[Piece] = []
        self._reported: set[int] = set()
        self._users = 1
        self._syncing = threading.RLock()
        self._synced = 0
        self._broken = False

    @classmethod
    def open(cls, path: str, *, writable: bool) -> Segment:
        """Open an existing segment and check its first line."""
        return cls(path, disk.open_append(path) if writable else disk.open_read(path))

    @property
    def clean(self) -> bool:
        """Whether the next line may be appended here."""
        return self.tail.terminated and not self._unfinished and not self._damage and not self.sealed

    def summary(self) -> Summary:
        length, count, chain, synced, _ = self.tail
        found = lines.summarise(self.number, length, count, chain, self._damage)
        return found._replace(synced=synced) if self.sync_failed else found

    def _read_opening(self) -> SegmentHeader:
        start = []
        for block in disk.blocks(self.fd, 0, min(disk.size(self.fd), _OPENING_BYTES_MAX)):
            start.append(block)
            if b"\n" in block:
                break
        line, newline, _ = b"".join(start).partition(b"\n")
        opening = lines.decode_header(line, self.path)
        if opening is None:
            raise DamagedManifestError(self.path, 0, "the segment's first line is damaged")
        self.tail = Tail().after(line, len(line) + len(newline), terminated=bool(newline))
        return opening

    def advance(self) -> Iterator[LogEntry]:
        """Yield every line appended since the last call; the tail moves when the next line is requested.

        After an interrupt the same lines are yielded again, so applying a line twice must change nothing.
        Raises `DamagedManifestError` for damage that no crash explains.
        """
        self._seen = None
        end = disk.size(self.fd)
        if end < self.tail.length:
            raise DamagedManifestError(
                self.path, end, f"the segment is shorter than the {self.tail.length} bytes read before"
            )
        self._unfinished = False
        if end > self.tail.length and not self.tail.terminated and disk.read(self.fd, 1, self.tail.length) == b"\n":
            # The line was accepted without its newline, which has been written since.
            self.tail = self.tail._replace(length=self.tail.length + 1, terminated=True)
        position = self.tail.length
        if self._damage and self._damage[-1].terminated:
            position = max(position, self._damage[-1].end)  # junk may be long, so it is read only once
        last = None
        while position < end:
            data = self._whole_lines(position, end)
            yield from self._read_on(data, position)
            position += len(data)
            last = data[-_END_BYTES:]
        if not self.clean:
            self._remember(end, last)

    def _remember(self, end: int, last: bytes | None) -> None:
        """Record an end that accepts no append, for `stands_still`; `last` are its last bytes if they were read."""
        if last is None:
            last = disk.read(self.fd, min(_END_BYTES, end), max(0, end - _END_BYTES))
        stamp = disk.path_stamp(self.path)
        if stamp is not None and stamp.size == end and stamp == disk.stamp(self.fd):
            self._seen = stamp, last

    def stands_still(self) -> bool:
        """Return whether an end that accepts no append, and the file's name, are unchanged since the last `advance`.

        The length alone is not enough: a writer whose disk is full removes its partial line, and the next writer may
        append a whole line of the same length. But a whole line has another end than a torn one.
        """
        if self._seen is None:
            return False
        stamp, last = self._seen
        return disk.path_stamp(self.path) == stamp and disk.read(self.fd, len(last), stamp.size - len(last)) == last

    def _whole_lines(self, start: int, end: int) -> bytes:
        """Read a block that ends with a newline, or the rest, so that a long segment is never parsed as a whole."""
        count = _READ_BYTES
        while True:
            data = disk.read(self.fd, min(count, end - start), start)
            if len(data) < count or start + count >= end:
                return data
            whole = data.rfind(b"\n") + 1
            if whole:
                return data[:whole]
            count *= 2

    def _read_on(self, data: bytes, start: int) -> Iterator[LogEntry]:
        """Yield the lines of `data`, which starts at offset `start`: usual lines many at once, others one by one."""
        position = 0
        while position < len(data):
            run = lines.usual_puts(data, position, start, self.opening.salt)
            if run is not None:
                yield from self._accept_run(run, start)
                position = run.end
            else:
                stop = data.find(lines.PUT_AFTER, position) + 1 or len(data)
                pieces = list(framing.split(data[position:stop], start + position, self.opening.salt))
                rest = pieces[-1].end if pieces else start + position
                position = stop
                self._refuse_moved(pieces, rest, start + stop)
                yield from self._accept(pieces)
                self._unfinished = start + position > (pieces[-1].end if pieces else self.tail.length)

    def _accept_run(self, run: PutRun, start: int) -> Iterator[LogEntry]:
        """Yield the lines of a run, then move the tail past them."""
        before = self.tail
        synced = max(before.synced, run.synced)
        tail = Tail(start + run.end, before.lines + len(run.puts), crc32(run.crcs, before.chain), synced)
        self.marked = max(self.marked, run.synced)
        if self._damage:
            self._refuse_unexplained(self._damage, tail)
        yield LogEntry("put", run.ts, run.puts, {"ts_last": run.ts_last})
        self.tail = tail

    def _accept(self, pieces: list[Piece]) -> Iterator[LogEntry]:
        """Yield lines of any kind, with the damage around them, then move the tail past them."""
        ops: list[LogEntry] = []
        tail = self.tail
        damage = framing.with_damage(self._damage, pieces)
        for offset, end, line, whole in pieces:
            if line is None:
                continue
            op = self._decode(line, offset)
            if op.kind == "seal":
                self.sealed = True
                self.sync_failed |= "synced" in op.data
                if not damage:
                    self._check_seal(op, tail)
            ops.append(op)
            self.marked = max(self.marked, op.data.get("synced", 0))
            tail = tail.after(line, end, terminated=whole)
        tail = tail._replace(synced=max(tail.synced, self.marked))
        self._refuse_unexplained(damage, tail)
        yield from ops
        self._damage, self.tail = damage, tail

    def _refuse_moved(self, pieces: list[Piece], rest: int, end: int) -> None:
        """Raise `DamagedManifestError` for a moved line, in damage or in the unfinished end from `rest` on."""
        unfinished = [Piece(rest, end, None, terminated=False)] if rest < end else []
        damage = [piece for piece in pieces if piece.line is None] + unfinished
        for piece in damage:
            for moved in self._search.lost_within(piece.offset, piece.end):
                joined = framing.with_damage(self._damage[-1:], damage)
                offset = next(one.offset for one in joined if moved.place < one.end)
                beyond = f"{self._search.records_beyond(offset)} good records follow"
                raise DamagedManifestError(self.path, offset, f"{moved.describe()} in segment {self.number}; {beyond}")

    def _decode(self, line: bytes, offset: int) -> LogEntry:
        try:
            return lines.decode(line)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedManifestError(
                self.path, offset, f"the line has a valid CRC but invalid content ({error})"
            ) from None

    def _check_seal(self, op: LogEntry, tail: Tail) -> None:
        declared = (op.data["length"], op.data["lines"], op.data["chain"])
        if declared != (tail.length, tail.lines, checksums.hex_crc(tail.chain)):
            raise DamagedManifestError(self.path, tail.length, "the segment's lines do not match its seal")

    def _refuse_unexplained(self, damage: list[Piece], tail: Tail) -> None:
        """Raise `DamagedManifestError` for damage before a `synced` mark: no crash explains it.

        This process's own syncs do not count as marks: they may have come after the crash.
        """
        last = tail.length + (not tail.terminated) if self.sealed else None
        for piece in damage:
            if not explained_by_crash(piece, self.marked, last):
                raise self._error(piece)

    def _error(self, piece: Piece) -> DamagedManifestError:
        return DamagedManifestError(
            self.path,
            piece.offset,
            f"{piece.end - piece.offset} bytes of segment {self.number} differ from what was written;"
            f" {self._search.records_beyond(piece.end)} good records follow",
        )

    def check_link(self, declared: Summary | None) -> None:
        """Compare with what the successor states; raises `DamagedManifestError` if it differs.

        The successor states the damage that existed when it was created. Any other damage came after the sync before it.
        """
        if declared is not None and lines.matches(declared, self.summary(), self._damage):
            self.report_damage()
            return
        if self._damage:
            raise self._error(self._damage[0])
        raise DamagedManifestError(
            self.path,
            self.tail.length,
            f"the end of segment {self.number} differs from what segment {self.number + 1} states",
        )

    def report_damage(self) -> None:
        """Log each range that a crash damaged, once; called when nothing else can explain it any more."""
        for piece in self._damage:
            if piece.offset not in self._reported:
                self._reported.add(piece.offset)
                log.warning(
                    "%s: skipped %d bytes at offset %d, which a crash damaged before they were acknowledged",
                    self.path,
                    piece.end - piece.offset,
                    piece.offset,
                )

    def append(self, body: bytes) -> Tail:
        """Append one line and return the tail after it; only under the append lock, and only if `clean`.

        On return the line survives a process kill. The caller first applies it and then sets `tail`: after an interrupt
        in between, the line is read and applied again, which changes nothing. In the other order it would be missed.
        After an error nothing of the line remains, or an unfinished end that the next writer fences off.
        """
        start = self.tail.length
        line = checksums.seal_line(body, self.opening.salt, start)
        end, is_whole = start + len(line), True
        try:
            disk.append(self.fd, line)
        except BaseException as error:
            if not self._is_written_but_for_its_newline(start, end, error):
                raise
            end, is_whole = end - 1, False
        return self.tail.after(line[:-1], end, terminated=is_whole)

    def _is_written_but_for_its_newline(self, start: int, end: int, error: BaseException) -> bool:
        """After a failed append, return whether only the newline is missing; remove any shorter part of the line.

        A reader accepts a line without its newline, so that line can no longer be removed::

            A writes all but the newline ─ B reads and accepts the line ─ A finds the disk full, removes it
            A appends another line of that length ─ B finds a newline after "its" line: A and B differ for ever

        So the line counts, and the next writer starts another segment, as after any end that is not clean.
        """
        try:
            size = disk.size(self.fd)
            if start < size < end - 1:
                disk.truncate(self.fd, start)
        except OSError as other:
            log.warning("%s: an unfinished line remains after offset %d (%s)", self.path, start, other)
            return False
        return size == end - 1 and isinstance(error, OSError)

    def seal(self) -> None:
        """Append the seal, after which nothing follows."""
        tail = self.append(lines.seal_body(self.summary()))
        self.sealed = True
        self.tail = tail

    def sync(self, length: int) -> None:
        """Make everything before offset `length` survive a power cut. Thread-safe.

        After one failed sync, every later call raises `OSError`. Threads sync one after the other: the kernel reports a
        failed write once per open file and then treats the lost pages as clean, so the next sync would succeed.
        A thread that waited usually finds its lines already synced by the previous thread.
        """
        try:
            self._take_turn()
            if self._synced < length:
                self._sync_alone()
        finally:
            with suppress(RuntimeError):  # this thread did not get the lock
                self._syncing.release()

    def _take_turn(self) -> None:
        # Reentrant, because a signal handler may interrupt this thread's sync to write or close. With a timeout, because
        # that handler may wait for another thread, which waits here.
        if not self._syncing.acquire(True, _TURN_S):
            raise OSError(errno.ETIMEDOUT, "another thread's sync of this file has not ended", self.path)

    def _sync_alone(self) -> None:
        if self._broken:
            raise OSError(errno.EIO, _FAILED_BEFORE, self.path)
        reached = self.tail.length
        try:
            disk.sync_data(self.fd)
        except OSError:
            self._broken = True
            raise
        if self._broken:  # a signal handler of this thread received the error
            raise OSError(errno.EIO, _FAILED_BEFORE, self.path)
        self._synced = max(self._synced, reached)

    def mark_synced(self, length: int) -> None:
        """Record that everything before offset `length` is on the disk."""
        if length > self.tail.synced:
            self.tail = self.tail._replace(synced=length)

    def pin(self) -> int:
        """Keep the descriptor open for one more user, and return it."""
        self._users += 1
        return self.fd

    def unpin(self) -> None:
        """Release one user; the last one closes the file."""
        self._users -= 1
        if self._users == 0:
            self.abandon()

    def __del__(self) -> None:
        # Needed after an error in the constructor, or an interrupt between a `pin` and its `unpin`.
        with suppress(OSError):
            self.abandon()

    def abandon(self) -> None:
        """Close the file, whatever its user count; in a forked child those users are threads of the parent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            disk.close(fd)
