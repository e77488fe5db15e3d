"""What is left of a segment that may be damaged anywhere: its valid lines, and where between them something is missing.

Invariants:

- A line counts only with a right CRC at its place, or at the place where it was written if it was moved (`moved`): then it
  counts there, once. Where the first line, which names the salt, is damaged, the salt is
  computed from lines behind it, and used only if two of them agree on it (or one, and the first line's text).
- The file is read in blocks, twice: to learn what is wrong, and to hand out what is right.

It writes nothing, and decides nothing: what a gap means for the records is asked one floor up (`salvage`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import fold, framing, lines
from manifestlog.engines.filelog.log.framing import Piece
from manifestlog.engines.filelog.log.lines import LogEntry, SegmentHeader, Summary
from manifestlog.engines.filelog.log.moved import Search
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = re.compile(rb'(\{"op":"[a-z]+",.*),"crc":"([0-9a-f]{8})"\}')
_SALT = re.compile(rb'"salt":"([0-9a-f]{8})"')
_KEY = re.compile(rb'"checksum":"([0-9a-f]{64})"')
_OF_OTHERS = (b'"record', b'"checksum"', b'"metadata"', b'"seconds"', b'"ts":')
_OPENING_BYTES_MAX = 400
_LINES_ASKED = 64
_LINES_SHIFTED = 8
_SHIFT_MAX = 4096
"""How far all lines of a segment may have been moved, with its first line gone: more than that one takes."""
_NAMED_MAX = 1000


@dataclass(slots=True)
class Salvaged:
    """A segment file as it was found. `number` is its own word where its first line can be read, else its name's."""

    path: str
    number: int
    size: int
    opening: SegmentHeader | None
    salt: int | None
    bases: fold.Bases = ()
    damage: list[Piece] = field(default_factory=list)
    named: dict[int, list[str]] = field(default_factory=dict)
    """Checksums that can be read in a damaged stretch, by its offset; nothing vouches for them."""
    moved: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Lines that were moved: by where they were written, where they stand and how long they are."""
    gaps: list[Piece] = field(default_factory=list)
    """Where lines were moved: the places at which others were written that are nowhere."""
    lines: int = 0
    end: int = 0
    chain: int = 0
    synced: int = 0
    next: int | None = None
    torn_at: int | None = None

    @property
    def missing(self) -> list[Piece]:
        """Where something that was written there cannot be read any more, anywhere."""
        return self.gaps if self.moved else self.damage

    @property
    def summary(self) -> Summary:
        """What its valid lines come to."""
        return lines.summarise(self.number, self.end, self.lines, self.chain, self.damage)


def read(path: str, number: int) -> Salvaged:
    """Look at the segment file of this number.

    Raises `NewerFormatError` for one that this version does not understand.
    """
    fd = disk.open_read(path)
    try:
        size = disk.size(fd)
        first = disk.read(fd, disk.BLOCK_BYTES, 0).partition(b"\n")[0]
        opening = lines.decode_header(first, path)
        salt = opening.salt if opening else _recovered_salt(fd, size, first)
        found = Salvaged(path, opening.segment if opening else number, size, opening, salt)
        if opening is not None:
            found.bases = opening.bases
        if salt is None:
            found.damage = [Piece(0, size, None)]
            found.named[0] = _named(fd, 0, size)
        else:
            _look(fd, found, salt)
    finally:
        disk.close(fd)
    return found


def _look(fd: int, found: Salvaged, salt: int) -> None:
    position = 0
    search = Search(fd, salt)
    for piece in framing.pieces(disk.blocks(fd, 0, found.size), salt):
        position = piece.end
        op = None if piece.line is None else decoded(piece.line)
        if op is None:
            found.damage.append(piece)
            found.named[piece.offset] = _named(fd, piece.offset, piece.end)
            _take_moved(found, search, piece.offset, piece.end)
        else:
            assert piece.line is not None
            _count(found, piece.line, piece.end, op)
    if position < found.size and not _take_moved(found, search, position, found.size):
        found.torn_at = position
    if found.moved:
        _count_in_order(fd, found)
    if found.next is None and found.damage and is_seal(found, found.damage[-1], None):
        found.next = found.number + 1  # damaged as it is, it tells that there was a next one


def _take_moved(found: Salvaged, search: Search, start: int, end: int) -> bool:
    before = len(found.moved)
    for moved in search.lost_within(start, end):
        if decoded(moved.line) is not None:
            found.moved.setdefault(moved.origin, (moved.place, len(moved.line)))
    return len(found.moved) > before


def _count(found: Salvaged, line: bytes, end: int, op: LogEntry) -> None:
    found.lines, found.end = found.lines + 1, end
    found.chain = crc32(checksums.line_crc(line), found.chain)
    _note(found, op)


def _count_in_order(fd: int, found: Salvaged) -> None:
    """Count the lines anew as they were written, and what is missing between them."""
    found.lines = found.end = found.chain = found.synced = 0
    found.next = None
    found.bases = found.opening.bases if found.opening is not None else ()
    there: set[str] = set()
    for origin, line in _in_order(fd, found):
        op = decoded(line)
        if op is None or origin < found.end:
            continue
        if origin > found.end:
            found.gaps.append(Piece(found.end, origin, None))
        if origin == 0 and found.opening is None:
            _open(found, line)
        _count(found, line, origin + len(line) + 1, op)
        there.update(checksum for checksum in _checksums(op) if origin in found.moved)
    found.damage = framing.with_damage([], found.damage)
    named = [checksum for each in found.named.values() for checksum in each if checksum not in there]
    found.named = {found.gaps[0].offset: named} if found.gaps else {}


def _open(found: Salvaged, line: bytes) -> None:
    """Take the first line over, which stands elsewhere."""
    opening = lines.decode_header(line, found.path)
    if opening is not None:
        found.opening, found.number, found.bases = opening, opening.segment, opening.bases


def _checksums(op: LogEntry) -> list[str]:
    """Of which records a line speaks."""
    return [op.data["checksum"]] if op.kind == "forget" else [checksum for _, checksum, _ in op.puts]


def _in_order(fd: int, found: Salvaged) -> Iterator[tuple[int, bytes]]:
    """Every intact line with the place where it was written, in that order."""
    assert found.salt is not None
    placed = (
        (piece.offset, piece.line)
        for piece in framing.pieces(disk.blocks(fd, 0, found.size), found.salt)
        if piece.line is not None
    )
    moved = ((origin, disk.read(fd, length, place)) for origin, (place, length) in sorted(found.moved.items()))
    return merge(placed, moved, key=itemgetter(0))


def _note(found: Salvaged, op: LogEntry) -> None:
    found.synced = max(found.synced, op.data.get("synced", 0))
    found.bases = fold.after(found.bases, op)
    if op.kind == "seal":
        found.next = found.number + 1


def decoded(line: bytes) -> LogEntry | None:
    """What an intact line says; None when it says nothing known."""
    usual = lines.usual_put(line)
    if usual is not None:
        return usual
    try:
        return LogEntry("open", "", [], {}) if line.startswith(b'{"op":"open"') else lines.decode(line)
    except (ValueError, KeyError, TypeError):
        return None


def ops(found: Salvaged) -> Iterator[LogEntry]:
    """Every valid line, in the order in which they were written."""
    if found.salt is None:
        return
    fd = disk.open_read(found.path)
    try:
        for _, line in _in_order(fd, found):
            op = decoded(line)
            if op is not None:
                yield op
    finally:
        disk.close(fd)


def _named(fd: int, start: int, end: int) -> list[str]:
    text = disk.read(fd, min(end - start, disk.BLOCK_BYTES), start)
    return [found.decode() for found in dict.fromkeys(_KEY.findall(text))][:_NAMED_MAX]


def is_opening(found: Salvaged, piece: Piece, declared: Summary | None) -> bool:
    """Whether this damaged stretch is the segment's first line and nothing more: by the count of lines, or by its text."""
    if piece.offset != 0:
        return False
    if declared is not None and declared.lines == found.lines + 1:
        return True
    fd = disk.open_read(found.path)
    try:
        text = disk.read(fd, piece.end, 0)
    finally:
        disk.close(fd)
    ours = text.startswith(b'{"op":"open"') or _SALT.search(text) is not None or b'"bases":[' in text
    # A newline that was hit makes two lines one: then it is too long, or something of the second line is left.
    alone = b"\n" not in text[:-1] and not any(word in text for word in _OF_OTHERS)
    return ours and alone and len(text) <= _OPENING_BYTES_MAX and text.count(b'"op":"') <= 1


def is_seal(found: Salvaged, piece: Piece, declared: Summary | None) -> bool:
    """Whether this damaged stretch is the segment's last line, which holds no record: what it was can be computed."""
    if found.salt is None or piece.offset != found.end or piece.end != found.size:
        return False
    line = checksums.seal_line(lines.seal_body(found.summary), found.salt, found.end)
    if declared is None:
        return len(line) == piece.end - piece.offset
    chain = checksums.hex_crc(crc32(checksums.line_crc(line[:-1]), found.chain))
    return declared == Summary(found.number, found.end + len(line), found.lines + 1, chain)


def harmless(segment: Salvaged, piece: Piece, declared: Summary | None) -> str | None:
    """Why one of the stretches that are `missing` held nothing that counts; None when it may have."""
    if declared is not None and piece.offset >= declared.length:
        return "behind the segment's end, fenced off by the next one"
    if declared is not None and declared.synced is not None and piece.offset >= declared.synced:
        return "behind a sync that failed, never acknowledged"
    if segment.salt is not None and is_opening(segment, piece, declared):
        return "the segment's first line, which holds no record"
    if is_seal(segment, piece, declared):
        return "the segment's last line, which holds no record"
    return None


# -- the salt ----------------------------------------------------------------------------------------------------------


def _recovered_salt(fd: int, size: int, first: bytes) -> int | None:
    """The salt of a segment whose first line is damaged or elsewhere: what its other lines were written with."""
    asked: Counter[int] = Counter()
    text = _SALT.search(first)
    if text is not None:
        asked[int(text[1], 16)] += 1
    keys: list[tuple[int, int]] = []
    start, rest = 0, b""
    for block in disk.blocks(fd, 0, size):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            found = _LINE.search(line)
            if found is not None:
                stated = _stated_salt(found[0])
                if stated is not None:
                    return stated
                asked[_salt_of(found[1], found[2], start + found.start())] += 1
                keys.append((start + found.start(), checksums.written_at(found[0], 0)))
            start += len(line) + 1
        if asked.total() > _LINES_ASKED:
            break
    salt, votes = asked.most_common(1)[0] if asked else (0, 0)
    shifted, agreeing = _salt_of_shifted(keys[:_LINES_SHIFTED])
    if agreeing > sum(salt == key ^ place for place, key in keys[:_LINES_SHIFTED]):
        return shifted
    return salt if votes > 1 else None


def _stated_salt(line: bytes) -> int | None:
    """The salt in a first line that is intact, wherever it stands."""
    text = _SALT.search(line) if line.startswith(b'{"op":"open"') else None
    return int(text[1], 16) if text is not None and checksums.line_is_intact(line, int(text[1], 16), 0) else None


def _salt_of_shifted(keys: list[tuple[int, int]]) -> tuple[int, int]:
    """The salt of lines that were all moved by the same number of bytes, and how many say so; none or two at the least.

    Some two lines agree on a wrong number, as offsets go into a CRC by an exclusive or; all of several do not.
    """
    best, most = 0, 1
    for shift in range(-_SHIFT_MAX, _SHIFT_MAX):
        asked = Counter(key ^ place + shift for place, key in keys if place + shift > 0)
        salt, votes = asked.most_common(1)[0] if asked else (0, 0)
        if votes > most:
            best, most = salt, votes
    return (best, most) if most > 1 else (0, 0)


def _salt_of(body: bytes, crc: bytes, offset: int) -> int:
    """The salt with which a line of this body and CRC was written at this offset, if it is whole."""
    return checksums.unwound(checksums.unwound(int(crc, 16), body), offset.to_bytes(8, "little"))
