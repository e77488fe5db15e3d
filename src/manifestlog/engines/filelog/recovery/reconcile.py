"""Compares canonical file, log and index of a damaged manifest, and decides what can be saved and what is lost.

Invariants:

- In a damaged canonical file, a record whose CRC the index knows counts only with that CRC. In a canonical file that is
  valid JSON, every record counts, including records edited by hand.
- Covered segments are replayed only if the log does not name the canonical file: over it if none of their lines is
  missing, otherwise under it, so that no forgotten record comes back.
- Every possible loss is reported with file, offset and bytes. If another file has the same data, nothing is lost.

It only reads; `repair` writes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.engines.filelog.log import lines
from manifestlog.engines.filelog.recovery import salvage_log
from manifestlog.engines.filelog.recovery.evidence import Evidence, collect
from manifestlog.engines.filelog.recovery.salvage import Salvage
from manifestlog.files import disk
from manifestlog.model import document
from manifestlog.model.rows import PROCESSES, Row, utc_text

if TYPE_CHECKING:
    from manifestlog.engines.filelog.canonical.index import Index
    from manifestlog.engines.filelog.log.lines import Summary
    from manifestlog.engines.filelog.overlay import Overlay
    from manifestlog.engines.filelog.recovery.salvage_canonical import Gap, Salvaged as CanonicalFile
    from manifestlog.engines.filelog.recovery.salvage_log import Salvaged as Segment
    from manifestlog.names import ManifestPaths

_UNDONE = "its changes are lost, and records that it had removed may reappear"
_SMALLEST = document.render(
    dict.fromkeys(document.METADATA, ""),
    [
        (
            "0" * 64,
            b'{"source_id":"a","dataset":"a","checksum":"","file_path":"","file_size":1,"etag":null,"version":""}',
        )
    ],
)
"""The smallest canonical with a record in it."""


def salvage_all(paths: ManifestPaths) -> Salvage:
    """Read all files of this manifest and return what can be saved.

    Raises `NewerFormatError` for a log in a newer format.
    """
    found = Salvage({})
    evidence = collect(paths, found)
    _reconcile_log(evidence, found)
    _reconcile_canonical(evidence, found)
    found.metadata = _reconcile_metadata(evidence, found)
    return found


# -- the log -----------------------------------------------------------------------------------------------------------


def _reconcile_log(evidence: Evidence, found: Salvage) -> None:
    sound = _judge_segments(evidence, found)
    _name_missing_segments(evidence, found)
    _replay_segments(evidence, found, unbroken=_is_unbroken(evidence, sound))


def _judge_segments(evidence: Evidence, found: Salvage) -> set[int]:
    """Report what is missing from each segment; return the numbers of the complete ones."""
    sound: set[int] = set()
    for number, segment in evidence.segments.items():
        declared = _declared(evidence.segments.get(number + 1))
        covered_whole = evidence.covered.known and number <= evidence.covered.last
        if _judge_segment(found, segment, declared, covered_whole=covered_whole):
            sound.add(number)
    return sound


def _declared(successor: Segment | None) -> Summary | None:
    """Return what a segment's successor states about it."""
    return successor.opening.previous if successor is not None and successor.opening is not None else None


def _is_unbroken(evidence: Evidence, sound: set[int]) -> bool:
    """Return whether no line is missing from the covered segments, starting with the oldest that is present."""
    numbers = evidence.covered_numbers
    expected = range(numbers[0], evidence.covered.last + 1) if numbers else ()
    return numbers == list(expected) and sound.issuperset(numbers)


def _name_missing_segments(evidence: Evidence, found: Salvage) -> None:
    for number in range(evidence.covered.last + 1, found.last_number + 1):
        if number not in evidence.segments:
            doubt = " (or a crash prevented its creation)" if _may_never_have_been(number, evidence.segments) else ""
            missing = f"segment {number} is missing{doubt}: {_UNDONE}"
            found.lose(evidence.paths.segment(number), None, None, missing)


def _may_never_have_been(number: int, segments: dict[int, Segment]) -> bool:
    """Return whether this number follows the last segment and that is sealed: a crash may come before its creation."""
    before = segments.get(number - 1)
    return number > max(segments, default=0) and before is not None and before.next == number


def _replay_segments(evidence: Evidence, found: Salvage, *, unbroken: bool) -> None:
    if not evidence.covered.known:
        for number in evidence.covered_numbers:
            _replay(evidence.segments[number], number, found.over if unbroken else found.under)
    for number in evidence.needed_numbers:
        _replay(evidence.segments[number], number, found.over)


def _replay(segment: Segment, number: int, into: Overlay) -> None:
    for op in salvage_log.ops(segment):
        if op.puts:
            into.put_all(op.puts, number)
        for checksum in lines.forgotten(op):
            into.forget(checksum, number)


def _judge_segment(found: Salvage, segment: Segment, declared: Summary | None, *, covered_whole: bool) -> bool:
    """Report what is missing from one segment; return whether it is complete."""
    sound = True
    for piece in segment.damage if segment.moved else ():
        count = piece.end - piece.offset
        found.note(segment.path, piece.offset, count, "moved lines, or bytes that are not a line of this segment")
    for piece in segment.missing:
        why = salvage_log.harmless(segment, piece, declared)
        if why is None and covered_whole:
            why = "bytes differ from what was written; the canonical covers this segment"
        if why is not None:
            found.note(segment.path, piece.offset, piece.end - piece.offset, why)
            continue
        sound = False
        wrong = "lines are missing here" if segment.moved else "bytes differ from what was written"
        meaning = f"{wrong}: {_UNDONE}"
        found.lose(segment.path, piece.offset, piece.end - piece.offset, meaning, segment.named.get(piece.offset))
    if segment.torn_at is not None and (declared is None or declared.length <= segment.torn_at):
        found.note(segment.path, segment.torn_at, segment.size - segment.torn_at, "an unfinished line, torn by a crash")
    return _judge_end(found, segment, declared, covered_whole=covered_whole) and sound


def _judge_end(found: Salvage, segment: Segment, declared: Summary | None, *, covered_whole: bool) -> bool:
    reach = segment.end if segment.moved else segment.size
    if declared is not None and declared.length > reach >= (declared.synced or declared.length):
        found.note(segment.path, reach, 0, "truncated after a failed sync; never acknowledged")
        return True
    if declared is not None and declared.length > reach:
        count: int | None = declared.length - reach
        meaning = f"the file was truncated: {_UNDONE}"
    elif declared is None and not segment.next and segment.number < max(found.segments):
        count, meaning = None, "the end of this segment is unknown: it may have been truncated"
    else:
        return True
    if not covered_whole:
        found.lose(segment.path, reach, count, meaning)
    return False


# -- the canonical -----------------------------------------------------------------------------------------------------


def _reconcile_canonical(evidence: Evidence, found: Salvage) -> None:
    source = evidence.canonical
    if source is not None and evidence.covered.known:
        return
    if source is not None and not source.whole:
        found.index = evidence.index
    if evidence.index is not None:
        _compare(evidence.paths, found, evidence.index)
    elif source is None:
        _judge_missing(evidence, found)
    elif source.whole:
        found.lose(
            evidence.paths.canonical,
            None,
            None,
            "edited, replaced or truncated; without its index the changes cannot be found",
        )
    else:
        _judge_gaps(evidence.paths, found, source)


def _compare(paths: ManifestPaths, found: Salvage, index: Index) -> None:
    """Report records that are missing from or changed in the canonical that the index was built for."""
    here = bytearray(index.count)
    changed: list[str] = []
    for checksum, raw in found.source.records() if found.source is not None else ():
        number = index.find(bytes.fromhex(checksum))
        if number >= 0:
            same = crc32(raw) == index.place(number)[2]
            here[number] = same or found.index is None
            if not same and found.index is None and not found.has(checksum):
                changed.append(checksum)
    if changed:
        meaning = f"records changed: {len(changed)}; they are kept as they are"
        found.lose(paths.canonical, None, None, meaning, changed)
    _lose_absent(paths, found, index, here)


def _lose_absent(paths: ManifestPaths, found: Salvage, index: Index, here: bytearray) -> None:
    """Report missing records, consecutive ones as one loss."""
    run: list[str] = []
    start = 0
    for number in range(index.count + 1):
        absent = number < index.count and not here[number] and not found.has(index.digest(number).hex())
        if absent:
            start = start if run else index.place(number)[0]
            run.append(index.digest(number).hex())
        elif run:
            end = index.place(number)[0] if number < index.count else index.place(number - 1)[1]
            found.lose(paths.canonical, start, end - start, f"records lost: {len(run)}", run)
            run = []


def _judge_missing(evidence: Evidence, found: Salvage) -> None:
    paths, bases = evidence.paths, evidence.bases
    if bases and min(base.covers for base in bases) == 0 and bases[0].size < len(_SMALLEST):
        found.note(paths.canonical, None, None, "missing; it had no records, and the log has everything since")
        return
    held = f"with all records up to segment {bases[0].covers}" if bases else "and no log states its contents"
    size = bases[-1].size if bases else None
    found.lose(paths.canonical, 0, size, f"the file is missing, {held}; only the records in the log are left")


def _judge_gaps(paths: ManifestPaths, found: Salvage, source: CanonicalFile) -> None:
    total = source.metadata.get("total_records")
    if total is not None and 0 < total <= source.count:
        found.note(paths.canonical, None, None, f"all of its {source.count} records were recovered")
        return
    for gap in source.gaps:
        if not _made_good(found, gap, source):
            named = [checksum for checksum in gap.named if not found.has(checksum)]
            found.lose(paths.canonical, gap.offset, gap.end - gap.offset, "no record is readable here", named)
    if total is not None and total > source.count and not found.lost:
        found.lose(paths.canonical, source.identity[0], None, f"records lost: {total - source.count} of {total}")


def _made_good(found: Salvage, gap: Gap, source: CanonicalFile) -> bool:
    """Return whether this gap loses nothing: it is the file's head, or the log has every record that it names."""
    if gap.offset == 0 and not gap.named:
        return document.METADATA[0] in source.metadata
    return bool(gap.named) and all(found.has(checksum) for checksum in gap.named)


# -- the metadata ------------------------------------------------------------------------------------------------------


def _reconcile_metadata(evidence: Evidence, found: Salvage) -> Row:
    """Return the metadata from any file that still states it; members that none states are guessed and reported."""
    row = _stated_metadata(evidence, found)
    guesses = _guesses(evidence.paths)
    found.made_up = [name for name in ("process", "etl_version", "root_dir", "ts_created") if name not in row]
    if found.made_up:
        made_up = ", ".join(f"{name} (now {guesses[name]!r})" for name in found.made_up)
        meaning = f"metadata that no file states any more was made up: {made_up}"
        found.lose(evidence.paths.canonical, 0, None, meaning)
    return {name: row.get(name, guesses[name]) for name in document.METADATA} | row


def _stated_metadata(evidence: Evidence, found: Salvage) -> Row:
    """Return the metadata that index, canonical and log state; later statements override earlier ones."""
    row: Row = dict(evidence.index.head.metadata) if evidence.index is not None else {}
    if evidence.canonical is not None:
        stated = evidence.canonical.metadata
        if not evidence.covered.known:
            stated = _without_strangers(evidence.paths, found, stated, row)
        row = row | stated if evidence.canonical.whole else stated | row
    if found.created is not None:
        row["ts_created"] = found.created
    for number in evidence.needed_numbers if evidence.covered.known else evidence.segments:
        for op in salvage_log.ops(evidence.segments[number]):
            if op.kind == "meta":
                row |= op.data["metadata"]
    return row


def _without_strangers(paths: ManifestPaths, found: Salvage, stated: Row, known: Row) -> Row:
    """Drop unknown metadata members: corruption in a key looks like a new member."""
    strangers = [name for name in stated if name not in document.METADATA and name not in known]
    if strangers:
        found.note(paths.canonical, 0, None, f"unknown metadata is left out: {', '.join(strangers)}")
    return {name: value for name, value in stated.items() if name not in strangers}


def _guesses(paths: ManifestPaths) -> Row:
    stamp = disk.path_stamp(paths.canonical)
    written = utc_text(datetime.fromtimestamp(stamp.mtime_ns // 10**9 if stamp is not None else 0, UTC))
    return {
        "process": PROCESSES[0],
        "etl_version": "0",
        "root_dir": paths.directory,
        "total_records": 0,
        "ts_created": written,
        "ts_updated": written,
    }
