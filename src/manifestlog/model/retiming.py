"""Which times the records of a source get that a clock has stamped in the future: pure functions of rows and times.

Invariants:

- The records of the future keep their order among themselves, and are told apart by a microsecond.
- No content and no observation is lost; nothing but times changes.

It reads no clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from manifestlog.model.rows import Row, build_row, observations, source_key, utc_text

SLACK_S = 60.0
"""A time is of the future when it lies further ahead than this: clocks of hosts differ a little."""

_US = timedelta(microseconds=1)


class Retimed(NamedTuple):
    """An observation that gets another time."""

    source_id: str
    dataset: str
    checksum: str
    before: str
    after: str


def horizon(now: datetime) -> str:
    """The time that everything of the future is later than, as it compares with `rows.order_of`."""
    return utc_text(now + timedelta(seconds=SLACK_S))[:-1]


def new_times(ahead: list[str], believable: str | None, now: datetime, *, keep_current: bool) -> list[str]:
    """The new times of a source's observations of the future, given in order, and its latest other one.

    Live downloads are stamped a microsecond after the current record. So where two follow each other like that, the clock
    was right again for the second: they are the latest. Otherwise what has a believable time came later, as far as anything
    tells, and the others go right before it; the next run asks the server anyway. `keep_current` says that they are the latest.
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
    """The row with these times for the observations of these sources."""
    seen = [
        {name: value for name, value in one.items() if name != "tie"} | {"ts_downloaded": times[source_key(one)]}
        if source_key(one) in times
        else one
        for one in observations(row)
    ]
    return build_row(row, seen)
