"""Computes new times for observations in the future: pure functions of rows and times.

Invariants:

- The corrected observations keep their order, one microsecond apart.
- No content or observation is lost. Only times change.

It reads no clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from manifestlog.model.rows import Row, build_row, observations, source_key, utc_text

SLACK_S = 60.0
"""A time is in the future if it is further ahead than this, because clocks of hosts differ a little."""

_US = timedelta(microseconds=1)


class Retimed(NamedTuple):
    """An observation with a corrected time."""

    source_id: str
    dataset: str
    checksum: str
    before: str
    after: str


def horizon(now: datetime) -> str:
    """Return the time after which a time is in the future, in the form of `rows.sort_key`."""
    return utc_text(now + timedelta(seconds=SLACK_S))[:-1]


def new_times(ahead: list[str], believable: str | None, now: datetime, *, keep_current: bool) -> list[str]:
    """Return the new times of a source's observations in the future, which are given in order.

    A live download gets a time one microsecond after the current record. So if two times are one microsecond apart, the
    clock was right again for the second, and these observations are the latest. Otherwise the observation with the time
    `believable` counts as later, and the others go just before it; the next run asks the server anyway. `keep_current`
    makes them the latest.
    """
    moments = [_moment(text) for text in ahead]
    are_latest = keep_current or believable is None or any(after - before == _US for before, after in pairwise(moments))
    count = len(moments)
    if not are_latest and believable is not None:
        first = _moment(believable) - count * _US
    else:
        first = now - (count - 1) * _US
        if believable is not None:
            first = max(first, _moment(believable) + _US)
    return [utc_text(first + number * _US) for number in range(count)]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def with_times(row: Row, times: dict[tuple[str, str], str]) -> Row:
    """Return the row with these times for the observations of these sources."""
    seen = [
        {name: value for name, value in one.items() if name != "tie"} | {"ts_downloaded": times[source_key(one)]}
        if source_key(one) in times
        else one
        for one in observations(row)
    ]
    return build_row(row, seen)
