"""What can be saved of a damaged manifest, and what is lost: canonical, log and index weighed against each other.

Invariants:

- Of a damaged canonical, a record whose CRC the index knows counts only with that CRC. Of one that is valid JSON every
  record counts, also one that somebody changed by hand.
- Segments that the canonical holds already are replayed only where that can bring nothing back: over a canonical that
  the log does not know if not a line of them is missing, else under it.
- Whatever may be lost is named by file, offset and bytes, never passed over; a loss that another file makes good is none.

It reads, and writes nothing (`repair`).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog import disk
from manifestlog.engines.filelog.canonical import layout, write
from manifestlog.engines.filelog.canonical.index import Index, IndexDamagedError
from manifestlog.engines.filelog.log import fold
from manifestlog.engines.filelog.log.lines import Base
from manifestlog.engines.filelog.recovery import salvage_canonical, salvage_log
from manifestlog.engines.filelog.recovery.salvage import Salvage
from manifestlog.model.rows import PROCESSES, Row, utc_text

if TYPE_CHECKING:
    from manifestlog.engines.filelog.log.lines import Summary
    from manifestlog.engines.filelog.overlay import Overlay
    from manifestlog.engines.filelog.recovery.salvage_canonical import Gap
    from manifestlog.engines.filelog.recovery.salvage_log import Salvaged as Segment
    from manifestlog.names import ManifestPaths

_UNDONE = "what was written there is lost, and a record that was forgotten there may be back"


_SMALLEST = write.render(
    dict.fromkeys(layout.METADATA, ""),
    [
        (
            "0" * 64,
            b'{"source_id":"a","dataset":"a","checksum":"","file_path":"","file_size":1,"etag":null,"version":""}',
        )
    ],
)
"""No canonical with a record in it is smaller."""


def look(paths: ManifestPaths) -> Salvage:
    """Read everything that lies on disk of this manifest.

    Raises `NewerFormatError` for a log that this version does not understand.
    """
    found = Salvage({})
    file_numbers = paths.segment_numbers(disk.list_names(paths.directory))
    read = [salvage_log.read(paths.segment(number), number) for number in file_numbers]
    found.source = salvage_canonical.read(paths.canonical)
    found.files = [paths.segment(number) for number in file_numbers]
    index = _whole_index(paths)
    identity = _identity(paths, read, found.source)
    found.created = identity[1] if identity is not None else None
    segments = _ours(read, identity, found)
    bases = _bases(segments, found.source)
    found.segments = file_numbers
    found.last_number = _last_number(file_numbers, segments, index, bases)
    if found.source is not None:
        found.files.append(paths.canonical)
        if _is_anothers(found.source, identity, bases, index):
            size = found.source.identity[0]
            found.lose(paths.canonical, 0, size, "this is another manifest's canonical: its records are left out")
            found.source = None
    covered = _covers(found.source, bases, index)
    if covered.base is not None and index is not None:
        made_for = index.head.stamp.size, index.head.crc
        index = index if made_for == covered.base.identity else None
    _weigh_log(paths, found, segments, covered)
    _weigh_canonical(paths, found, index, bases, covered)
    found.metadata = _complete(paths, found, segments, index, covered)
    return found


def _whole_index(paths: ManifestPaths) -> Index | None:
    index = Index.open(paths.index)
    try:
        if index is not None:
            index.check_all()
    except IndexDamagedError:
        return None
    return index


# -- whose files these are ---------------------------------------------------------------------------------------------


def _identity(
    paths: ManifestPaths, read: list[Segment], source: salvage_canonical.Salvaged | None
) -> tuple[str, str] | None:
    """(name, time of creation) of the manifest, as the first lines of its log say it; most of them, if they differ."""
    votes: Counter[tuple[str, str]] = Counter()
    for segment in read:
        if segment.opening is not None:
            pair = segment.opening.manifest, segment.opening.ts_created
            votes[pair] += 1
            if pair[0] == paths.name:
                votes[pair] += 1
            if source is not None and fold.covered_by(segment.bases, source.identity) is not None:
                votes[pair] += len(read) * 3
    return votes.most_common(1)[0][0] if votes else None


def _ours(read: list[Segment], identity: tuple[str, str] | None, found: Salvage) -> dict[int, Segment]:
    """The segments of this manifest by their own numbers."""
    ours: dict[int, Segment] = {}
    for segment in sorted(read, key=lambda s: s.path.endswith(f"-{s.number:06d}.jsonl"), reverse=True):
        opening = segment.opening
        if opening is not None and (opening.manifest, opening.ts_created) != identity:
            whose = f"manifest {opening.manifest!r} created at {opening.ts_created}"
            found.note(segment.path, 0, segment.size, f"this is a segment of {whose}: it is left out")
        elif segment.number in ours:
            found.note(segment.path, 0, segment.size, f"segment {segment.number} once more: it is left out")
        else:
            ours[segment.number] = segment
    return dict(sorted(ours.items()))


def _bases(segments: dict[int, Segment], source: salvage_canonical.Salvaged | None) -> fold.Bases:
    """Which canonicals the log's end names, the latest last."""
    oldest = min(segments, default=0)
    for number, segment in reversed(segments.items()):
        here = source is not None and fold.covered_by(segment.bases, source.identity) is not None
        # A repair's first segment beside those that it was to replace: its canonical has never come.
        stillborn = segment.opening is not None and fold.begins_anew(segment.opening) and not here and number > oldest
        if segment.bases and not stillborn:
            return segment.bases
    return ()


def _last_number(numbers: list[int], segments: dict[int, Segment], index: Index | None, bases: fold.Bases) -> int:
    """The highest number that any segment of this manifest can have had, as far as anything tells."""
    told = [*numbers, *segments, *(s.next for s in segments.values() if s.next), *(base.covers + 1 for base in bases)]
    if index is not None and index.head.covers:
        told.append(index.head.covers + 1)
    return max(told, default=0)


def _is_anothers(
    source: salvage_canonical.Salvaged, identity: tuple[str, str] | None, bases: fold.Bases, index: Index | None
) -> bool:
    """Whether a canonical belongs to another manifest: created at another time, and nothing else speaks for it."""
    told = source.metadata.get("ts_created")
    if identity is None or told is None or told == identity[1]:
        return False
    if any(base.size == source.identity[0] for base in bases):
        return False
    if index is None or not source.count:
        return True
    shared = sum(1 for checksum, _ in source.records() if index.find(bytes.fromhex(checksum)) >= 0)
    return shared * 2 < source.count


class _Covered(NamedTuple):
    """Up to which segment the canonical holds everything, by which of the log's words, and whether it is this very file."""

    last: int
    base: Base | None
    known: bool


def _covers(source: salvage_canonical.Salvaged | None, bases: fold.Bases, index: Index | None) -> _Covered:
    known = fold.covered_by(bases, source.identity) if source is not None and source.whole else None
    if source is not None and known is not None:
        return _Covered(known, Base(*source.identity, known), known=True)
    for base in reversed(bases):
        if source is not None and base.size == source.identity[0]:
            return _Covered(base.covers, base, known=False)
    if bases:
        # Of several, the later ones were announced and may not have come.
        first = min(bases, key=lambda base: base.covers)
        return _Covered(first.covers, first, known=False)
    # No log that says anything: what the canonical says is all there is.
    whole = source is not None and source.whole and index is None
    return _Covered(index.head.covers if index is not None else 0, None, known=whole)


# -- the log -----------------------------------------------------------------------------------------------------------


def _weigh_log(paths: ManifestPaths, found: Salvage, segments: dict[int, Segment], covered: _Covered) -> None:
    needed = {number: segment for number, segment in segments.items() if number > covered.last}
    left = {number: segment for number, segment in segments.items() if number <= covered.last}
    unbroken = list(left) == list(range(min(left, default=0), covered.last + 1)) if left else True
    for number in sorted(left.keys() | needed.keys()):
        sound = _weigh_segment(found, segments[number], segments.get(number + 1), covered)
        unbroken = unbroken and (sound or number > covered.last)
    for number in range(covered.last + 1, found.last_number + 1):
        if number not in segments:
            doubt = " (or a crash kept it from being made)" if _may_never_have_been(number, segments) else ""
            found.lose(paths.segment(number), None, None, f"segment {number} is missing{doubt}: {_UNDONE}")
    if not covered.known:
        for number, segment in left.items():
            _replay(segment, number, found.over if unbroken else found.under)
    for number, segment in needed.items():
        _replay(segment, number, found.over)


def _may_never_have_been(number: int, segments: dict[int, Segment]) -> bool:
    """Whether this is the segment behind the last one, which is sealed: there is a moment when it is not there yet."""
    before = segments.get(number - 1)
    return number > max(segments, default=0) and before is not None and before.next == number


def _replay(segment: Segment, number: int, into: Overlay) -> None:
    for op in salvage_log.ops(segment):
        if op.puts:
            into.put_all(op.puts, number)
        elif op.kind == "forget":
            into.forget(op.data["checksum"], number)


def _weigh_segment(found: Salvage, segment: Segment, successor: Segment | None, covered: _Covered) -> bool:
    """Say what is missing of one segment; true when nothing is."""
    told = successor.opening.previous if successor is not None and successor.opening is not None else None
    covered_whole = covered.known and segment.number <= covered.last
    sound = True
    for piece in segment.damage if segment.moved else ():
        count = piece.end - piece.offset
        found.note(
            segment.path, piece.offset, count, "lines that were moved here, or bytes that are no line of this segment"
        )
    for piece in segment.missing:
        why = salvage_log.harmless(segment, piece, told)
        if why is None and covered_whole:
            why = "not what was written; the canonical holds all of this segment"
        if why is not None:
            found.note(segment.path, piece.offset, piece.end - piece.offset, why)
            continue
        sound = False
        wrong = "lines that were written here are missing" if segment.moved else "not what was written"
        meaning = f"{wrong}: {_UNDONE}"
        found.lose(segment.path, piece.offset, piece.end - piece.offset, meaning, segment.named.get(piece.offset))
    if segment.torn_at is not None and (told is None or told.length <= segment.torn_at):
        found.note(segment.path, segment.torn_at, segment.size - segment.torn_at, "an unfinished line, torn by a crash")
    return _weigh_end(found, segment, told, covered_whole=covered_whole) and sound


def _weigh_end(found: Salvage, segment: Segment, told: Summary | None, *, covered_whole: bool) -> bool:
    reach = segment.end if segment.moved else segment.size
    if told is not None and told.length > reach >= (told.synced or told.length):
        found.note(segment.path, reach, 0, "cut behind a sync that failed, never acknowledged")
        return True
    if told is not None and told.length > reach:
        count: int | None = told.length - reach
        meaning = f"the file was cut: {_UNDONE}"
    elif told is None and not segment.next and segment.number < max(found.segments):
        count, meaning = None, "nothing tells where this segment ended: it may have been cut"
    else:
        return True
    if not covered_whole:
        found.lose(segment.path, reach, count, meaning)
    return False


# -- the canonical -----------------------------------------------------------------------------------------------------


def _weigh_canonical(
    paths: ManifestPaths, found: Salvage, index: Index | None, bases: fold.Bases, covered: _Covered
) -> None:
    source = found.source
    if source is not None and covered.known:
        return
    if source is not None and not source.whole:
        found.index = index
    if index is not None:
        _compare(paths, found, index)
    elif source is None:
        _weigh_missing(paths, found, bases)
    elif source.whole:
        found.lose(
            paths.canonical, None, None, "edited, swapped or cut: without its index nobody can tell what was changed"
        )
    else:
        _weigh_gaps(paths, found, source)


def _compare(paths: ManifestPaths, found: Salvage, index: Index) -> None:
    """What of the canonical that the index was made for is missing now, and what is another than it was."""
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
        meaning = f"{len(changed)} records were changed; they are kept as they stand here"
        found.lose(paths.canonical, None, None, meaning, changed)
    _lose_absent(paths, found, index, here)


def _lose_absent(paths: ManifestPaths, found: Salvage, index: Index, here: bytearray) -> None:
    """Name the records that are not there, those in a row together."""
    run: list[str] = []
    start = 0
    for number in range(index.count + 1):
        absent = number < index.count and not here[number] and not found.has(index.digest(number).hex())
        if absent:
            start = start if run else index.place(number)[0]
            run.append(index.digest(number).hex())
        elif run:
            end = index.place(number)[0] if number < index.count else index.place(number - 1)[1]
            found.lose(paths.canonical, start, end - start, f"{len(run)} records are lost", run)
            run = []


def _weigh_missing(paths: ManifestPaths, found: Salvage, bases: fold.Bases) -> None:
    if bases and min(base.covers for base in bases) == 0 and bases[0].size < len(_SMALLEST):
        found.note(paths.canonical, None, None, "missing; it held no record, and the log has everything since")
        return
    told = f"with everything up to segment {bases[0].covers}" if bases else "and no log says what it held"
    size = bases[-1].size if bases else None
    found.lose(paths.canonical, 0, size, f"it is missing {told}: only what the log says is left")


def _weigh_gaps(paths: ManifestPaths, found: Salvage, source: salvage_canonical.Salvaged) -> None:
    total = source.metadata.get("total_records")
    if total is not None and 0 < total <= source.count:
        found.note(paths.canonical, None, None, f"all {source.count} records that it counts were read one by one")
        return
    for gap in source.gaps:
        if not _made_good(found, gap, source):
            named = [checksum for checksum in gap.named if not found.has(checksum)]
            found.lose(paths.canonical, gap.offset, gap.end - gap.offset, "no record can be read here", named)
    if total is not None and total > source.count and not found.lost:
        found.lose(paths.canonical, source.identity[0], None, f"{total - source.count} records of {total} are lost")


def _made_good(found: Salvage, gap: Gap, source: salvage_canonical.Salvaged) -> bool:
    """Whether nothing is lost with this stretch: it is the file's head, or the log has all that it names."""
    if gap.offset == 0 and not gap.named:
        return layout.METADATA[0] in source.metadata
    return bool(gap.named) and all(found.has(checksum) for checksum in gap.named)


# -- the metadata ------------------------------------------------------------------------------------------------------


def _complete(
    paths: ManifestPaths, found: Salvage, segments: dict[int, Segment], index: Index | None, covered: _Covered
) -> Row:
    """The metadata from whatever still tells it; what nobody tells is made up, and said to be."""
    row: Row = dict(index.head.metadata) if index is not None else {}
    if found.source is not None:
        told = found.source.metadata
        if not covered.known:
            told = _without_strangers(paths, found, told, row)
        row = row | told if found.source.whole else told | row
    if found.created is not None:
        row["ts_created"] = found.created
    for number, segment in segments.items():
        for op in salvage_log.ops(segment) if number > covered.last or not covered.known else ():
            if op.kind == "meta":
                row |= op.data["metadata"]
    guesses = _guesses(paths)
    found.made_up = [name for name in ("process", "etl_version", "root_dir", "ts_created") if name not in row]
    if found.made_up:
        made_up = ", ".join(f"{name} (now {guesses[name]!r})" for name in found.made_up)
        found.lose(paths.canonical, 0, None, f"metadata that nothing tells any more was made up: {made_up}")
    return {name: row.get(name, guesses[name]) for name in layout.METADATA} | row


def _without_strangers(paths: ManifestPaths, found: Salvage, told: Row, known: Row) -> Row:
    """Metadata without members that nobody knows: one whose name was hit is still a member, but none that was written."""
    strangers = [name for name in told if name not in layout.METADATA and name not in known]
    if strangers:
        found.note(paths.canonical, 0, None, f"unknown metadata is left out: {', '.join(strangers)}")
    return {name: value for name, value in told.items() if name not in strangers}


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
