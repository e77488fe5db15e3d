"""Checks all files of a manifest for damage, without changing or locking anything.

Invariants:

- Every byte of every file is checked: the canonical file is parsed, each log line's CRC and offset compared, the chain
  of segments followed, and the index compared with the canonical file.
- Memory does not grow with the manifest. The index is mapped and compared block by block while the canonical file is
  read. Only a canonical file in another layout is converted in memory first (`foreign`).
- The check continues after damage, so the report lists all of it.
- Writers and compactions may run meanwhile: files that they change are checked again, not reported.

It repairs nothing. A note is not damage: it is the trace of a crash, a leftover file that the next writer removes, or
an event of a newer program.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog import progress
from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.canonical import scan
from manifestlog.engines.filelog.canonical.columns import rows_add_up, rows_of
from manifestlog.engines.filelog.canonical.index import Index, IndexDamagedError
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.engines.filelog.history.changes import describe_unreadable
from manifestlog.engines.filelog.log import fold, framing, lines
from manifestlog.engines.filelog.log.framing import Piece
from manifestlog.engines.filelog.log.lines import LogEntry, SegmentHeader, Summary
from manifestlog.engines.filelog.log.moved import Moved, Search, records_in
from manifestlog.engines.filelog.log.segment import explained_by_crash
from manifestlog.engines.filelog.recovery.check_history import HistoryCheck
from manifestlog.engines.filelog.state import fingerprint
from manifestlog.engines.reports import DAMAGE, NOTE, CheckReport, Finding
from manifestlog.errors import DamagedManifestError, HistoryUnavailableError, ManifestNotFoundError, NotAManifestError
from manifestlog.files import disk
from manifestlog.names import ManifestPaths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.engines.filelog.canonical.columns import Block
    from manifestlog.model.rows import Row

_TRIES = 10
_IGNORED = "it is ignored; the next opening that may write rebuilds it"


@dataclass(slots=True)
class _Segment:
    """What was read of one segment; its lines are not kept."""

    path: str
    opening: SegmentHeader
    declared: Summary | None
    """What the next segment states about this one; only lines up to that length are counted."""
    bases: fold.CanonicalIds
    lines: int = 0
    length: int = 0
    counted: int = 0
    chain: int = 0
    damage: list[Piece] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    """The first moved line in each damaged range that contains one; copies are left out."""
    beyond: int = 0
    """Number of records in intact lines after the first damage."""
    synced: int = 0
    sealed_end: int | None = None
    torn_at: int | None = None

    def count(self, piece: Piece, line: bytes) -> None:
        self.lines += 1
        if self.damage:
            self.beyond += records_in(line)
        if self.declared is not None and piece.offset < self.declared.length:
            self.length, self.counted = piece.end, self.counted + 1
            self.chain = crc32(checksums.line_crc(line), self.chain)

    def note_moved(self, found: Iterable[Moved]) -> None:
        """Record lines that were moved into the last damaged range."""
        first = None
        for moved in found:
            first = first or moved
            self.beyond += records_in(moved.line)
        if first is not None and not (self.moved and self.moved[-1].place >= self.damage[-1].offset):
            self.moved.append(first)

    def summary(self) -> Summary:
        return lines.summarise(self.opening.segment, self.length, self.counted, self.chain, self.damage)


class _Read(NamedTuple):
    """A canonical that was read whole: its metadata, its size and CRC, and whether the index agrees."""

    metadata: Row
    identity: tuple[int, str]
    index_agrees: bool


def check(paths: ManifestPaths) -> CheckReport:
    """Check everything that belongs to this manifest.

    Raises `ManifestNotFoundError` if there is nothing, and `NotAManifestError` for JSON of another shape without a log
    or index beside it. A concurrent compaction looks like damage, so the check is repeated while the files change.
    """
    for attempt in range(1, _TRIES + 1):
        before = _fingerprint(paths)
        try:
            report = _check_once(paths)
        except ManifestNotFoundError:
            raise
        except FileNotFoundError:
            if attempt == _TRIES or _fingerprint(paths) == before:
                raise
            continue
        if not report.damaged or _fingerprint(paths) == before:
            break
    return report


def _fingerprint(paths: ManifestPaths) -> tuple[object, list[str]]:
    """Return what a concurrent compaction changes."""
    names: list[str] = []
    with suppress(HistoryUnavailableError, FileNotFoundError):  # the manifest's own directory may be missing
        names = sorted(history_folder.names(paths))
    return fingerprint(paths), names


def _check_once(paths: ManifestPaths) -> CheckReport:
    report = CheckReport(paths.canonical)
    names = disk.list_names(paths.directory) if disk.exists(paths.directory) else []
    numbers = paths.segment_numbers(names)
    if not numbers and not disk.exists(paths.canonical):
        raise ManifestNotFoundError(paths.canonical)
    index = _open_index(paths, report)
    read = _check_canonical(paths, index, report)
    _check_log(paths, numbers, read, report)
    if index is not None and read is not None and _is_of(index, paths, read, report):
        _judge_index(paths, index, read, report)
        if index.head.covers and not numbers:
            _judge_missing_log(index, paths, report)
    created = read.metadata["ts_created"] if read is not None else None
    check_history(paths, created, report)
    for left in paths.temporaries(names):
        report.note(left, None, "unfinished file of a process that died; a later writer removes it")
    return report


def check_history(paths: ManifestPaths, ts_created: str | None, report: CheckReport) -> HistoryCheck:
    """Check the history, with the time of the manifest's creation, or, if the canonical is damaged, as its segments state it."""
    found = HistoryCheck(paths, ts_created, report)
    found.run()
    return found


# -- the canonical file ------------------------------------------------------------------------------------------------


class _Comparison:
    """Compares the canonical's records with the index, block by block, without keeping either.

    The index has the canonical's order, so record n is compared with record n. Its source rows have another order, so
    both sides sum up a 64-bit hash of each row: looking up each row would take a search and a bucket check.
    """

    def __init__(self, index: Index | None) -> None:
        self._index = index
        self.count = 0
        self.agrees = index is not None

    def take(self, blocks: Iterator[Block], end: int) -> _Comparison:
        self.count = 0
        if self._index is None:
            for block in blocks:
                self.count += len(block.crcs)
        else:
            self.agrees = self._compare(self._index, blocks, end)
        return self

    def _compare(self, index: Index, blocks: Iterator[Block], end: int) -> bool:
        number = rows = total = 0
        agrees = True
        for block in blocks:
            agrees = agrees and index.has_block(number, block)
            found = rows_of(block.source_rows)
            total += sum(map(hash, found))
            rows += len(found)
            number += len(block.crcs)
        self.count = number
        return agrees and index.ends_at(number, end) and rows_add_up(index.source_rows(), rows, total)


def _check_canonical(paths: ManifestPaths, index: Index | None, report: CheckReport) -> _Read | None:
    try:
        source = Canonical(paths.canonical, disk.open_read(paths.canonical))
    except FileNotFoundError:
        report.damage(paths.canonical, None, "the canonical file is missing, but its log exists")
        return None
    comparison = _Comparison(index)
    try:
        metadata, _, crc = scan.fold(source, comparison.take)
    except DamagedManifestError as error:
        if isinstance(error, NotAManifestError) and _is_alone(paths):
            raise
        report.damage(error.path, error.offset, error.reason)
        return None
    report.records = comparison.count
    if source.memory is not None:
        report.note(paths.canonical, 0, "another tool's layout; the next compaction converts it")
    agrees = comparison.agrees and index is not None and (index.head.crc, index.head.metadata) == (crc, metadata)
    return _Read(metadata, (disk.size(source.fd), crc), agrees)


def _is_alone(paths: ManifestPaths) -> bool:
    """Return whether neither a log nor an index lies beside the canonical file."""
    return not paths.segment_numbers(disk.list_names(paths.directory)) and not disk.exists(paths.index)


# -- the log -----------------------------------------------------------------------------------------------------------


def _check_log(paths: ManifestPaths, numbers: list[int], read: _Read | None, report: CheckReport) -> None:
    openings = {number: _opening(paths, number, read, report) for number in numbers}
    last: _Segment | None = None
    for number, opening in openings.items():
        last = None
        if opening is not None:
            successor = openings.get(number + 1)
            last = _read(paths.segment(number), opening, successor.previous if successor else None, report)
            report.log_lines += last.lines
            _classify_damage(last, report)
    report.segments = len(numbers)
    if last is not None and read is not None:
        _check_base(paths, numbers, last, read, report)


def _opening(paths: ManifestPaths, number: int, read: _Read | None, report: CheckReport) -> SegmentHeader | None:
    path = paths.segment(number)
    fd = disk.open_read(path)
    try:
        first = disk.read(fd, disk.BLOCK_BYTES, 0).partition(b"\n")[0]
    finally:
        disk.close(fd)
    opening = lines.decode_header(first, path)
    if opening is None:
        report.damage(path, 0, "the segment's first line is damaged, so the rest cannot be checked")
        return None
    belongs = (opening.manifest, opening.segment) == (paths.name, number)
    if not belongs or (read is not None and opening.ts_created != read.metadata["ts_created"]):
        whose = f"another manifest, {opening.manifest!r}, created at {opening.ts_created}"
        report.damage(path, 0, f"this is segment {opening.segment} of {whose}")
        return None
    return opening


def _read(path: str, opening: SegmentHeader, declared: Summary | None, report: CheckReport) -> _Segment:
    segment = _Segment(path, opening, declared, opening.bases)
    fd = disk.open_read(path)
    try:
        end = disk.size(fd)
        position = 0
        search = Search(fd, opening.salt)
        for piece in framing.pieces(progress.over(disk.blocks(fd, 0, end), path, end), opening.salt):
            position = piece.end
            if piece.line is None:
                segment.damage[-1:] = framing.with_damage(segment.damage[-1:], [piece])
                segment.note_moved(search.lost_within(piece.offset, piece.end))
            elif piece.offset == 0:
                segment.count(piece, piece.line)
            else:
                _take(segment, piece, piece.line, report)
        if position < end:
            rest = framing.with_damage(segment.damage[-1:], [Piece(position, end, None, terminated=False)])
            moved = list(search.lost_within(position, end))
            if moved:
                segment.damage[-1:] = rest
                segment.note_moved(moved)
            else:
                segment.torn_at = position
    finally:
        disk.close(fd)
    return segment


def _take(segment: _Segment, piece: Piece, line: bytes, report: CheckReport) -> None:
    try:
        op: LogEntry = lines.usual_put(line) or lines.decode(line)
        segment.count(piece, line)
        segment.synced = max(segment.synced, op.data.get("synced", 0))
        if op.kind == "seal":
            segment.sealed_end = piece.end + (not piece.terminated)
        segment.bases = fold.after(segment.bases, op)
    except (ValueError, KeyError, TypeError) as error:
        report.damage(segment.path, piece.offset, f"the line has a valid CRC but invalid content ({error})")
        return
    if (meaning := describe_unreadable(line)) is not None:
        report.note(segment.path, piece.offset, meaning)


def _classify_damage(segment: _Segment, report: CheckReport) -> None:
    """Report a segment's damaged ranges: as notes if a crash explains them, else as damage."""
    declared = segment.declared
    as_declared = declared is None or lines.matches(declared, segment.summary(), segment.damage)
    if declared is not None and not as_declared:
        report.damage(
            segment.path,
            declared.length,
            f"contents do not match the summary in segment {declared.segment + 1}: lines are missing or changed",
        )
    for piece in segment.damage:
        count = piece.end - piece.offset
        moved = next((one for one in segment.moved if piece.offset <= one.place < piece.end), None)
        if moved is not None:
            beyond = f"{segment.beyond} good records follow the first damage"
            report.damage(segment.path, piece.offset, f"{moved.describe()}; {beyond}")
        elif (
            declared is not None
            and piece.offset >= declared.length
            and explained_by_crash(piece, 0, segment.sealed_end)
        ):
            report.note(
                segment.path, piece.offset, f"{count} bytes after the segment's end, which a later segment fenced off"
            )
        elif as_declared and explained_by_crash(piece, segment.synced, segment.sealed_end):
            report.note(segment.path, piece.offset, f"{count} bytes damaged by a crash before they were acknowledged")
        else:
            report.damage(segment.path, piece.offset, f"{count} bytes differ from what was written")
    if segment.torn_at is not None:
        report.note(
            segment.path, segment.torn_at, "an unfinished last line: it is being written, or was torn by a crash"
        )


def _check_base(paths: ManifestPaths, numbers: list[int], last: _Segment, read: _Read, report: CheckReport) -> None:
    """Check that the log names this canonical, and that every segment that it does not cover is there."""
    covers = fold.covered_by(last.bases, read.identity)
    if covers is None:
        interrupted = ", or a repair was interrupted before publishing it" if fold.begins_anew(last.opening) else ""
        meaning = f"the log does not belong to this file: it was edited, replaced or truncated{interrupted}"
        report.damage(paths.canonical, 0, meaning)
        return
    for number in range(covers + 1, numbers[-1]):
        if number not in numbers:
            report.damage(
                paths.segment(number), None, f"segment {number} is missing, and the canonical does not cover it"
            )
    for number in numbers:
        if number <= covers:
            report.note(
                paths.segment(number),
                None,
                "the canonical covers this segment; the next compaction moves it to the history",
            )


# -- the index ---------------------------------------------------------------------------------------------------------


def _open_index(paths: ManifestPaths, report: CheckReport) -> Index | None:
    """Open the index; report one that cannot be read, and return None."""
    if not disk.exists(paths.index):
        return None
    index = Index.open(paths.index)
    if index is None:
        report.note(paths.index, 0, f"not readable as an index; {_IGNORED}")
        return None
    return index


def _is_of(index: Index, paths: ManifestPaths, read: _Read, report: CheckReport) -> bool:
    if index.head.stamp == disk.path_stamp(paths.canonical) or (index.head.stamp.size, index.head.crc) == read.identity:
        return True
    report.note(paths.index, 0, f"made for another canonical; {_IGNORED}")
    return False


def _judge_missing_log(index: Index, paths: ManifestPaths, report: CheckReport) -> None:
    level, meaning = DAMAGE, f"the log is missing: segment {index.head.covers} was not its last"
    if index.head.stamp != disk.path_stamp(paths.canonical):
        level, meaning = NOTE, "this copy came without its log; changes in the original's log are not in it"
    report.findings.append(Finding(level, paths.segment(index.head.covers + 1), None, meaning))


def _judge_index(paths: ManifestPaths, index: Index, read: _Read, report: CheckReport) -> None:
    try:
        index.check_all()
    except IndexDamagedError as error:
        report.note(paths.index, None, f"damaged ({error}); lookups read the canonical instead")
        return
    if not read.index_agrees:
        report.damage(paths.index, None, "it differs from the canonical; `repair` rebuilds it")
    elif not index.is_as_written():
        report.note(paths.index, None, "unused bytes of the index differ from what was written (harmless)")
