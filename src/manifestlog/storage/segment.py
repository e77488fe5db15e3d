"""One log segment: open, read on, append, seal.

Invariants:

- `tail` stands behind the last line that was accepted; it only moves forward, and never into an unfinished line.
- A line is appended in one piece or taken back; a complete line is never taken back, since a reader may have it already.
- A segment is *clean* when an append may follow its last byte. Behind anything else nothing is ever written again.
- A line that was moved is damage, as no crash moves one, and it would be lost with what is passed over.
- Other damage that a crash may have left is passed over. Whether it did is for the successor to say: it states what was valid.

It takes no lock and chooses no successor: that is the log's job (`wal`).
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

from manifestlog.errors import DamagedManifestError
from manifestlog.storage import codec, disk, framing, lines
from manifestlog.storage.framing import Piece
from manifestlog.storage.lines import Op, Opening, Run, Summary
from manifestlog.storage.moved import Search

log = logging.getLogger(__name__)


_TURN_S = 60.0
"""How long a thread waits for the sync of another; a longer one is treated as one that has failed."""
_FAILED_BEFORE = "an earlier sync of it has failed"
_READ_BYTES = 128 << 10
_END_BYTES = 64
"""How much of an end that cannot be appended to is compared: more than a line's CRC and newline take."""
_OPENING_BYTES_MAX = 16 << 20
"""Far more than a first line takes: it names a few files. What is longer is none, and is not read to its end."""


class Tail(NamedTuple):
    """How far a segment was read: offset, lines before it, CRC over their CRCs, offset known to be on the disk."""

    length: int = 0
    lines: int = 0
    chain: int = 0
    synced: int = 0
    terminated: bool = True


def may_be_a_crashs(piece: Piece, synced: int, sealed_end: int | None) -> bool:
    """Whether a crash can have left this damage: it lies behind what was synced, and not behind the seal, if there is one."""
    return piece.offset >= synced and (sealed_end is None or piece.end <= sealed_end)


class Segment:
    """An open segment file, closed with its last user. Not safe for threads but for `sync`; the session's mutex is around it."""

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
        """Whether a sync of it has failed, here or where it was sealed: it is never synced again."""
        self._unfinished = False
        self._seen: tuple[disk.Stamp, bytes] | None = None
        self._marked = 0
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

    def _read_opening(self) -> Opening:
        start = []
        for block in disk.blocks(self.fd, 0, min(disk.size(self.fd), _OPENING_BYTES_MAX)):
            start.append(block)
            if b"\n" in block:
                break
        line, newline, _ = b"".join(start).partition(b"\n")
        opening = lines.decode_opening(line, self.path)
        if opening is None:
            raise DamagedManifestError(self.path, 0, "the segment's first line is damaged")
        self.tail = Tail(len(line) + len(newline), 1, crc32(codec.line_crc(line)), 0, bool(newline))
        return opening

    def advance(self) -> Iterator[Op]:
        """Yield every line that was appended since the last call; the tail moves when the next is asked for.

        An interrupt in between makes the same lines come again, so taking one twice must change nothing.
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
            # The line was accepted while its writer was one byte short.
            self.tail = self.tail._replace(length=self.tail.length + 1, terminated=True)
        position = self.tail.length
        if self._damage and self._damage[-1].terminated:
            position = max(position, self._damage[-1].end)  # junk stays junk, and may be long: it is read once
        last = None
        while position < end:
            data = self._whole_lines(position, end)
            yield from self._read_on(data, position)
            position += len(data)
            last = data[-_END_BYTES:]
        if not self.clean:
            self._remember(end, last)

    def _remember(self, end: int, last: bytes | None) -> None:
        """Note how an end that cannot be appended to looks, `last` its last bytes if they were read, for `stands_still`."""
        if last is None:
            last = disk.read(self.fd, min(_END_BYTES, end), max(0, end - _END_BYTES))
        stamp = disk.path_stamp(self.path)
        if stamp is not None and stamp.size == end and stamp == disk.stamp(self.fd):
            self._seen = stamp, last

    def stands_still(self) -> bool:
        """Whether an end that cannot be appended to is as the last `advance` has left it, and the file under its name.

        The length alone does not tell: a writer whose disk is full takes back what he has of a line, and the next one may
        write a whole line of just that length. But that one ends as a line does, which a torn one does not.
        """
        if self._seen is None:
            return False
        stamp, last = self._seen
        return disk.path_stamp(self.path) == stamp and disk.read(self.fd, len(last), stamp.size - len(last)) == last

    def _whole_lines(self, start: int, end: int) -> bytes:
        """A few megabytes that end with a newline, so that a long segment is never parsed as a whole; or all there is."""
        count = _READ_BYTES
        while True:
            data = disk.read(self.fd, min(count, end - start), start)
            if len(data) < count or start + count >= end:
                return data
            whole = data.rfind(b"\n") + 1
            if whole:
                return data[:whole]
            count *= 2

    def _read_on(self, data: bytes, start: int) -> Iterator[Op]:
        """Yield what `data`, at offset `start`, says: usual lines many at once, what stands between them by itself."""
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

    def _accept_run(self, run: Run, start: int) -> Iterator[Op]:
        """Yield what the lines say; when it was taken, the tail moves behind them."""
        before = self.tail
        synced = max(before.synced, run.synced)
        tail = Tail(start + run.end, before.lines + len(run.puts), crc32(run.crcs, before.chain), synced)
        self._marked = max(self._marked, run.synced)
        if self._damage:
            self._judge(self._damage, tail)
        yield Op("put", run.ts, run.puts, {"ts_last": run.ts_last})
        self.tail = tail

    def _accept(self, pieces: list[Piece]) -> Iterator[Op]:
        """The same for one line of any kind, or damage with the lines inside it."""
        ops: list[Op] = []
        length, count, chain, synced, terminated = self.tail
        damage = framing.with_damage(self._damage, pieces)
        for offset, end, line, whole in pieces:
            if line is None:
                continue
            op = self._decode(line, offset)
            if op.kind == "seal":
                self.sealed = True
                self.sync_failed |= "synced" in op.data
                if not damage:
                    self._check_seal(op, Tail(length, count, chain))
            ops.append(op)
            self._marked = max(self._marked, op.data.get("synced", 0))
            length, terminated = end, whole
            count += 1
            chain = crc32(codec.line_crc(line), chain)
        tail = Tail(length, count, chain, max(synced, self._marked), terminated)
        self._judge(damage, tail)
        yield from ops
        self._damage, self.tail = damage, tail

    def _refuse_moved(self, pieces: list[Piece], rest: int, end: int) -> None:
        """Raise for an intact line that is not where it was written, in damage or in what is unfinished from `rest` on."""
        unfinished = [Piece(rest, end, None, terminated=False)] if rest < end else []
        damage = [piece for piece in pieces if piece.line is None] + unfinished
        for piece in damage:
            for moved in self._search.lost_within(piece.offset, piece.end):
                joined = framing.with_damage(self._damage[-1:], damage)
                offset = next(one.offset for one in joined if moved.place < one.end)
                beyond = f"{self._search.records_beyond(offset)} good records lie beyond"
                raise DamagedManifestError(self.path, offset, f"{moved.told()} in segment {self.number}; {beyond}")

    def _decode(self, line: bytes, offset: int) -> Op:
        try:
            return lines.decode(line)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedManifestError(self.path, offset, f"the line says nothing known ({error})") from None

    def _check_seal(self, op: Op, tail: Tail) -> None:
        told = (op.data["length"], op.data["lines"], op.data["chain"])
        if told != (tail.length, tail.lines, codec.hex_crc(tail.chain)):
            raise DamagedManifestError(self.path, tail.length, "the segment's lines are not those that were sealed")

    def _judge(self, damage: list[Piece], tail: Tail) -> None:
        """Damage behind every `synced` mark may be a crash's; any other is not, and nothing goes on.

        What we have synced ourselves is no mark: we may have come after the crash.
        """
        last = tail.length + (not tail.terminated) if self.sealed else None
        for piece in damage:
            if not may_be_a_crashs(piece, self._marked, last):
                raise self._error(piece)

    def _error(self, piece: Piece) -> DamagedManifestError:
        return DamagedManifestError(
            self.path,
            piece.offset,
            f"{piece.end - piece.offset} bytes of segment {self.number} are not what was written;"
            f" {self._search.records_beyond(piece.end)} good records lie beyond",
        )

    def check_link(self, told: Summary | None) -> None:
        """Compare with what the successor says; raises `DamagedManifestError`.

        Damage that was there when the successor was made is in what it says. Any other came behind the sync before that.
        """
        if told is not None and lines.agrees(told, self.summary(), self._damage):
            self.report_damage()
            return
        if self._damage:
            raise self._error(self._damage[0])
        raise DamagedManifestError(
            self.path,
            self.tail.length,
            f"segment {self.number} does not end as segment {self.number + 1} says it did",
        )

    def report_damage(self) -> None:
        """Say, once, what a crash has damaged; called when nobody can say otherwise."""
        for piece in self._damage:
            if piece.offset not in self._reported:
                self._reported.add(piece.offset)
                log.warning(
                    "%s: %d bytes at offset %d were damaged by a crash before they were acknowledged; skipped",
                    self.path,
                    piece.end - piece.offset,
                    piece.offset,
                )

    def append(self, body: bytes) -> Tail:
        """Write one line, and give the tail behind it; only under the append lock, and only when `clean`.

        On return the line survives a process kill. The caller applies it and then sets `tail`: an interrupt in between
        makes the line be read and applied again, which changes nothing; the other way round it would be missed.
        On an error nothing of the line remains, or an unfinished end that the next writer fences off.
        """
        start = self.tail.length
        line = codec.seal_line(body, self.opening.salt, start)
        end, is_whole = start + len(line), True
        try:
            disk.append(self.fd, line)
        except BaseException as error:
            if not self._is_written_but_for_its_newline(start, end, error):
                raise
            end, is_whole = end - 1, False
        _, count, chain, synced, _ = self.tail
        return Tail(end, count + 1, crc32(codec.line_crc(line[:-1]), chain), synced, is_whole)

    def _is_written_but_for_its_newline(self, start: int, end: int, error: BaseException) -> bool:
        """After an error: whether the line is there all the same; otherwise nothing of it is.

        Who reads accepts a line without its newline, so that one can be taken back no more::

            A writes all but the newline ─ B reads it, accepts it ─ A finds the disk full, cuts it off
            A appends another line of that length ─ B finds a newline behind "its" line: the two never agree again

        So it counts, and the next writer goes on in another segment, as behind any end that is not clean.
        """
        try:
            size = disk.size(self.fd)
            if start < size < end - 1:
                disk.truncate(self.fd, start)
        except OSError as other:
            log.warning("%s: an unfinished line stays behind offset %d (%s)", self.path, start, other)
            return False
        return size == end - 1 and isinstance(error, OSError)

    def seal(self) -> None:
        """Write the last line."""
        tail = self.append(lines.seal_body(self.summary()))
        self.sealed = True
        self.tail = tail

    def sync(self, length: int) -> None:
        """Make everything before `length`, which was read or written, survive a power cut; for threads.

        Raises `OSError` for whoever asks once a sync has failed. One thread after the other: the kernel reports a failed
        write once to each open file, calls the lost pages clean, and the next sync of this descriptor would succeed.
        Whoever had to wait mostly finds that the one before has synced his lines as well.
        """
        try:
            self._take_turn()
            if self._synced < length:
                self._sync_alone()
        finally:
            with suppress(RuntimeError):  # it was never ours
                self._syncing.release()

    def _take_turn(self) -> None:
        # Reentrant and not for ever: a signal handler may have interrupted this very thread in a sync, to write or close;
        # and it may wait for another thread, which waits here.
        if not self._syncing.acquire(True, _TURN_S):
            raise OSError(errno.ETIMEDOUT, "another thread's sync of it does not end", self.path)

    def _sync_alone(self) -> None:
        if self._broken:
            raise OSError(errno.EIO, _FAILED_BEFORE, self.path)
        reached = self.tail.length
        try:
            disk.sync_data(self.fd)
        except OSError:
            self._broken = True
            raise
        if self._broken:  # it was a signal handler of this thread that was told
            raise OSError(errno.EIO, _FAILED_BEFORE, self.path)
        self._synced = max(self._synced, reached)

    def mark_synced(self, length: int) -> None:
        """Everything before `length` is on the disk."""
        if length > self.tail.synced:
            self.tail = self.tail._replace(synced=length)

    def pin(self) -> int:
        """Keep the descriptor open for one more user, and give it."""
        self._users += 1
        return self.fd

    def unpin(self) -> None:
        """One user less; the last one closes the file."""
        self._users -= 1
        if self._users == 0:
            self.abandon()

    def __del__(self) -> None:
        # After an error in the constructor, or an interrupt between a `pin` and its `unpin`.
        with suppress(OSError):
            self.abandon()

    def abandon(self) -> None:
        """Close the file whoever uses it: they are threads of the parent of this forked child."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            disk.close(fd)
