"""Salvages a damaged file of the history: a segment file line by line, a pack block by block.

Invariants:

- A line counts if its CRC fits its offset, and keeps that offset.
- A segment with missing lines is marked as such (`Kept.lost`).
- Lines are read when they are asked for, so memory does not grow with the file, except for a pack without its footer.

It writes nothing (`repair_history`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog import progress
from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.history import compression
from manifestlog.engines.filelog.history.pack import BLOCK_BYTES, Kept, Pack, Piece, grouped, lost_segment
from manifestlog.engines.filelog.history.spans import header, kept_of
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.engines.filelog.recovery.check_history import Reading, read_packed
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
_FRAME_BYTES_MAX = 64 << 20


class Saved(NamedTuple):
    """What is intact of a file: its segments in order, and their lines; `pieces` can be read once."""

    kept: list[Kept]
    pieces: Iterable[list[Piece]]


def save_gap(first: int, last: int) -> Saved:
    """Return what is left of segments that are missing: that they were there."""
    return Saved([lost_segment(number) for number in range(first, last + 1)], [])


# -- a segment file ----------------------------------------------------------------------------------------------------


def save_file(path: str, identity: tuple[str, str], number: int, declared: lines.Summary | None) -> Saved:
    """Return what is intact of a segment file; `declared` is what its successor states about it."""
    try:
        found = _read_file(path, identity, number, declared)
    except DamagedManifestError:
        return save_gap(number, number)
    lost = bool(found.damage) if declared is None else not found.fits(declared)
    kept = found.kept._replace(length=found.length, lost=lost)
    return Saved([kept], grouped(_lines_of(path, kept)))


def _read_file(path: str, identity: tuple[str, str], number: int, declared: lines.Summary | None) -> Reading:
    fd = history_folder.open_file(path)
    try:
        found = Reading(header(fd, path, *identity, number), path)
        end = found.kept.length if declared is None else min(found.kept.length, declared.length)
        found.take(framing.pieces(progress.over(disk.blocks(fd, 0, end), path, end), found.kept.salt), 0, end)
    finally:
        disk.close(fd)
    return found


def _lines_of(path: str, kept: Kept) -> Iterator[Piece]:
    fd = disk.open_read(path)
    try:
        found = framing.pieces(disk.blocks(fd, 0, kept.length), kept.salt)
        yield from _joined(kept.number, found)
    finally:
        disk.close(fd)


def _joined(number: int, found: Iterable[framing.Piece]) -> Iterator[Piece]:
    """Join adjacent intact lines to pieces of less than a block."""
    start = end = 0
    waiting: list[bytes] = []
    for piece in found:
        if piece.line is None:
            continue
        if waiting and (piece.offset != end or end - start > BLOCK_BYTES // 4):
            yield Piece(number, start, b"".join(waiting))
            waiting = []
        start = start if waiting else piece.offset
        waiting.append(piece.line + b"\n" * piece.terminated)
        end = piece.end
    if waiting:
        yield Piece(number, start, b"".join(waiting))


# -- a pack ------------------------------------------------------------------------------------------------------------


def save_pack(path: str, identity: tuple[str, str], first: int, last: int) -> Saved:
    """Return what is intact of a pack: its intact blocks, also if its footer is damaged."""
    if not is_file(path):
        return save_gap(first, last)
    try:
        pack = Pack(path)
    except DamagedManifestError:
        return _save_blocks(path, identity, first, last)
    try:
        pack.refuse_foreign(*identity, (first, last))
    except DamagedManifestError:
        return save_gap(first, last)
    return Saved(_checked([read_packed(pack, kept) for kept in pack.segments]), _intact(pack))


def is_file(path: str) -> bool:
    """Return whether this is a regular file."""
    try:
        disk.close(history_folder.open_file(path))
    except DamagedManifestError:
        return False
    return True


def only(saved: Saved, first: int, last: int) -> Saved:
    """Return what is saved of these segments."""
    kept = [one for one in saved.kept if first <= one.number <= last]
    pieces = ([piece for piece in some if first <= piece.segment <= last] for some in saved.pieces)
    return Saved(kept, (some for some in pieces if some))


def _checked(found: list[Reading]) -> list[Kept]:
    """Mark the segments that are not what their successors state."""
    kept = [one.kept for one in found]
    for number, (one, following) in enumerate(zip(found, kept[1:], strict=False)):
        declared = following.previous
        if declared is not None and not following.anew and not one.fits(declared):
            kept[number] = kept[number]._replace(lost=True)
    return kept


def _intact(pack: Pack) -> Iterator[list[Piece]]:
    for number in range(len(pack.blocks)):
        try:
            yield pack.pieces(number)
        except DamagedManifestError:
            continue


def _save_blocks(path: str, identity: tuple[str, str], first: int, last: int) -> Saved:
    """Return the intact lines of a pack without its footer: each follows from its segment's first line."""
    found: dict[int, Reading] = {}
    for pieces in _unlisted(path, identity, found):
        for piece in pieces:
            reading = found[piece.segment]
            end = piece.start + len(piece.data)
            reading.take(framing.split(piece.data, piece.start, reading.kept.salt), piece.start, end)
    numbers = range(first, last + 1)
    kept = _checked([found.get(number) or Reading(lost_segment(number), path) for number in numbers])
    kept[-1] = kept[-1]._replace(lost=True)  # nothing here says where it ended
    return Saved([one._replace(length=found[one.number].length) if one.number in found else one for one in kept],
                 (some for some in _unlisted(path, identity, {}) if some))  # fmt: skip


def _unlisted(path: str, identity: tuple[str, str], found: dict[int, Reading]) -> Iterator[list[Piece]]:
    """Yield the lines of every frame, by the segment whose first line came last; note the segments in `found`."""
    current: Kept | None = None
    offset = 0
    for data in _frames(path):
        pieces: list[Piece] = []
        for line in data.splitlines(keepends=True):
            opening = lines.decode_header(line.rstrip(b"\n"), path) if line.startswith(b'{"op":"open"') else None
            if opening is not None and (opening.manifest, opening.ts_created) == identity:
                current, offset = kept_of(opening, 0), 0
                found[current.number] = Reading(current, path, packed=True)
            if current is None or not checksums.line_is_intact(line.rstrip(b"\n"), current.salt, offset):
                current = None  # lines are missing, and with them the offset of the next
                continue
            pieces.append(Piece(current.number, offset, line))
            offset += len(line)
        yield _merged(pieces)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Join pieces that follow each other in a segment."""
    found: list[list[Piece]] = []
    for piece in pieces:
        last = found[-1][-1] if found else None
        if last is not None and (last.segment, last.start + len(last.data)) == (piece.segment, piece.start):
            found[-1].append(piece)
        else:
            found.append([piece])
    return [some[0]._replace(data=b"".join(piece.data for piece in some)) for some in found]


def _frames(path: str) -> Iterator[bytes]:
    """Yield the data of every frame that can be read."""
    fd = history_folder.open_file(path)
    try:
        data = disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
    position = 0
    while (position := data.find(_FRAME_MAGIC, position)) >= 0:
        try:
            size = compression.frame_size(memoryview(data)[position:])
            yield compression.decompress(data[position : position + size], _FRAME_BYTES_MAX)
            position += size
        except ValueError:
            position += len(_FRAME_MAGIC)
