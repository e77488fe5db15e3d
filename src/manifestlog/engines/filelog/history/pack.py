"""Packs: compressed files of consecutive covered segments, each with its own index.

::

    block 0 · block 1 · … · footer
    block    one Zstandard frame: whole lines, at most about 256 KiB of them, of one or several segments
    footer   a skippable Zstandard frame, so that `zstdcat` shows only the lines:
             magic 0x184D2A50 u32 · length u32 · length of the frame u32 · JSON in a Zstandard frame, zeros to 4 bytes
             · key table
             · size of the footer u32 · CRC-32 of all before it u32 · "MLPACK01"

Invariants:

- A pack contains the valid bytes of each segment unchanged. So a line keeps its offset, and its CRC still fits.
- Every bit is covered: a block by the CRC-32 in the footer, the footer by its own.
- An incomplete segment is marked as such (`Kept.lost`): a repair has saved the intact parts of it.
- A pack is published as a whole and never changed; a larger pack replaces it.

It knows blocks and segments, not what a line means. Integers are little-endian. Format: RFC 8878, section 3.1.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.history import keys
from manifestlog.engines.filelog.history.compression import compress, decompress, frame_size
from manifestlog.engines.filelog.log.lines import FORMAT as FORMAT_OF_LINES, Summary
from manifestlog.errors import DamagedManifestError, NewerFormatError
from manifestlog.files import disk
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FOOTER_BYTES_MAX = 256 << 20
"""More than the JSON of a footer ever takes."""
_TS_MAX = 32
"""The time is the second member of a line."""
FORMAT = 1
"""The format of a pack, apart from the lines in it."""
BLOCK_BYTES = 256 << 10
BYTES_MAX = 64 << 20
"""Bytes of lines in one pack, about."""
_NUMBER_MAX = 1 << 48
_SKIPPABLE = 0x184D2A50
_END = struct.Struct("<II8s")
_MAGIC = b"MLPACK01"
_HEAD = struct.Struct("<III")
"""Magic, length of the skippable frame, length of the JSON's frame."""


class Kept(NamedTuple):
    """A segment in the history: what its first line says, and its valid part."""

    number: int
    salt: int
    format: int
    previous: Summary | None
    anew: bool
    """Whether a repair started it, so that no earlier segment leads to it."""
    length: int
    lost: bool = False
    """Whether lines of it are missing, so that nothing earlier follows from what is later."""


def lost_segment(number: int) -> Kept:
    """Return a segment of which nothing is left."""
    return Kept(number, 0, FORMAT_OF_LINES, None, anew=False, length=0, lost=True)


class Part(NamedTuple):
    """A piece of a block: these bytes of a segment."""

    segment: int
    start: int
    length: int


class Block(NamedTuple):
    """Where a block is in its pack, and what it holds."""

    offset: int
    size: int
    crc: int
    first_ts: str
    last_ts: str
    parts: tuple[Part, ...]


class Piece(NamedTuple):
    """Whole lines of a segment, to be packed or read."""

    segment: int
    start: int
    data: bytes


def grouped(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Group pieces into blocks of about `BLOCK_BYTES`."""
    waiting: list[Piece] = []
    size = 0
    for piece in pieces:
        if waiting and size + len(piece.data) > BLOCK_BYTES:
            yield waiting
            waiting, size = [], 0
        waiting.append(piece)
        size += len(piece.data)
    if waiting:
        yield waiting


class Packer:
    """Builds the bytes of a pack, block by block."""

    def __init__(self, manifest: str, ts_created: str) -> None:
        self._identity = {"manifest": manifest, "ts_created": ts_created}
        self._blocks: list[Block] = []
        self._keys: list[set[bytes]] = []
        self._offset = 0

    def block(self, pieces: Sequence[Piece]) -> bytes:
        """Return the compressed block of these pieces."""
        data = b"".join([piece.data for piece in pieces])
        packed = compress(data)
        times = _times(data)
        parts = tuple(Part(piece.segment, piece.start, len(piece.data)) for piece in pieces)
        span = (min(times, default=""), max(times, default=""))
        self._blocks.append(Block(self._offset, len(packed), crc32(packed), *span, parts))
        self._keys.append(keys.keys_in(data))
        self._offset += len(packed)
        return packed

    def footer(self, segments: Sequence[Kept]) -> bytes:
        """Return the footer, after the last block."""
        bits, table = keys.build(self._keys)
        members = {"format": FORMAT, **self._identity, "segments": [_members(kept) for kept in segments]}
        text = codec.dumps({**members, "blocks": list(map(_listed, self._blocks)), "key_bits": bits})
        text = compress(text)
        text += b"\0" * (-len(text) % 4)
        size = _HEAD.size + len(text) + len(table) + _END.size
        body = _HEAD.pack(_SKIPPABLE, size - 8, len(text)) + text + table
        return body + _END.pack(size, crc32(body), _MAGIC)


def _times(data: bytes) -> list[str]:
    """Return the time of each line that has one."""
    found = (
        line[start + 6 : start + 33] for line in data.split(b"\n") if 0 < (start := line.find(b'"ts":"')) < _TS_MAX
    )
    return [ts.partition(b'"')[0].decode() for ts in found]


def _members(kept: Kept) -> dict[str, Any]:
    members = {**kept._asdict(), "previous": kept.previous and kept.previous.members()}
    if not kept.lost:
        del members["lost"]
    return members


class Pack:
    """An open pack. Raises `DamagedManifestError` for what is not as it was written."""

    def __init__(self, path: str) -> None:
        """Open the pack and check its footer; raises `FileNotFoundError`, `NewerFormatError`."""
        self.path = path
        fd = history_folder.open_file(path)
        try:
            self._data = memoryview(disk.map_read(fd)) if disk.size(fd) else memoryview(b"")
        finally:
            disk.close(fd)
        try:
            self._read_footer()
        except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
            raise DamagedManifestError(
                path, max(0, len(self._data) - _END.size), f"the pack's footer is damaged ({error})"
            ) from None

    def _read_footer(self) -> None:
        data = self._data
        size, crc, magic = _END.unpack(data[-_END.size :])
        start = len(data) - size
        if magic != _MAGIC or start < 0 or size < _HEAD.size + _END.size:
            raise ValueError("its last bytes are not what was written")
        if crc32(data[start : -_END.size]) != crc:
            raise ValueError("its CRC does not match")
        text, table = start + _HEAD.size, start + _HEAD.size + _HEAD.unpack_from(data, start)[2]
        members = codec.loads(decompress(data[text : text + frame_size(data[text:table])], _FOOTER_BYTES_MAX))
        if members["format"] > FORMAT:
            raise NewerFormatError(self.path, members["format"], FORMAT)
        self.manifest, self.ts_created = members["manifest"], members["ts_created"]
        self.segments = [_kept(one) for one in members["segments"]]
        self.blocks = [_block(one) for one in members["blocks"]]
        self.keys = keys.table(members["key_bits"], data[table : -_END.size])
        self.kept = {kept.number: kept for kept in self.segments}
        self.of_segment: dict[int, list[int]] = {number: [] for number in self.kept}
        """The blocks of each segment, in order."""
        for number, block in enumerate(self.blocks):
            for segment in dict.fromkeys(part.segment for part in block.parts):
                self.of_segment[segment].append(number)
        self._last: tuple[int, list[Piece]] = (-1, [])
        if (self.blocks[-1].offset + self.blocks[-1].size if self.blocks else 0) != start:
            raise ValueError("the blocks do not end where it begins")

    def refuse_foreign(self, manifest: str, ts_created: str | None, numbers: tuple[int, int]) -> None:
        """Raise `DamagedManifestError` if this is not the pack of these segments, first and last, of this manifest."""
        if (self.manifest, self.ts_created) != (manifest, ts_created or self.ts_created):
            whose = f"another manifest, {self.manifest!r}, created at {self.ts_created}"
            raise DamagedManifestError(self.path, 0, f"this is a pack of {whose}")
        first, last = numbers
        if len(self.segments) != last - first + 1 or any(
            kept.number != number for number, kept in enumerate(self.segments, first)
        ):
            raise DamagedManifestError(self.path, 0, "it does not hold the segments that its name says")

    def pieces(self, number: int) -> list[Piece]:
        """Return the pieces of a block; raises `DamagedManifestError`."""
        if self._last[0] == number:  # many small segments share a block
            return self._last[1]
        block = self.blocks[number]
        packed = self._data[block.offset : block.offset + block.size]
        if crc32(packed) != block.crc:
            raise DamagedManifestError(
                self.path, block.offset, f"{block.size} bytes of a pack are not what was written"
            )
        length = sum(part.length for part in block.parts)
        try:
            data = decompress(packed, length)
        except ValueError as error:  # written so, with a CRC that fits
            raise DamagedManifestError(self.path, block.offset, f"a block of a pack cannot be read ({error})") from None
        if len(data) != length:
            raise DamagedManifestError(self.path, block.offset, "a block of a pack is shorter than its parts")
        found, position = [], 0
        for segment, start, length in block.parts:
            found.append(Piece(segment, start, data[position : position + length]))
            position += length
        self._last = (number, found)
        return found

    def damaged_blocks(self) -> Iterator[DamagedManifestError]:
        """Yield an error for each damaged block."""
        for number in range(len(self.blocks)):
            try:
                self.pieces(number)
            except DamagedManifestError as error:
                yield error


def _listed(block: Block) -> list[Any]:
    return [*block[:-1], [list(part) for part in block.parts]]


def _block(members: list[Any]) -> Block:
    offset, size, crc, first_ts, last_ts, listed = members
    parts = tuple(Part(*part) for part in listed)
    _check_numbers(offset, size, crc, *chain.from_iterable(parts))
    return Block(offset, size, crc, first_ts, last_ts, parts)


def _kept(members: dict[str, Any]) -> Kept:
    previous = members["previous"]
    _check_numbers(members["number"], members["salt"], members["format"], members["length"])
    return Kept(**{**members, "previous": Summary(**previous) if previous else None})


def _check_numbers(*numbers: object) -> None:
    """Raise `ValueError` for anything that is no size or number of a file."""
    if not all(type(number) is int and 0 <= number < _NUMBER_MAX for number in numbers):
        raise ValueError("a number is not valid")
