"""Cuts the history: removes the oldest events, except those that the options keep or a registered follower needs.

::

    (a) state how far the history is cut    crash before (a)  nothing has happened
    (b) remove these events                 crash in (b)      readers stop at (a); the next cut removes the rest
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.engines.postgres import reading
from manifestlog.engines.postgres.pages import search
from manifestlog.model import codec
from manifestlog.model.followers import follower

if TYPE_CHECKING:
    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.reading import Feed
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.options import Keep

_EVENTS_AT_ONCE = 10_000
_LARGE = """
    SELECT max(seq) FROM (
        SELECT seq, sum(100 + coalesce(length(body), 0) + coalesce(length(details), 0)) OVER (ORDER BY seq DESC) AS bytes
        FROM manifestlog.log WHERE manifest_id = %s AND seq > %s) l
    WHERE bytes > %s"""
_FOLLOWERS = "SELECT seq, registration FROM manifestlog.follower WHERE manifest_id = %s"
_STATE = """
    UPDATE manifestlog.feed SET cut_seq = l.seq, cut_ts = l.ts FROM manifestlog.log l
    WHERE feed.manifest_id = %s AND l.manifest_id = %s AND l.seq = %s AND feed.cut_seq < l.seq"""
_REMOVE = (
    "DELETE FROM manifestlog.mention WHERE manifest_id = %s AND seq BETWEEN %s AND %s",
    "DELETE FROM manifestlog.log WHERE manifest_id = %s AND seq BETWEEN %s AND %s",
)
_FIRST = "SELECT min(seq) FROM manifestlog.log WHERE manifest_id = %s"


def cut(pool: Pool, manifest_id: int, keep: Keep) -> None:
    """Remove what need not be kept."""
    if keep.age_s is None and keep.bytes_max is None and not keep.off:
        return
    now = datetime.now(UTC)
    end = pool.call(lambda slot: reading.feed(slot, pool.location, manifest_id))
    last = pool.call(
        lambda slot: min(_not_kept(slot, manifest_id, keep, end, now), _not_needed(slot, manifest_id, end, now))
    )
    if last > end.cut_seq:
        pool.call(lambda slot: slot.rows(_STATE, manifest_id, manifest_id, last))
    pool.call(lambda slot: _remove(slot, manifest_id, max(last, end.cut_seq)))


def _not_kept(slot: Slot, manifest_id: int, keep: Keep, end: Feed, now: datetime) -> int:
    """Return the number of the last event that the options do not keep."""
    if keep.off:
        return end.seq
    if keep.bytes_max is not None:
        ((found,),) = slot.rows(_LARGE, manifest_id, end.cut_seq, keep.bytes_max)
        return int(found or end.cut_seq)
    oldest = keep.oldest(now)
    if oldest is None:
        return end.cut_seq
    return search(slot, manifest_id, int(oldest.timestamp() * 1_000_000), end.cut_seq + 1, end.seq) - 1


def _not_needed(slot: Slot, manifest_id: int, end: Feed, now: datetime) -> int:
    """Return the number of the last event that no registered follower needs."""
    found = slot.rows(_FOLLOWERS, manifest_id)
    needed = [seq for seq, raw in found if follower(**codec.loads(raw)).needed_until > now]
    return min(needed, default=end.seq)


def _remove(slot: Slot, manifest_id: int, last: int) -> None:
    ((first,),) = slot.rows(_FIRST, manifest_id)
    for seq in range(last + 1 if first is None else first, last + 1, _EVENTS_AT_ONCE):
        for statement in _REMOVE:
            slot.rows(statement, manifest_id, seq, min(last, seq + _EVENTS_AT_ONCE - 1))
