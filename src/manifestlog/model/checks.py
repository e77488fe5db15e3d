"""Validates the members of a JSON object against a table of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

ABSENT = object()


class Check(NamedTuple):
    """The check of one member. `wrong` is the error message, or a function that builds it from the value."""

    member: str
    kinds: type | tuple[type, ...]
    wrong: str | Callable[[Any], str]
    allows: Callable[[Any], bool] | None = None
    """Returns whether a value of these kinds is valid [default: all are]."""
    default: object = None
    """The value to check if the member is missing; `ABSENT` if it may be missing."""


def check_members(row: dict[str, Any], checks: Iterable[Check]) -> None:
    """Raise `ValueError` for the first check that a row fails."""
    for member, kinds, wrong, allows, default in checks:
        value = row.get(member, default)
        if value is ABSENT:
            continue
        if not isinstance(value, kinds) or (allows is not None and not allows(value)):
            raise ValueError(wrong if isinstance(wrong, str) else wrong(value))
