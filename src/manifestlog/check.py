"""Reads all that lies on disk of one manifest and says what is wrong with it, without changing or locking anything.

Invariants:

- Every byte of every file is covered: the canonical is parsed, each log line's CRC and place compared, the chain of
  segments followed, the index compared with the canonical.
- It goes on behind a damage, so that a report names all of them, not the first only.
- Writers and compactions may go on meanwhile: what they change under its eyes is looked at again, not reported.

It mends nothing. What it calls a note is no damage: the trace of a crash, or a leftover that the next writer removes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from manifestlog.errors import DamagedManifestError, ManifestNotFoundError
from manifestlog.naming import ManifestPaths
from manifestlog.storage import canonical, codec, disk, lines
from manifestlog.storage.canonical import Canonical, Scanned
from manifestlog.storage.index import Index, IndexDamagedError, encode
from manifestlog.storage.lines import Base, Op, Opening, Piece, Summary
from manifestlog.storage.state import fingerprint

DAMAGE = "damage"
NOTE = "note"
_TRIES = 10


class Finding(NamedTuple):
    """Something that is not as it should be: `damage`, or a `note`."""

    level: str
    file: str
    offset: int | None
    meaning: str


@dataclass(slots=True)
class CheckReport:
    """What was looked at and what was found."""

    manifest: str
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    log_lines: int = 0
    segments: int = 0

    @property
    def damaged(self) -> bool:
        return any(finding.level == DAMAGE for finding in self.findings)

    def damage(self, file: str, offset: int | None, meaning: str) -> None:
        self.findings.append(Finding(DAMAGE, file, offset, meaning))

    def note(self, file: str, offset: int | None, meaning: str) -> None:
        self.findings.append(Finding(NOTE, file, offset, meaning))


@dataclass(slots=True)
class _Segment:
    """What one segment holds: its valid lines in order, where it is damaged, how it ends."""

    path: str
    opening: Opening
    ops: list[tuple[Piece, str]] = field(default_factory=list)
    bases: list[Base] = field(default_factory=list)
    damage: list[Piece] = field(default_factory=list)
    synced: int = 0
    sealed_end: int | None = None
    torn_at: int | None = None


def check(paths: ManifestPaths) -> CheckReport:
    """Look at everything that belongs to this manifest; raises `ManifestNotFoundError` when there is nothing."""
    for _ in range(_TRIES):
        before = fingerprint(paths)
        report = _check_once(paths)
        if not report.damaged or fingerprint(paths) == before:
            break
    return report


def _check_once(paths: ManifestPaths) -> CheckReport:
    report = CheckReport(paths.canonical)
    names = disk.list_names(paths.directory) if disk.exists(paths.directory) else []
    numbers = paths.segment_numbers(names)
    if not numbers and not disk.exists(paths.canonical):
        raise ManifestNotFoundError(paths.canonical)
    scanned = _check_canonical(paths, report)
    found = _check_log(paths, numbers, scanned, report)
    _check_index(paths, scanned, found, report)
    for left in paths.temporaries(names):
        report.note(left, None, "left by a process that died while it was writing it; it is removed by a later one")
    return report


# -- the canonical file ------------------------------------------------------------------------------------------------


def _check_canonical(paths: ManifestPaths, report: CheckReport) -> Scanned | None:
    try:
        source = Canonical(paths.canonical, disk.open_read(paths.canonical))
    except FileNotFoundError:
        report.damage(paths.canonical, None, "the canonical file is missing, its log is there")
        return None
    try:
        scanned = canonical.scan(source)
    except DamagedManifestError as error:
        report.damage(error.path, error.offset, error.reason)
        return None
    report.records = len(scanned.columns.crcs)
    if source.memory is not None:
        report.note(paths.canonical, 0, "another tool's layout; the next compaction makes it canonical")
    return scanned


# -- the log -----------------------------------------------------------------------------------------------------------


def _check_log(
    paths: ManifestPaths, numbers: list[int], scanned: Scanned | None, report: CheckReport
) -> dict[int, _Segment]:
    found = {}
    for number in numbers:
        segment = _read(paths, number, scanned, report)
        if segment is not None:
            found[number] = segment
    for number, segment in found.items():
        _judge(segment, found.get(number + 1), report)
    report.segments = len(numbers)
    report.log_lines = sum(len(segment.ops) for segment in found.values())
    if numbers and scanned is not None and numbers[-1] in found:
        _check_base(paths, numbers, found[numbers[-1]], scanned, report)
    return found


def _read(paths: ManifestPaths, number: int, scanned: Scanned | None, report: CheckReport) -> _Segment | None:
    path = paths.segment(number)
    fd = disk.open_read(path)
    try:
        first = disk.read(fd, disk.BLOCK_BYTES, 0).partition(b"\n")[0]
        opening = lines.decode_opening(first, path)
        if opening is None:
            report.damage(path, 0, "the segment's first line is damaged, so nothing behind it can be checked")
            return None
        belongs = (opening.manifest, opening.segment) == (paths.name, number)
        if not belongs or (scanned is not None and opening.ts_created != scanned.metadata["ts_created"]):
            whose = f"segment {opening.segment} of manifest {opening.manifest!r} created at {opening.ts_created}"
            report.damage(path, 0, f"this is {whose}, not of this one")
            return None
        segment = _Segment(path, opening, bases=list(opening.bases))
        _take_pieces(fd, segment, report)
        return segment
    finally:
        disk.close(fd)


def _take_pieces(fd: int, segment: _Segment, report: CheckReport) -> None:
    end = disk.size(fd)
    position = 0
    for piece in _pieces(fd, end, segment.opening.salt):
        position = piece.end
        if piece.line is None:
            segment.damage.append(piece)
        elif piece.offset == 0:
            segment.ops.append((piece, "open"))
        else:
            _take(segment, piece, piece.line, report)
    if position < end:
        segment.torn_at = position


def _pieces(fd: int, end: int, salt: int) -> Iterator[Piece]:
    """Every line and every damage, read in blocks; an unfinished rest at the end is left out."""
    rest, start = b"", 0
    for block in disk.blocks(fd, 0, end):
        data = rest + block
        whole = data.rfind(b"\n") + 1
        yield from lines.split(data[:whole], start, salt)
        rest, start = data[whole:], start + whole
    yield from lines.split(rest, start, salt)


def _take(segment: _Segment, piece: Piece, line: bytes, report: CheckReport) -> None:
    try:
        op: Op = lines.decode(line)
        segment.ops.append((piece, op.kind))
        segment.synced = max(segment.synced, op.data.get("synced", 0))
        if op.kind == "seal":
            segment.sealed_end = piece.end + (not piece.terminated)
        if op.kind == "compacting":
            segment.bases.append(Base(**op.data["base"]))
        elif op.kind == "compacted":
            segment.bases = [Base(**op.data["base"])]
    except (ValueError, KeyError, TypeError) as error:
        report.damage(segment.path, piece.offset, f"the line says nothing known ({error})")


def _judge(segment: _Segment, successor: _Segment | None, report: CheckReport) -> None:
    """Say which of a segment's damage is damage, and which a crash explains."""
    told = successor.opening.previous if successor is not None else None
    agrees = told is None or told == _summary(segment, told.length)
    if told is not None and not agrees:
        report.damage(
            segment.path,
            told.length,
            f"it does not hold what segment {told.segment + 1} says: lines are missing or other",
        )
    for piece in segment.damage:
        count = piece.end - piece.offset
        if told is not None and piece.offset >= told.length and lines.may_be_a_crashs(piece, 0, segment.sealed_end):
            report.note(
                segment.path, piece.offset, f"{count} bytes behind the segment's end, fenced off by a later one"
            )
        elif agrees and lines.may_be_a_crashs(piece, segment.synced, segment.sealed_end):
            report.note(segment.path, piece.offset, f"{count} bytes damaged by a crash before they were acknowledged")
        else:
            report.damage(segment.path, piece.offset, f"{count} bytes are not what was written")
    if segment.torn_at is not None:
        report.note(segment.path, segment.torn_at, "an unfinished last line: being written now, or torn by a crash")


def _summary(segment: _Segment, length: int) -> Summary:
    """What the lines before this offset come to."""
    end, count, chain = 0, 0, 0
    for piece, _ in segment.ops:
        if piece.offset >= length or piece.line is None:
            break
        end, count, chain = piece.end, count + 1, crc32(codec.line_crc(piece.line), chain)
    return lines.summarise(segment.opening.segment, end, count, chain, segment.damage)


def _check_base(
    paths: ManifestPaths, numbers: list[int], last: _Segment, scanned: Scanned, report: CheckReport
) -> None:
    """Whether the log knows this canonical, and has every segment that it does not hold."""
    size = disk.path_stamp(paths.canonical)
    covers = [b.covers for b in last.bases if size is not None and (b.size, b.crc) == (size.size, scanned.crc)]
    if not covers:
        report.damage(paths.canonical, 0, "this is not the file that the log belongs to: it was edited, swapped or cut")
        return
    for number in range(covers[-1] + 1, numbers[-1]):
        if number not in numbers:
            report.damage(
                paths.segment(number), None, f"segment {number} is missing, and the canonical does not hold it"
            )
    for number in numbers:
        if number <= covers[-1]:
            report.note(paths.segment(number), None, "the canonical holds all of it; the next compaction removes it")


# -- the index ---------------------------------------------------------------------------------------------------------


def _check_index(
    paths: ManifestPaths, scanned: Scanned | None, found: dict[int, _Segment], report: CheckReport
) -> None:
    if not disk.exists(paths.index):
        return
    index = Index.open(paths.index)
    if index is None:
        report.note(paths.index, 0, "not readable as an index; it is ignored, and made anew by the next compaction")
        return
    if scanned is None or index.head.stamp != disk.path_stamp(paths.canonical):
        report.note(paths.index, 0, "made for another canonical; it is ignored, and made anew by the next compaction")
        return
    if index.head.covers and not found:
        missing = paths.segment(index.head.covers + 1)
        report.damage(missing, None, f"the log is missing: segment {index.head.covers} was not its last")
    try:
        index.check_all()
    except IndexDamagedError as error:
        report.note(paths.index, None, f"damaged ({error}); lookups read the canonical instead")
        return
    if not _agrees(index, scanned):
        report.damage(paths.index, None, "it says something else than the canonical: delete it, it is made anew")
    elif _bytes_of(paths.index) != b"".join(encode(scanned.columns, index.head)):
        report.note(paths.index, None, "bytes that nobody reads are not what was written")


def _bytes_of(path: str) -> bytes:
    fd = disk.open_read(path)
    try:
        return disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


def _agrees(index: Index, scanned: Scanned) -> bool:
    ours, theirs = index.columns(), scanned.columns
    return (
        bytes(ours.digests) == bytes(theirs.digests)
        and ours.offsets == theirs.offsets
        and ours.crcs == theirs.crcs
        and bytes(ours.sources) == bytes(theirs.sources)
        and (index.head.crc, index.head.metadata) == (scanned.crc, scanned.metadata)
    )
