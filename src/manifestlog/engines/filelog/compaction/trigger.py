"""The trigger rule: decides when a compaction is due.

Invariants:

- The rule is a pure function of the log's status, the options and the time::

      due  =  L >= worth  and  (L >= limit  or  (age >= compact_interval_s  and  rest >= d / compact_time_share))

      L      bytes of the log to merge                 age    time since the oldest of its changes
      d      duration of the last compaction           rest   time since then
      limit  canonical x compact_log_ratio, but at least compact_log_bytes_min and at most compact_log_bytes_max
      worth  (canonical + index) / compact_write_ratio, but at most 2 x limit;
             0 for a canonical file of at most compact_small_bytes

- So it bounds the canonical file's age, the time and the bytes that compactions take, and above all the log's length.
- The last writer to close compacts if L >= worth.

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
            state.base.rewrite_bytes,
        )

    return session.read(look)


def seconds_until_due(status: LogStatus, options: ManifestOptions, now: datetime) -> float:
    """Return the seconds until a compaction is due; infinite if nothing is worth merging yet."""
    if status.changed_since is None or not is_worth_writing(status, options):
        return float("inf")
    if status.bytes_to_merge >= options.log_bytes_limit(status.canonical_bytes, status.rewrite_bytes):
        return 0.0
    waits = [_age(status.changed_since, now, options.compact_interval_s)]
    if status.compacted_at:
        waits.append(_age(status.compacted_at, now, status.compaction_s / options.compact_time_share))
    return max(0.0, *waits)


def is_worth_writing(status: LogStatus, options: ManifestOptions) -> bool:
    """Return whether the log is long enough for what its compaction writes."""
    return status.bytes_to_merge >= options.log_bytes_worth(status.canonical_bytes, status.rewrite_bytes)


def _age(since: str, now: datetime, wanted_s: float) -> float:
    age_s = (now - datetime.fromisoformat(since)).total_seconds()
    # A time in the future means that the clock was set back: a compaction too early is better than none for a day.
    return wanted_s - age_s if age_s >= 0 else 0.0


def is_compaction_due(session: Session) -> bool:
    """Return whether a compaction is due now."""
    return seconds_until_due(log_status(session), session.options, datetime.now(UTC)) <= 0


def is_worth_closing(session: Session) -> bool:
    """Return whether the last writer compacts when it closes."""
    return is_worth_writing(log_status(session), session.options)
