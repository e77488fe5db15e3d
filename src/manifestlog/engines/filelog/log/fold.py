"""Folds log lines into the set of valid canonical files, and the segments that each covers.

Invariants:

- A segment's first line states the result of all earlier segments; its own lines continue from there.
- `compacting` announces one more canonical file that may appear. `compacted` says that it has appeared, and that no
  other is valid.
- If two of them have the same bytes, the later one counts.

It does no I/O. Every reader of a log folds its lines here: a session, a check, a repair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.engines.filelog.log.lines import EVENTS, CanonicalId, LogEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.engines.filelog.log.lines import SegmentHeader

CanonicalIds = tuple[CanonicalId, ...]
"""The canonicals that the log names, the latest last."""

CHANGES = frozenset({"put", "batch", "forget", "meta"})
"""The kinds of lines that change records or metadata; a compaction merges them."""
WRITES = CHANGES | EVENTS
"""The kinds of lines that callers write; a compaction moves them to the history."""


def after(bases: CanonicalIds, op: LogEntry) -> CanonicalIds:
    """Return the canonicals that the log names after this line."""
    if op.kind == "compacting":
        return (*bases, stated(op))
    if op.kind == "compacted":
        return (stated(op),)
    return bases


def stated(op: LogEntry) -> CanonicalId:
    """Return the canonical that a `compacting` or `compacted` line names."""
    return CanonicalId(**op.data["base"])


def covered_by(bases: Sequence[CanonicalId], identity: tuple[int, str]) -> int | None:
    """Return the last segment that the canonical with this (size, CRC) covers; None if the log does not name it."""
    for base in reversed(bases):
        if base.identity == identity:
            return base.covers
    return None


def begins_anew(opening: SegmentHeader) -> bool:
    """Return whether a repair started this segment: then its canonical covers every earlier segment.

    After a compaction this is never so: the segment that announces the canonical is not covered by it.
    """
    return any(base.covers == opening.segment - 1 for base in opening.bases) and opening.segment > 1
