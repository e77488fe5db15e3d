"""What the log's lines say of the canonical: which files may stand in its place, and up to which segment each holds everything.

Invariants:

- A segment's first line states what all segments before it have come to; its own lines go on from there.
- `compacting` announces one more canonical that may come. `compacted` says that it has come and is the only one that counts.
- Where two of them have the same bytes, the later one counts.

No I/O: lines in, values out. Whoever reads a log folds its lines here: a process, a check, a repair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.engines.filelog.log.lines import Base, LogEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.engines.filelog.log.lines import SegmentHeader

Bases = tuple[Base, ...]
"""The canonicals that the log knows, the latest last."""

CHANGES = frozenset({"put", "batch", "forget", "meta"})
"""Lines that change records or metadata: what a compaction merges."""


def after(bases: Bases, op: LogEntry) -> Bases:
    """The canonicals that the log knows behind this line."""
    if op.kind == "compacting":
        return (*bases, stated(op))
    if op.kind == "compacted":
        return (stated(op),)
    return bases


def stated(op: LogEntry) -> Base:
    """The canonical that a `compacting` or `compacted` line is about."""
    return Base(**op.data["base"])


def covered_by(bases: Sequence[Base], identity: tuple[int, str]) -> int | None:
    """The last segment whose changes the canonical of this (size, CRC) holds; None for one that the log does not know."""
    for base in reversed(bases):
        if base.identity == identity:
            return base.covers
    return None


def begins_anew(opening: SegmentHeader) -> bool:
    """Whether a repair has started this segment: its canonical holds all before it, whatever others know of that.

    After a compaction at least the segment in which it is announced lies between the two.
    """
    return any(base.covers == opening.segment - 1 for base in opening.bases) and opening.segment > 1
