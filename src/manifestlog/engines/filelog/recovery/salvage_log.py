"""Salvages a damaged segment: finds its valid lines, and the ranges between them where lines are missing.

Invariants:

- A line counts only with a correct CRC at its offset. A moved line (`moved`) counts once, at its original offset.
- If the first line, which names the salt, is damaged, the salt is computed from later lines. It is used only if two of
  them agree on it, or one and the text of the first line.
- The file is read twice, in blocks: once to find damage, once to yield the valid lines.

It writes nothing and makes no decisions; `reconcile` decides what a gap means for the records.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog import progress
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
"""How many bytes all lines of a segment may have moved after its first line was removed: more than that line takes."""
_NAMED_MAX = 1000


@dataclass(slots=True)
class Salvaged:
    """A segment file as it was found. `number` comes from its first line if that is readable, else from its name."""

    path: str
    number: int
    size: int
    opening: SegmentHeader | None
    salt: int | None
    bases: fold.CanonicalIds = ()
    damage: list[Piece] = field(default_factory=list)
    named: dict[int, list[str]] = field(default_factory=dict)
    """Checksums that are readable in a damaged range, by its offset; no CRC protects them."""
    moved: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Moved lines: their present offset and length in bytes, by their original offset."""
    gaps: list[Piece] = field(default_factory=list)
    """If lines were moved: the ranges whose original lines are nowhere in the file."""
    lines: int = 0
    end: int = 0
    chain: int = 0
    synced: int = 0
    next: int | None = None
    torn_at: int | None = None

    @property
    def missing(self) -> list[Piece]:
        """The ranges whose original lines cannot be read, here or elsewhere in the file."""
        return self.gaps if self.moved else self.damage

    @property
    def summary(self) -> Summary:
        """The summary of its valid lines."""
        return lines.summarise(self.number, self.end, self.lines, self.chain, self.damage)


def read(path: str, number: int) -> Salvaged:
    """Read the segment file with this number.

    Raises `NewerFormatError` for a segment in a newer format.
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
            _read_lines(fd, found, salt)
    finally:
        disk.close(fd)
    return found


def _read_lines(fd: int, found: Salvaged, salt: int) -> None:
    position = 0
    search = Search(fd, salt)
    for piece in framing.pieces(progress.over(disk.blocks(fd, 0, found.size), found.path, found.size), salt):
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
        found.next = found.number + 1  # even a damaged seal shows that a next segment existed


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
    """Count the lines again in their original order, and find the gaps between them."""
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
    """Use a moved first line as the segment's header."""
    opening = lines.decode_header(line, found.path)
    if opening is not None:
        found.opening, found.number, found.bases = opening, opening.segment, opening.bases


def _checksums(op: LogEntry) -> list[str]:
    """Return the checksums of the records that a line names."""
    return [*lines.forgotten(op), *(checksum for _, checksum, _ in op.puts)]


def _in_order(fd: int, found: Salvaged) -> Iterator[tuple[int, bytes]]:
    """Yield every intact line with its original offset, in that order."""
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
    """Decode an intact line; return None if its content is not valid."""
    usual = lines.usual_put(line)
    if usual is not None:
        return usual
    try:
        return LogEntry("open", "", [], {}) if line.startswith(b'{"op":"open"') else lines.decode(line)
    except (ValueError, KeyError, TypeError):
        return None


def ops(found: Salvaged) -> Iterator[LogEntry]:
    """Yield every valid line in the original order."""
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
    """Return whether this damaged range is exactly the segment's first line, by the number of lines or by its text."""
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
    # A damaged newline joins two lines: then the text is too long, or contains a part of the second line.
    alone = b"\n" not in text[:-1] and not any(word in text for word in _OF_OTHERS)
    return ours and alone and len(text) <= _OPENING_BYTES_MAX and text.count(b'"op":"') <= 1


def is_seal(found: Salvaged, piece: Piece, declared: Summary | None) -> bool:
    """Return whether this damaged range is exactly the segment's seal, whose bytes can be computed."""
    if found.salt is None or piece.offset != found.end or piece.end != found.size:
        return False
    line = checksums.seal_line(lines.seal_body(found.summary), found.salt, found.end)
    if declared is None:
        return len(line) == piece.end - piece.offset
    chain = checksums.hex_crc(crc32(checksums.line_crc(line[:-1]), found.chain))
    return declared == Summary(found.number, found.end + len(line), found.lines + 1, chain)


def harmless(segment: Salvaged, piece: Piece, declared: Summary | None) -> str | None:
    """Return why one of the `missing` ranges held no record that counts; None if it may have held one."""
    if declared is not None and piece.offset >= declared.length:
        return "after the segment's end, which the next segment fenced off"
    if declared is not None and declared.synced is not None and piece.offset >= declared.synced:
        return "after a failed sync; never acknowledged"
    if segment.salt is not None and is_opening(segment, piece, declared):
        return "the segment's first line, which holds no record"
    if is_seal(segment, piece, declared):
        return "the segment's last line, which holds no record"
    return None


# -- the salt ----------------------------------------------------------------------------------------------------------


def _recovered_salt(fd: int, size: int, first: bytes) -> int | None:
    """Return the salt of a segment whose first line is damaged or moved, computed from its other lines."""
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
    """Return the salt in an intact first line, at any offset."""
    text = _SALT.search(line) if line.startswith(b'{"op":"open"') else None
    return int(text[1], 16) if text is not None and checksums.line_is_intact(line, int(text[1], 16), 0) else None


def _salt_of_shifted(keys: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the salt of lines that all moved by the same number of bytes, and how many lines agree: 0, or at least 2.

    Two lines may agree on a wrong salt, because a CRC combines the offset by exclusive or; several lines do not.
    """
    best, most = 0, 1
    for shift in range(-_SHIFT_MAX, _SHIFT_MAX):
        asked = Counter(key ^ place + shift for place, key in keys if place + shift > 0)
        salt, votes = asked.most_common(1)[0] if asked else (0, 0)
        if votes > most:
            best, most = salt, votes
    return (best, most) if most > 1 else (0, 0)


def _salt_of(body: bytes, crc: bytes, offset: int) -> int:
    """Return the salt of a line with this body and CRC at this offset, if the line is intact."""
    return checksums.unwound(checksums.unwound(int(crc, 16), body), offset.to_bytes(8, "little"))
