"""What is left of a segment that may be damaged anywhere: its valid lines, and where between them something is missing.

Invariants:

- A line counts only with a right CRC at its place. Where the first line, which names the salt, is damaged, the salt is
  computed from lines behind it, and used only if two of them agree on it (or one, and the first line's text).
- The file is read in blocks, twice: to learn what is wrong, and to hand out what is right.

It writes nothing, and decides nothing: what a gap means for the records is asked one floor up (`salvage`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.storage import codec, disk, framing, lines
from manifestlog.storage.framing import Piece
from manifestlog.storage.lines import Base, Op, Opening, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = re.compile(rb'(\{"op":"[a-z]+",.*),"crc":"([0-9a-f]{8})"\}')
_SALT = re.compile(rb'"salt":"([0-9a-f]{8})"')
_KEY = re.compile(rb'"checksum":"([0-9a-f]{64})"')
_OF_OTHERS = (b'"record', b'"checksum"', b'"metadata"', b'"seconds"', b'"ts":')
_OPENING_BYTES_MAX = 400
_LINES_ASKED = 64
_NAMED_MAX = 1000


@dataclass(slots=True)
class Salvaged:
    """A segment file as it was found. `number` is its own word where its first line can be read, else its name's."""

    path: str
    number: int
    size: int
    opening: Opening | None
    salt: int | None
    bases: list[Base] = field(default_factory=list)
    damage: list[Piece] = field(default_factory=list)
    named: dict[int, list[str]] = field(default_factory=dict)
    """Checksums that can be read in a damaged stretch, by its offset; nothing vouches for them."""
    lines: int = 0
    end: int = 0
    chain: int = 0
    synced: int = 0
    next: int | None = None
    torn_at: int | None = None

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
        opening = lines.decode_opening(first, path)
        salt = opening.salt if opening else _recovered_salt(fd, size, first)
        found = Salvaged(path, opening.segment if opening else number, size, opening, salt)
        if opening is not None:
            found.bases = list(opening.bases)
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
    for piece in framing.pieces(disk.blocks(fd, 0, found.size), salt):
        position = piece.end
        op = None if piece.line is None else decoded(piece.line)
        if op is None:
            found.damage.append(piece)
            found.named[piece.offset] = _named(fd, piece.offset, piece.end)
            continue
        assert piece.line is not None
        found.lines, found.end = found.lines + 1, piece.end
        found.chain = crc32(codec.line_crc(piece.line), found.chain)
        _note(found, op)
    if position < found.size:
        found.torn_at = position
    if found.next is None and found.damage and is_seal(found, found.damage[-1], None):
        found.next = found.number + 1  # damaged as it is, it tells that there was a next one


def _note(found: Salvaged, op: Op) -> None:
    found.synced = max(found.synced, op.data.get("synced", 0))
    if op.kind == "compacting":
        found.bases.append(Base(**op.data["base"]))
    elif op.kind == "compacted":
        found.bases = [Base(**op.data["base"])]
    elif op.kind == "seal":
        found.next = found.number + 1


def decoded(line: bytes) -> Op | None:
    """What an intact line says; None when it says nothing known."""
    usual = lines.usual_put(line)
    if usual is not None:
        return usual
    try:
        return Op("open", "", [], {}) if line.startswith(b'{"op":"open"') else lines.decode(line)
    except (ValueError, KeyError, TypeError):
        return None


def ops(found: Salvaged) -> Iterator[Op]:
    """Every valid line, in order."""
    if found.salt is None:
        return
    fd = disk.open_read(found.path)
    try:
        for piece in framing.pieces(disk.blocks(fd, 0, found.size), found.salt):
            op = None if piece.line is None else decoded(piece.line)
            if op is not None:
                yield op
    finally:
        disk.close(fd)


def _named(fd: int, start: int, end: int) -> list[str]:
    text = disk.read(fd, min(end - start, disk.BLOCK_BYTES), start)
    return [found.decode() for found in dict.fromkeys(_KEY.findall(text))][:_NAMED_MAX]


def is_opening(found: Salvaged, piece: Piece, told: Summary | None) -> bool:
    """Whether this damaged stretch is the segment's first line and nothing more: by the count of lines, or by its text."""
    if piece.offset != 0:
        return False
    if told is not None and told.lines == found.lines + 1:
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


def is_seal(found: Salvaged, piece: Piece, told: Summary | None) -> bool:
    """Whether this damaged stretch is the segment's last line, which holds no record: what it was can be computed."""
    if found.salt is None or piece.offset != found.end or piece.end != found.size:
        return False
    line = codec.seal_line(lines.seal_body(found.summary), found.salt, found.end)
    if told is None:
        return len(line) == piece.end - piece.offset
    chain = codec.hex_crc(crc32(codec.line_crc(line[:-1]), found.chain))
    return told == Summary(found.number, found.end + len(line), found.lines + 1, chain)


# -- the salt ----------------------------------------------------------------------------------------------------------


def _recovered_salt(fd: int, size: int, first: bytes) -> int | None:
    """The salt of a segment whose first line is damaged: what its other lines were written with."""
    asked: Counter[int] = Counter()
    text = _SALT.search(first)
    if text is not None:
        asked[int(text[1], 16)] += 1
    start, rest = 0, b""
    for block in disk.blocks(fd, 0, size):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            found = _LINE.search(line)
            if found is not None:
                asked[_salt_of(found[1], found[2], start + found.start())] += 1
            start += len(line) + 1
        if asked.total() > _LINES_ASKED:
            break
    salt, votes = asked.most_common(1)[0] if asked else (0, 0)
    return salt if votes > 1 else None


def _table() -> list[int]:
    """CRC-32's table: what each byte does to a zero state."""
    return [crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]


_FORTH = _table()
_BACK = {entry >> 24: number for number, entry in enumerate(_FORTH)}


def _unwound(crc: int, data: bytes) -> int:
    """The start with which `crc32(data, start)` gives `crc`: a CRC can be run backwards."""
    state = crc ^ 0xFFFFFFFF
    for byte in reversed(data):
        number = _BACK[state >> 24]
        state = ((state ^ _FORTH[number]) << 8 & 0xFFFFFFFF) | number ^ byte
    return state ^ 0xFFFFFFFF


def _salt_of(body: bytes, crc: bytes, offset: int) -> int:
    """The salt with which a line of this body and CRC was written at this offset, if it is whole."""
    return _unwound(_unwound(int(crc, 16), body), offset.to_bytes(8, "little"))
