"""Spans: reads the lines of every segment in order, wherever it is: live, kept in the history, or packed.

Invariants:

- Each line comes once, in log order or in reverse, also while a compaction moves or packs segments.
- Only the valid part of a segment is read: its successor says where that ends, or, for the active segment, the caller.
- Bytes of a pack are checked, and those of a live segment were when its reader replayed it; others are not (`Span.checked`).

It does not know what a line means (`reading`).
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.history.pack import Kept, Pack
from manifestlog.engines.filelog.log import fold, framing, lines
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.names import ManifestPaths

_SPAN_BYTES = 256 << 10
_HEADER_BYTES_MAX = 1 << 20
_CRC_END_BYTES = len(b'00000000"}\n')


class Span(NamedTuple):
    """Whole lines of a segment."""

    segment: Kept
    start: int
    data: bytes
    checked: bool


class End(NamedTuple):
    """Where the log ends, as its reader knows it: the active segment and its valid length."""

    segment: int
    length: int


class Listing(NamedTuple):
    """Which segments are there, and where."""

    files: dict[int, str]
    packs: list[tuple[int, int]]
    """First and last segment of each pack, without packs that a larger one replaces."""

    @property
    def numbers(self) -> list[int]:
        packed = {number for first, last in self.packs for number in range(first, last + 1)}
        return sorted(packed | set(self.files))

    def pack_of(self, number: int) -> tuple[int, int] | None:
        """Return the pack that holds this segment, or None."""
        return next((pack for pack in self.packs if pack[0] <= number <= pack[1]), None)


def listing(paths: ManifestPaths) -> Listing:
    """List the segments: first the live ones, then the history, because segments only move that way."""
    live = {number: paths.segment(number) for number in paths.segment_numbers(_names(paths.directory))}
    names = _names(paths.history)
    ranges = paths.pack_ranges(names)
    largest = [a for a in ranges if not any(b[0] <= a[0] and a[1] <= b[1] and a != b for b in ranges)]
    found = Listing({}, largest)
    kept = {n: paths.kept_segment(n) for n in paths.segment_numbers(names) if found.pack_of(n) is None}
    return Listing(kept | live, largest)


def _names(directory: str) -> list[str]:
    with suppress(FileNotFoundError):
        return disk.list_names(directory)
    return []


def header(fd: int, path: str, manifest: str, ts_created: str | None, number: int) -> Kept:
    """Return what a segment file's first line says, with the file's length.

    Raises `DamagedManifestError`, also for another manifest's segment; without `ts_created`, only the names tell.
    """
    first, newline, _ = disk.read(fd, min(_HEADER_BYTES_MAX, disk.size(fd)), 0).partition(b"\n")
    opening = lines.decode_header(first, path)
    if opening is None or not newline:
        raise DamagedManifestError(path, 0, "the segment's first line is damaged")
    if (opening.manifest, opening.ts_created, opening.segment) != (manifest, ts_created or opening.ts_created, number):
        whose = f"another manifest, {opening.manifest!r}, created at {opening.ts_created}"
        raise DamagedManifestError(path, 0, f"this is segment {opening.segment} of {whose}")
    return kept_of(opening, disk.size(fd))


def kept_of(opening: lines.SegmentHeader, length: int) -> Kept:
    """Return a segment with what its first line says."""
    anew = fold.begins_anew(opening)
    return Kept(opening.segment, opening.salt, opening.format, opening.previous, anew, length)


class Segments:
    """The segments of one manifest up to an end."""

    def __init__(self, paths: ManifestPaths, ts_created: str, end: End | None) -> None:
        self._paths = paths
        self._ts_created = ts_created
        self._end = end
        self._listing = listing(paths)
        self._packs: dict[tuple[int, int], Pack] = {}
        self._kept: dict[int, Kept] = {}

    @property
    def numbers(self) -> list[int]:
        """The numbers of all segments up to the end, in order."""
        return [n for n in self._listing.numbers if self._end is None or n <= self._end.segment]

    def opening(self, number: int) -> Kept:
        """Return what a segment's first line says; raises `DamagedManifestError` if it is damaged or missing."""
        if number not in self._kept:
            with self._opened(number) as found:
                if isinstance(found, Pack):
                    self._kept |= {one.number: one for one in found.segments}
                else:
                    self._kept[number] = header(
                        found, self._listing.files[number], self._paths.name, self._ts_created, number
                    )
        return self._kept[number]

    def segment(self, number: int) -> Kept:
        """Return a segment with the length of its valid part."""
        found = self.opening(number)
        return found._replace(length=self._valid_length(number, found.length))

    def _valid_length(self, number: int, length: int) -> int:
        if self._end is not None and number == self._end.segment:
            return self._end.length
        if number + 1 in self.numbers:
            previous = self.opening(number + 1).previous
            if previous is not None and previous.segment == number:
                return min(length, previous.length)
        return length

    @contextmanager
    def _opened(self, number: int) -> Iterator[Pack | int]:
        """Open the pack or the file that holds a segment. A compaction may move it meanwhile: then look again."""
        while True:
            path = self._listing.files.get(number)
            with suppress(FileNotFoundError):
                found = self._pack_of(number) if path is None else disk.open_read(path)
                break
            self._relist(number)
        try:
            yield found
        finally:
            if not isinstance(found, Pack):
                disk.close(found)

    def _pack_of(self, number: int) -> Pack:
        found = self._listing.pack_of(number)
        if found is None:
            raise FileNotFoundError
        if found not in self._packs:
            opened = Pack(self._paths.pack(*found))
            opened.refuse_foreign(self._paths.name, self._ts_created, found)
            self._packs[found] = opened
        return self._packs[found]

    def _relist(self, number: int) -> None:
        self._listing = listing(self._paths)
        if number not in self._listing.files and self._listing.pack_of(number) is None:
            path = self._paths.kept_segment(number)
            raise DamagedManifestError(path, 0, f"segment {number} is missing from the history")

    # -- reading -------------------------------------------------------------------------------------------------------

    def spans(self, first: int = 0, offset: int = 0, key: bytes | None = None) -> Iterator[Span]:
        """Yield the lines from this position on; with `key`, without blocks of packs that do not mention it."""
        for number in self.numbers:
            if number >= first:
                yield from self.of(number, offset if number == first else 0, key)

    def of(self, number: int, offset: int = 0, key: bytes | None = None) -> Iterator[Span]:
        """Yield the lines of one segment from this offset on."""
        with self._opened(number) as found:
            if isinstance(found, Pack):
                yield from self._packed(found, number, offset, key)
            else:
                yield from _forward(found, self.segment(number), offset, live=self._is_live(number))

    def crc_before(self, number: int, offset: int) -> str:
        """Return the CRC digits of the line that ends at this offset; other text if none does."""
        for span in self.of(number, max(0, offset - _CRC_END_BYTES)):
            return _digits(span.data[: max(0, offset - span.start)].removesuffix(b"\n"))
        return ""

    def crc_after(self, number: int, offset: int) -> str:
        """Return the CRC digits of the line that begins at this offset; other text if none does."""
        for span in self.of(number, offset):
            return _digits(span.data[offset - span.start :].partition(b"\n")[0])
        return ""

    def verify(self, number: int) -> None:
        """Compare a segment file with what its successor states; raises `DamagedManifestError` if it differs.

        Damage among its lines is fine if it was there when the segment was closed: then the successor states it.
        """
        with self._opened(number) as found:
            if isinstance(found, Pack) or number + 1 not in self.numbers:
                return
            declared = self.opening(number + 1).previous
            if declared is not None and declared.segment == number:
                self._compare(found, number, declared)

    def _compare(self, fd: int, number: int, declared: lines.Summary) -> None:
        damage: list[framing.Piece] = []
        length = count = chain = 0
        for piece in framing.pieces(disk.blocks(fd, 0, declared.length), self.opening(number).salt):
            if piece.line is None:
                damage = framing.with_damage(damage, [piece])
            else:
                length, count = piece.end, count + 1
                chain = crc32(checksums.line_crc(piece.line), chain)
        found = lines.summarise(number, length, count, chain, damage)
        if not lines.matches(declared, found, damage):
            offset = damage[0].offset if damage else length
            reason = f"segment {number} of the history is not what was written"
            raise DamagedManifestError(self._listing.files[number], offset, reason)

    def spans_back(self, key: bytes | None = None) -> Iterator[Span]:
        """Yield the spans of all lines, the last first."""
        for number in reversed(self.numbers):
            with self._opened(number) as found:
                if isinstance(found, Pack):
                    yield from self._packed(found, number, 0, key, reverse=True)
                else:
                    yield from _backward(found, self.segment(number), live=self._is_live(number))

    def _is_live(self, number: int) -> bool:
        return self._listing.files.get(number) == self._paths.segment(number)

    def _packed(
        self, pack: Pack, number: int, begin: int, key: bytes | None, *, reverse: bool = False
    ) -> Iterator[Span]:
        kept = self.opening(number)
        blocks = pack.of_segment[number]
        if key is not None:
            wanted = set(pack.keys.blocks(key))
            blocks = [block for block in blocks if block in wanted]
        for block in reversed(blocks) if reverse else blocks:
            pieces = [piece for piece in pack.pieces(block) if piece.segment == number]
            for piece in reversed(pieces) if reverse else pieces:
                if piece.start + len(piece.data) > begin:
                    yield Span(kept, piece.start, piece.data, checked=True)


def crc_at_end(fd: int, length: int) -> str:
    """Return the CRC digits of the last line of a segment file with this valid length."""
    start = max(0, length - _CRC_END_BYTES)
    return _digits(disk.read(fd, length - start, start).removesuffix(b"\n"))


def _digits(line: bytes) -> str:
    return checksums.line_crc(line).decode("ascii", "replace")


def _forward(fd: int, kept: Kept, offset: int, *, live: bool) -> Iterator[Span]:
    position = offset
    count = _SPAN_BYTES
    while position < kept.length:
        data = disk.read(fd, min(count, kept.length - position), position)
        whole = len(data) if position + len(data) >= kept.length else data.rfind(b"\n") + 1
        if not data:
            return
        if not whole:
            count *= 2  # a line that is longer than this
            continue
        yield Span(kept, position, data[:whole], checked=live)
        position += whole
        count = _SPAN_BYTES


def _backward(fd: int, kept: Kept, *, live: bool) -> Iterator[Span]:
    end = kept.length
    count = _SPAN_BYTES
    while end > 0:
        start = max(0, end - count)
        data = disk.read(fd, end - start, start)
        first = 0 if start == 0 else data.find(b"\n", 0, len(data) - 1) + 1
        if start and not first:
            count *= 2
            continue
        yield Span(kept, start + first, data[first:], checked=live)
        end = start + first
        count = _SPAN_BYTES
