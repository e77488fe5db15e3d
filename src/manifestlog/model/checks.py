"""Tables of what a JSON object's members have to be, and the one loop that goes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

ABSENT = object()


class Check(NamedTuple):
    """What one member has to be. `wrong` is the message for any other value, or makes it of that value."""

    member: str
    kinds: type | tuple[type, ...]
    wrong: str | Callable[[Any], str]
    allows: Callable[[Any], bool] | None = None
    """Which values of these kinds are right; by default all."""
    default: object = None
    """What a member that is not there is checked as; `ABSENT` where it may be missing."""


def check_members(row: dict[str, Any], checks: Iterable[Check]) -> None:
    """Raise `ValueError` for the first check that a row does not pass."""
    for member, kinds, wrong, allows, default in checks:
        value = row.get(member, default)
        if value is ABSENT:
            continue
        if not isinstance(value, kinds) or (allows is not None and not allows(value)):
            raise ValueError(wrong if isinstance(wrong, str) else wrong(value))
