"""Registered followers: the name under which a program follows a manifest, its position, and how long the history waits
for it.

Invariants:

- A registration that was read is valid: its name, time and duration were checked.

It does no I/O.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from manifestlog.options import parse_history

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NAME_RULE = "1 to 64 letters, digits, '-' and '_', the first a letter or digit"


class Follower(NamedTuple):
    """One registration."""

    name: str
    cursor: str
    """The position after the last event that the follower has processed."""
    ts: str
    """When the follower was there, as ISO-8601 text in UTC."""
    keep: str
    """For how long after `ts` the history keeps what the cursor still needs, such as `30d`."""

    @property
    def needed_until(self) -> datetime:
        """The time after which the history no longer keeps events for this follower."""
        return datetime.fromisoformat(self.ts) + timedelta(seconds=_age_s(self.keep))


def follower(name: str, cursor: str, ts: str, keep: str) -> Follower:
    """Return the registration with these members. Raises `ValueError` if one of them is not valid."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is not the name of a follower: expected {NAME_RULE}")
    found = Follower(name, cursor, ts, keep)
    if found.needed_until.tzinfo is None:
        raise ValueError(f"{ts!r:.80} has no time zone")
    return found


def _age_s(keep: str) -> float:
    try:
        age_s = parse_history(keep).age_s
    except ValueError:
        age_s = None
    if age_s is None or age_s > 10 * 365 * 86400:
        raise ValueError(
            f"{keep!r:.40} is not how long to keep the history: expected an age such as 30d, at most ten years"
        )
    return age_s
