"""Reads the lines of every segment in order, wherever the segment is: live, kept in the history, or packed.

Invariants:

- Each line comes once, in log order or in reverse, even while a compaction moves or packs segments.
- Only the valid part of a segment is read: its successor, or for the active segment the caller, says where it ends.
- The bytes of a pack are checked, and the bytes of a live segment were checked when its reader replayed it; others are
  not (`Span.checked`).

It does not know what a line means (`reading`).
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.history.listing import Listing
from manifestlog.engines.filelog.history.pack import Kept, Pack, Piece
from manifestlog.engines.filelog.log import fold, framing, lines
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.names import ManifestPaths

_LOOKS = 3
_SPAN_BYTES = 256 << 10
_HEADER_BYTES_MAX = 1 << 20
_CRC_END_BYTES = len(b'00000000"}\n')


class Span(NamedTuple):
    """Whole lines of a segment."""

    segment: Kept
    start: int
    data: bytes
    checked: bool
    packed: bool = False
    """Whether these are valid lines only, as a pack holds them."""


class Wanted(NamedTuple):
    """What a reader looks for, for packs to leave out blocks with nothing of it."""

    keys: tuple[bytes, ...] | None = None
    """Keys of packs: blocks that mention none of them are left out. None: no block is."""
    since: str = ""
    until: str = "~"


ALL = Wanted()


class SegmentCutError(LookupError):
    """A compaction has cut this segment off the history while it was being read. Never leaves the engine."""


class End(NamedTuple):
    """Where the log ends, as its reader knows it: the active segment and its valid length."""

    segment: int
    length: int


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


class Tally:
    """What was read of a segment so far, for its comparison with what the next segment states."""

    def __init__(self) -> None:
        self.length = self.lines = self.chain = 0
        self.damage: list[framing.Piece] = []

    def add(self, piece: framing.Piece) -> None:
        """Add the next line or damaged range."""
        if piece.line is None:
            self.damage = framing.with_damage(self.damage, [piece])
        else:
            self.length, self.lines = piece.end, self.lines + 1
            self.chain = crc32(checksums.line_crc(piece.line), self.chain)


class Segments:
    """The segments of one manifest up to an end."""

    def __init__(self, paths: ManifestPaths, ts_created: str, end: End | None) -> None:
        self._paths = paths
        self._ts_created = ts_created
        self._end = end
        self._listing = Listing.of(paths)
        self._packs: dict[tuple[int, int], Pack] = {}
        self._kept: dict[int, Kept] = {}

    def has(self, number: int) -> bool:
        """Return whether this segment is there, and not after the end."""
        return self._listing.has(number) and (self._end is None or number <= self._end.segment)

    @property
    def units(self) -> list[tuple[int, int]]:
        """The first and last segment of each pack and of each file, in order, up to the end."""
        return [unit for unit in self._listing.units() if self._end is None or unit[0] <= self._end.segment]

    def opening(self, number: int) -> Kept:
        """Return what a segment's first line says; raises `DamagedManifestError` if it is damaged or missing."""
        if number not in self._kept:
            with self._opened(number) as found:
                if isinstance(found, Pack):
                    return found.kept[number]
                path = self._listing.files[number]
                self._kept[number] = header(found, path, self._paths.name, self._ts_created, number)
        return self._kept[number]

    def segment(self, number: int) -> Kept:
        """Return a segment with the length of its valid part."""
        found = self.opening(number)
        return found._replace(length=self._valid_length(number, found.length))

    def _valid_length(self, number: int, length: int) -> int:
        if self._end is not None and number == self._end.segment:
            return self._end.length
        if self.has(number + 1):
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
                found = self._pack_of(number) if path is None else history_folder.open_file(path)
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
        self._listing = Listing.of(self._paths)
        if not self._listing.has(number):
            if self._listing.units()[:1] > [(number, number)]:
                raise SegmentCutError(number)
            path = self._paths.kept_segment(number)
            raise DamagedManifestError(path, 0, f"segment {number} is missing from the history")

    # -- reading -------------------------------------------------------------------------------------------------------

    def spans(self, first: int = 0, offset: int = 0, wanted: Wanted = ALL) -> Iterator[Span]:
        """Yield the lines from this position on, without blocks of packs with nothing that is wanted."""
        for unit in self._without_gaps(first):
            with self._opened(max(first, unit[0])) as found:
                if isinstance(found, Pack):
                    yield from self._packed(found, unit, (first, offset), wanted)
                else:
                    yield from self._of_file(found, unit[0], offset if unit[0] == first else 0)

    def _without_gaps(self, first: int, *, back: bool = False) -> Iterator[tuple[int, int]]:
        """Yield the units from this segment on; raise `DamagedManifestError` where segments between two are missing."""
        units = [unit for unit in self.units if unit[1] >= first]
        for _ in range(_LOOKS):  # a list that was made beside a packing may lack what was renamed meanwhile
            if not list(self._gaps(units)):
                break
            self._listing = Listing.of(self._paths)
            units = [unit for unit in self.units if unit[1] >= first]
        behind = {gap[1]: gap for gap in self._gaps(units)}
        for unit in reversed(units) if back else units:
            if not back and (gap := behind.get(unit[0] - 1)):
                self._refuse_gap(*gap)
            yield unit
            if back and (gap := behind.get(unit[0] - 1)):
                self._refuse_gap(*gap)

    def _gaps(self, units: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for (_, last), (begin, _) in pairwise(units):
            if begin > last + 1:
                yield last + 1, begin - 1

    def _refuse_gap(self, first: int, last: int) -> None:
        if not self.opening(last + 1).anew:  # a repair has said so
            many = f"segment {first} is" if first == last else f"segments {first} to {last} are"
            raise DamagedManifestError(self._paths.kept_segment(first), 0, f"{many} missing from the history")

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

    def spans_back(self, first: int = 0, wanted: Wanted = ALL) -> Iterator[Span]:
        """Yield the spans of all lines from this segment on, the last first."""
        for unit in self._without_gaps(first, back=True):
            with self._opened(unit[0]) as found:
                if isinstance(found, Pack):
                    yield from self._packed_back(found, unit, wanted)
                else:
                    yield from _backward(found, self.segment(unit[0]), live=self._is_live(unit[0]))

    def of(self, number: int, offset: int = 0) -> Iterator[Span]:
        """Yield the lines of one segment, from this offset on."""
        with self._opened(number) as found:
            if isinstance(found, Pack):
                yield from self._packed(found, (number, number), (number, offset), ALL)
            else:
                yield from self._of_file(found, number, offset)

    # A file that was listed alone may be in a pack by now, with others that are read at their own turn.

    def _packed(self, pack: Pack, unit: tuple[int, int], begin: tuple[int, int], wanted: Wanted) -> Iterator[Span]:
        for block in _blocks(pack, unit, wanted):
            for piece in pack.pieces(block):
                if (piece.segment, piece.start + len(piece.data)) > begin:
                    yield from self._piece(pack, unit, piece)

    def _packed_back(self, pack: Pack, unit: tuple[int, int], wanted: Wanted) -> Iterator[Span]:
        for block in reversed(_blocks(pack, unit, wanted)):
            for piece in reversed(pack.pieces(block)):
                yield from self._piece(pack, unit, piece)

    def _piece(self, pack: Pack, unit: tuple[int, int], piece: Piece) -> Iterator[Span]:
        """Yield the lines of a piece, if it belongs to these segments, up to the end."""
        data = piece.data
        if self._end is not None and piece.segment == self._end.segment:
            data = data[: max(0, self._end.length - piece.start)]
        if data and unit[0] <= piece.segment <= unit[1]:
            yield Span(pack.kept[piece.segment], piece.start, data, checked=True, packed=True)

    def _of_file(self, fd: int, number: int, offset: int) -> Iterator[Span]:
        return _forward(fd, self.segment(number), offset, live=self._is_live(number))

    def verify(self, number: int) -> None:
        """Compare a segment file with what its successor states; raises `DamagedManifestError` if it differs."""
        tally = Tally()
        with self._opened(number) as found:
            if not isinstance(found, Pack):
                end = self.segment(number).length
                for piece in framing.pieces(disk.blocks(found, 0, end), self.opening(number).salt):
                    tally.add(piece)
                self.confirm(number, tally)

    def confirm(self, number: int, tally: Tally) -> None:
        """Raise `DamagedManifestError` if the lines of a segment are not what its successor states.

        Damage among them is fine if it was there when the segment was closed: then the successor states it.
        """
        declared = self.opening(number + 1).previous if self.has(number + 1) else None
        if declared is None or declared.segment != number:
            return
        found = lines.summarise(number, tally.length, tally.lines, tally.chain, tally.damage)
        if not lines.matches(declared, found, tally.damage):
            offset = tally.damage[0].offset if tally.damage else tally.length
            path = self._listing.files.get(number, self._paths.kept_segment(number))
            raise DamagedManifestError(path, offset, f"segment {number} of the history is not what was written")

    def _is_live(self, number: int) -> bool:
        return self._listing.files.get(number) == self._paths.segment(number)


def _blocks(pack: Pack, unit: tuple[int, int], wanted: Wanted) -> list[int]:
    """Return the blocks with lines of these segments, first and last, that may hold something that is wanted."""
    some: Iterable[int] = range(len(pack.blocks))
    if wanted.keys is not None:
        some = sorted({number for key in wanted.keys for number in pack.keys.blocks(key)})
    found = []
    for number in some:
        block = pack.blocks[number]
        in_time = block.last_ts >= wanted.since and block.first_ts <= wanted.until
        if in_time and block.parts[0].segment <= unit[1] and block.parts[-1].segment >= unit[0]:
            found.append(number)
    return found


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
