"""Collects the evidence for a repair: the segments, canonical file and index that belong to a damaged manifest.

Invariants:

- Files of another manifest are left out and reported.
- An index counts only if it was built for the canonical file that the log names.

It only reads; `reconcile` decides what is lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog.canonical.index import Index, IndexDamagedError
from manifestlog.engines.filelog.log import fold
from manifestlog.engines.filelog.log.lines import CanonicalId
from manifestlog.engines.filelog.recovery import salvage_canonical, salvage_log
from manifestlog.files import disk

if TYPE_CHECKING:
    from manifestlog.engines.filelog.recovery.salvage import Salvage
    from manifestlog.engines.filelog.recovery.salvage_canonical import Salvaged as CanonicalFile
    from manifestlog.engines.filelog.recovery.salvage_log import Salvaged as Segment
    from manifestlog.names import ManifestPaths


class Covered(NamedTuple):
    """The last segment that the canonical covers, the log's statement of it, and whether the file is that canonical."""

    last: int
    base: CanonicalId | None
    known: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything found of one manifest. `segments` are ordered by number."""

    paths: ManifestPaths
    segments: dict[int, Segment]
    covered: Covered
    index: Index | None
    canonical: CanonicalFile | None
    bases: fold.CanonicalIds
    """The canonicals that the log's end names, the latest last."""

    @property
    def covered_numbers(self) -> list[int]:
        """The segments that the canonical covers."""
        return [number for number in self.segments if number <= self.covered.last]

    @property
    def needed_numbers(self) -> list[int]:
        """The segments that the canonical does not cover."""
        return [number for number in self.segments if number > self.covered.last]


def collect(paths: ManifestPaths, found: Salvage) -> Evidence:
    """Read all files of this manifest; files that are left out are noted in `found`.

    Raises `NewerFormatError` for a log in a newer format.
    """
    numbers = paths.segment_numbers(disk.list_names(paths.directory))
    read = [salvage_log.read(paths.segment(number), number) for number in numbers]
    canonical = salvage_canonical.read(paths.canonical)
    found.files = [paths.segment(number) for number in numbers]
    index = _whole_index(paths)
    identity = _identity(paths, read, canonical)
    found.created = identity[1] if identity is not None else None
    segments = _ours(read, identity, found)
    bases = _bases(segments, canonical)
    found.segments = numbers
    found.last_number = _last_number(numbers, segments, index, bases)
    if canonical is not None:
        found.files.append(paths.canonical)
        if _is_anothers(canonical, identity, bases, index):
            size = canonical.identity[0]
            found.lose(paths.canonical, 0, size, "this canonical belongs to another manifest; its records are left out")
            canonical = None
    found.source = canonical
    covered = _covers(canonical, bases, index)
    if covered.base is not None and index is not None:
        made_for = index.head.stamp.size, index.head.crc
        index = index if made_for == covered.base.identity else None
    return Evidence(paths, segments, covered, index, canonical, bases)


def _whole_index(paths: ManifestPaths) -> Index | None:
    index = Index.open(paths.index)
    try:
        if index is not None:
            index.check_all()
    except IndexDamagedError:
        return None
    return index


def _identity(paths: ManifestPaths, read: list[Segment], source: CanonicalFile | None) -> tuple[str, str] | None:
    """Return (name, creation time) of the manifest, by majority of the headers of its segments."""
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
    """Return the segments of this manifest by the numbers in their headers."""
    ours: dict[int, Segment] = {}
    for segment in sorted(read, key=lambda s: s.path.endswith(f"-{s.number:06d}.jsonl"), reverse=True):
        opening = segment.opening
        if opening is not None and (opening.manifest, opening.ts_created) != identity:
            whose = f"another manifest, {opening.manifest!r}, created at {opening.ts_created}"
            found.note(segment.path, 0, segment.size, f"this segment belongs to {whose}; it is left out")
        elif segment.number in ours:
            found.note(segment.path, 0, segment.size, f"a second copy of segment {segment.number}; it is left out")
        else:
            ours[segment.number] = segment
    return dict(sorted(ours.items()))


def _bases(segments: dict[int, Segment], source: CanonicalFile | None) -> fold.CanonicalIds:
    """Return the canonicals that the log's end names, the latest last."""
    oldest = min(segments, default=0)
    for number, segment in reversed(segments.items()):
        here = source is not None and fold.covered_by(segment.bases, source.identity) is not None
        # A repair's first segment beside the segments that it was to replace: its canonical was never published.
        stillborn = segment.opening is not None and fold.begins_anew(segment.opening) and not here and number > oldest
        if segment.bases and not stillborn:
            return segment.bases
    return ()


def _last_number(
    numbers: list[int], segments: dict[int, Segment], index: Index | None, bases: fold.CanonicalIds
) -> int:
    """Return the highest segment number that any file of this manifest implies."""
    known = [*numbers, *segments, *(s.next for s in segments.values() if s.next), *(base.covers + 1 for base in bases)]
    if index is not None and index.head.covers:
        known.append(index.head.covers + 1)
    return max(known, default=0)


def _is_anothers(
    source: CanonicalFile, identity: tuple[str, str] | None, bases: fold.CanonicalIds, index: Index | None
) -> bool:
    """Return whether a canonical belongs to another manifest: another creation time, and no other evidence for it."""
    created = source.metadata.get("ts_created")
    if identity is None or created is None or created == identity[1]:
        return False
    if any(base.size == source.identity[0] for base in bases):
        return False
    if index is None or not source.count:
        return True
    shared = sum(1 for checksum, _ in source.records() if index.find(bytes.fromhex(checksum)) >= 0)
    return shared * 2 < source.count


def _covers(source: CanonicalFile | None, bases: fold.CanonicalIds, index: Index | None) -> Covered:
    known = fold.covered_by(bases, source.identity) if source is not None and source.whole else None
    if source is not None and known is not None:
        return Covered(known, CanonicalId(*source.identity, known), known=True)
    for base in reversed(bases):
        if source is not None and base.size == source.identity[0]:
            return Covered(base.covers, base, known=False)
    if bases:
        # If there are several, the later ones were announced and may never have been published.
        first = min(bases, key=lambda base: base.covers)
        return Covered(first.covers, first, known=False)
    # Without any readable log, the canonical is all there is.
    whole = source is not None and source.whole and index is None
    return Covered(index.head.covers if index is not None else 0, None, known=whole)
