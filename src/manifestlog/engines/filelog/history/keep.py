"""Maintains the history: moves covered segments into it, packs them, and cuts what the options do not keep.

::

    (a) move each covered segment to `history/`, oldest first; sync both directories
    (b) if many segments are there, or long ones: write a pack of them under a temporary name, sync it, rename it, sync
    (c) remove the segments and the smaller pack that it holds
    (d) remove the oldest packs and segments that the options do not keep

::

    crash after a part of (a)   the segment is in one place or the other; the next compaction moves the rest
    crash in (b)                the segments are there; an unfinished file, which the next packing removes
    crash between (b) and (c)   both are there with the same lines; readers use the pack, the next packing removes the
                                segments

Invariants:

- Only segments that a published canonical file covers are moved here, under the compaction lock.
- A segment is removed only when a pack that was read back contains it, or when the options allow it.
- Events after the cursor of a registered follower are kept for its stated time, whatever the options say.
- A damaged segment is never packed: it stays as it is, for `check` and `repair`.
- No segment ever replaces another one with the same number. If that would happen, nothing is moved.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.history import followers
from manifestlog.engines.filelog.history.listing import Listing, packs
from manifestlog.engines.filelog.history.pack import BLOCK_BYTES, BYTES_MAX, Kept, Pack, Packer, Piece, grouped
from manifestlog.engines.filelog.history.spans import Segments, Tally
from manifestlog.engines.filelog.log import framing
from manifestlog.errors import DamagedManifestError, ManifestError
from manifestlog.files import disk, publish
from manifestlog.model.rows import utc_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from manifestlog.engines.filelog.history.spans import Span
    from manifestlog.names import ManifestPaths
    from manifestlog.options import Keep

log = logging.getLogger(__name__)

SEGMENTS_MAX = 64
"""So many loose segments are packed,"""
LOOSE_BYTES_MAX = 4 << 20
"""or so many bytes of them."""

BEYOND = "the log beside it has another segment of its number, or has not come that far, so it is not of this log"
TWO = "the history has another segment of this number"
NO_FLOOR = sys.maxsize
_SMALL_PACK_BYTES = 1 << 20
"""A smaller pack is packed again with the segments after it, so that their number stays small."""


def floor(paths: ManifestPaths, ts_created: str, keep: Keep) -> int:
    """Return the first segment that must be kept whatever the options say; a registered follower needs it."""
    if keep.age_s is None and keep.bytes_max is None and not keep.off:
        return NO_FLOOR  # everything is kept anyway
    found = followers.floor(paths, ts_created, datetime.now(UTC))
    return NO_FLOOR if found is None else found


def move(paths: ManifestPaths, covers: int, keep_from: int) -> list[str]:
    """Move the covered segments from this number on into the history, step (a), and remove those before it.

    Only under the compaction lock, so nobody else changes what is listed once. Return the names in the history then.
    """
    # Oldest first: after a crash the rest is the end of the covered log, and replaying it changes nothing.
    live = paths.segment_numbers(disk.list_names(paths.directory))
    names = history_folder.names(paths)
    covered = [n for n in live if n <= covers]
    for number in [n for n in covered if holds(paths, n, names)]:
        disk.sync_directory(paths.history)
        disk.remove(paths.segment(number))  # somebody has put a copy beside the manifest
        covered.remove(number)
        live.remove(number)
    held = Listing.among(paths, {number: paths.segment(number) for number in live}, names)
    _refuse_to_mix(held, covered)
    if held.packs or paths.segment_numbers(names):
        keep_from = 0  # (d) removes them after the older ones, so that no crash leaves a gap
    for number in covered:
        if number < keep_from:
            disk.remove(paths.segment(number))
            disk.sync_directory(paths.directory)
    covered = [number for number in covered if number >= keep_from]
    if covered:
        history_folder.make(paths)
    for number in covered:
        disk.replace(paths.segment(number), paths.kept_segment(number))
    if covered:
        disk.sync_directory(paths.history)
        disk.sync_directory(paths.directory)
    return names + [os.path.basename(paths.kept_segment(number)) for number in covered]


def _refuse_to_mix(held: Listing, covered: list[int]) -> None:
    """Raise `DamagedManifestError` if the history holds other segments of these numbers, or of later ones.

    As after a restore of an older copy of the manifest beside its newer history: a move would replace one by the other.
    """
    if held.strays:
        raise DamagedManifestError(held.strays[0], 0, BEYOND)
    for number in covered:
        if held.pack_of(number) is not None:
            raise DamagedManifestError(held.files[number], 0, TWO)


def holds(paths: ManifestPaths, number: int, names: list[str]) -> bool:
    """Return whether the history, which has these names, holds this live segment, byte for byte."""
    path = paths.segment(number)
    with suppress(DamagedManifestError):
        if number in paths.segment_numbers(names) and _same(path, paths.kept_segment(number)):
            return True
    for first, last in paths.pack_ranges(names):
        with suppress(DamagedManifestError):
            if first <= number <= last and _packed(path, paths.pack(first, last), number):
                return True
    return False


def _same(path: str, other: str) -> bool:
    """Return whether two files hold the same."""
    fds = []
    try:
        fds += [disk.open_read(path), history_folder.open_file(other)]
        end, end_of_other = map(disk.size, fds)
        ours, theirs = (disk.blocks(fd, 0, end) for fd in fds)
        return end == end_of_other and all(a == b for a, b in zip(ours, theirs, strict=True))
    finally:
        for fd in fds:
            disk.close(fd)


def _packed(path: str, pack_path: str, number: int) -> bool:
    """Return whether a pack holds all of this segment file."""
    fd = disk.open_read(path)
    try:
        pack = Pack(pack_path)
        pieces = [p for block in pack.of_segment.get(number, ()) for p in pack.pieces(block) if p.segment == number]
        end = max((piece.start + len(piece.data) for piece in pieces), default=0)
        return disk.size(fd) == end and all(disk.read(fd, len(p.data), p.start) == p.data for p in pieces)
    finally:
        disk.close(fd)


def sweep(paths: ManifestPaths, names: list[str]) -> None:
    """Remove the unfinished files among these; only under the compaction lock, which proves that their writers are dead."""
    for left in paths.history_temporaries(names):
        with suppress(IsADirectoryError, PermissionError):
            disk.remove(left)


def tidy(
    paths: ManifestPaths,
    ts_created: str,
    keep: Keep,
    first_needed: int,
    names: list[str] | None = None,
    *,
    segments_max: int = SEGMENTS_MAX,
) -> None:
    """Pack and cut if it is due, steps (b) to (d). Only under the compaction lock.

    `names` are those in the history, if they were listed under it [default: list them].
    """
    names = history_folder.names(paths) if names is None else names
    sweep(paths, names)
    removed = _remove_packed(paths, ts_created, names)
    loose = paths.segment_numbers([name for name in names if name not in removed])
    sizes = [_size(paths.kept_segment(number)) for number in loose]
    if len(loose) >= segments_max or sum(sizes) >= LOOSE_BYTES_MAX:
        proved = {_pack(paths, ts_created, some) for some in _runs(loose, sizes)}
        _remove_packed(paths, ts_created, history_folder.names(paths), proved)
    cut(paths, keep, datetime.now(UTC), first_needed)


def bytes_held(paths: ManifestPaths) -> int:
    """Return the size of the history on disk."""
    names = history_folder.names(paths)
    files = [paths.kept_segment(number) for number in paths.segment_numbers(names)]
    return sum(map(_size, files + [paths.pack(*pack) for pack in paths.pack_ranges(names)]))


def _size(path: str) -> int:
    found = disk.path_stamp(path)
    return 0 if found is None else found.size


def _remove_packed(
    paths: ManifestPaths, ts_created: str, names: list[str], proved: Container[tuple[int, int] | None] = frozenset()
) -> set[str]:
    """Remove the segments and packs that a larger pack holds, if it can be read and is of this manifest; return their names.

    Those in `proved` have just been read.
    """
    found = packs(paths, names)
    twice = [(paths.kept_segment(n), pack) for n in paths.segment_numbers(names) if (pack := found.pack_of(n))]
    twice += [
        (paths.pack(*one), pack)
        for one in paths.pack_ranges(names)
        if one not in found.packs and (pack := found.pack_of(one[0]))
    ]
    sound = {pack for pack in {pack for _, pack in twice} if pack in proved or is_sound(paths, ts_created, pack)}
    removed = [path for path, pack in twice if pack in sound]
    if any(pack not in proved for pack in sound):
        disk.sync_directory(paths.history)  # whoever has named the pack may have died before syncing that
    for path in removed:
        disk.remove(path)
    return set(map(os.path.basename, removed))


def is_sound(paths: ManifestPaths, ts_created: str, numbers: tuple[int, int]) -> bool:
    """Return whether a pack can be read from end to end, and is of this manifest."""
    try:
        pack = Pack(paths.pack(*numbers))
        pack.refuse_foreign(paths.name, ts_created, numbers)
        for damage in pack.damaged_blocks():
            raise damage
    except ManifestError as error:
        log.error("%s; the segments beside it stay: run `manifestlog check`", error)
        return False
    return True


def _runs(loose: list[int], sizes: list[int]) -> Iterator[list[int]]:
    """Split the loose segments into runs without a gap, each of about `BYTES_MAX` at most."""
    run: list[int] = []
    size = 0
    for number, length in zip(loose, sizes, strict=True):
        if run and (number != run[-1] + 1 or size + length > BYTES_MAX):
            yield run
            run, size = [], 0
        run.append(number)
        size += length
    if run:
        yield run


def _pack(paths: ManifestPaths, ts_created: str, run: list[int]) -> tuple[int, int] | None:
    """Write a pack of these segments, steps (b); with the small pack before them, if there is one.

    Return its first and last segment, or None if a segment is damaged. It has been read back.
    """
    segments = Segments(paths, ts_created, None)
    before = next((p for p in Listing.of(paths).packs if p[1] == run[0] - 1), None)
    if before is not None and _size(paths.pack(*before)) < _SMALL_PACK_BYTES:
        run = [*range(before[0], before[1] + 1), *run]
    path = paths.pack(run[0], run[-1])
    packer = Packer(paths.name, ts_created)
    target = publish.Target(paths.temporary(path), path, paths.history)
    try:
        kept = [segments.segment(number) for number in run]
        publish.publish(target, _blocks(packer, segments, kept), mode_from=paths.canonical)
    except DamagedManifestError as error:
        log.error("%s; it is not packed: run `manifestlog check`", error)
        return None
    for damage in Pack(path).damaged_blocks():  # read back before anything relies on it
        disk.remove(path)
        raise damage
    log.debug("%s: packed segments %d to %d", path, run[0], run[-1])
    return run[0], run[-1]


def _blocks(packer: Packer, segments: Segments, kept: list[Kept]) -> Iterator[bytes]:
    for pieces in grouped(_pieces(segments, kept)):
        yield packer.block(pieces)
        disk.yield_gil()
    yield packer.footer(kept)


def _pieces(segments: Segments, kept: Iterable[Kept]) -> Iterator[Piece]:
    """Yield the valid lines of these segments, checked."""
    for segment in kept:
        tally, packed = Tally(), False
        for span in segments.of(segment.number):
            packed = span.packed
            yield from [Piece(segment.number, span.start, span.data)] if packed else _valid(span, tally)
        if not packed:
            segments.confirm(segment.number, tally)


def _valid(span: Span, tally: Tally) -> Iterator[Piece]:
    """Yield the ranges of valid lines of a span, each of less than a block where lines are that short."""
    begin = end = span.start
    for piece in framing.split(span.data, span.start, span.segment.salt):
        tally.add(piece)
        if piece.line is None or piece.end - begin > BLOCK_BYTES:
            if end > begin:
                yield Piece(span.segment.number, begin, span.data[begin - span.start : end - span.start])
            begin = piece.end if piece.line is None else piece.offset
        end = piece.end
    if end > begin:
        yield Piece(span.segment.number, begin, span.data[begin - span.start : end - span.start])


class _Held(NamedTuple):
    """A file of the history: its last segment, path, size in bytes and the time of its last line."""

    last: int
    path: str
    size: int
    last_ts: str


def cut(paths: ManifestPaths, keep: Keep, now: datetime, first_needed: int) -> None:
    """Remove the oldest packs and segments that neither the options keep nor a registered follower needs, step (d)."""
    bytes_max = 0 if keep.off else keep.bytes_max
    if keep.age_s is None and bytes_max is None:
        return
    held = _held(paths)
    total = sum(one.size for one in held)
    since = keep.oldest(now)
    oldest = "" if since is None else utc_text(since)
    for one in held:
        if one.last >= first_needed or (one.last_ts >= oldest and (bytes_max is None or total <= bytes_max)):
            return
        disk.sync_directory(paths.history)  # what is older is gone for good: a power cut must not leave a gap
        disk.remove(one.path)
        log.info("%s: removed; the options keep the history %s", one.path, keep.text)
        total -= one.size


def _held(paths: ManifestPaths) -> list[_Held]:
    """Return the files of the history, the oldest first."""
    found: list[tuple[int, _Held]] = []
    for first, last in Listing.of(paths).packs:
        path = paths.pack(first, last)
        found.append((first, _Held(last, path, _size(path), _last_ts(path))))
    for number in paths.segment_numbers(history_folder.names(paths)):
        path = paths.kept_segment(number)
        found.append((number, _Held(number, path, _size(path), _changed(path))))
    return [one for _, one in sorted(found)]


def _last_ts(path: str) -> str:
    """Return the time of the last line of a pack; of a damaged one, which must stop no compaction, when it was written."""
    try:
        return max((block.last_ts for block in Pack(path).blocks), default="")
    except DamagedManifestError as error:
        log.error("%s", error)
        return _changed(path)


def _changed(path: str) -> str:
    stamp = disk.path_stamp(path)
    return "" if stamp is None else utc_text(datetime.fromtimestamp(stamp.mtime_ns / 1e9, UTC))
