"""The trigger rule: decides when a compaction is due.

Invariants:

- The rule is a pure function of the log's status, the options and the time.
- Periodic compactions take at most about 1 % of the time: each waits 100 times as long as the last one took.

It does not compact (`steps`) and starts no thread (`background`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.engines.reports import LogStatus

if TYPE_CHECKING:
    from manifestlog.engines.filelog.session import Session
    from manifestlog.engines.filelog.state import State
    from manifestlog.options import ManifestOptions

COMPACTION_SHARE = 100
"""A periodic compaction waits this many times as long as the last one took, even if it failed: at most 1 % of the time."""


def log_status(session: Session) -> LogStatus:
    """Return the state of the log: its sizes, and since when it has changes to merge."""

    def look(state: State) -> LogStatus:
        size, wal_ = state.base.canonical_bytes, state.wal
        if wal_ is None:
            return LogStatus(size, 0, 0, 0, None, "", 0.0)
        return LogStatus(
            size,
            wal_.bytes_total,
            wal_.bytes_to_merge,
            wal_.segments,
            wal_.changed_since,
            wal_.compacted_at,
            wal_.compaction_s,
        )

    return session.read(look)


def seconds_until_due(status: LogStatus, options: ManifestOptions, now: datetime) -> float:
    """Return the seconds until a compaction is due; infinite if there is nothing to merge."""
    if status.changed_since is None:
        return float("inf")
    if status.bytes_to_merge >= options.log_bytes_limit(status.canonical_bytes):
        return 0.0
    waits = [_age(status.changed_since, now, options.compact_interval_s)]
    if status.compacted_at:
        waits.append(_age(status.compacted_at, now, COMPACTION_SHARE * status.compaction_s))
    return max(0.0, *waits)


def _age(since: str, now: datetime, wanted_s: float) -> float:
    age_s = (now - datetime.fromisoformat(since)).total_seconds()
    # A time in the future means that the clock was set back: a compaction too early is better than none for a day.
    return wanted_s - age_s if age_s >= 0 else 0.0


def is_compaction_due(session: Session) -> bool:
    """Return whether a compaction is due now."""
    return seconds_until_due(log_status(session), session.options, datetime.now(UTC)) <= 0
