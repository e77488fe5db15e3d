"""The day of a run, and its placeholders in a configuration: `${DAY}` and `{date:%Y-%m-%d}`.

Invariants:

- A run has one day: from `--day`, otherwise from the variable DAY, otherwise today in the configured time zone.
- A record of one day never answers a request about another day (`conditions_for`).

It does not know where in a configuration the placeholders are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from manifestlog.extract.config.source import Conditions

VARIABLE = "DAY"
UTC_NAME = "UTC"
RULE = "a day such as 2024-05-01, today or yesterday"
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
_DIRECTIVE = re.compile(r"%(.?)")
_OF_A_DAY = frozenset("YmdyjGVuwUWbBaAF%")
_OTHERS = tuple(sign * days for days in (1, 2, 7, 28, 31, 366) for sign in (1, -1))
"""Offsets to other days: a text that is equal for all of them does not identify a day."""


def time_zone(name: object) -> tzinfo:
    """Return the time zone of this name; raises `ValueError`."""
    if name == UTC_NAME:
        return UTC
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "expected a time zone known to this system, such as Europe/Berlin; correct it, or install tzdata"
        ) from None


def resolve_day(said: str | None, environ: Mapping[str, str], where: tzinfo) -> date:
    """Return the day of a run; `said` is the value of `--day`. Raises `ValueError`."""
    today = datetime.now(where).date()
    text = environ.get(VARIABLE, "today") if said is None else said
    relative = {"today": today, "yesterday": today - timedelta(days=1)}
    if text in relative:
        return relative[text]
    try:
        if _ISO.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    whose = "the environment variable DAY" if said is None else "--day"
    raise ValueError(f"{whose}: expected {RULE}")


def format_day(day: date, form: str) -> str:
    """Format the day for `{date:form}`; raises `ValueError`."""
    letters = _DIRECTIVE.findall(form)
    if not letters or not _OF_A_DAY.issuperset(letters) or "" in letters:
        raise ValueError("expected a date format in {date:…}, such as %Y-%m-%d, %Y/%m or %G-W%V; correct it")
    return day.strftime(form.replace("%F", "%Y-%m-%d"))


Texts = Callable[[date], tuple[str, ...]]
"""A function from a day to the expanded strings of a source."""


def conditions_for(day: date, address: Texts, identity: Texts, name: Texts) -> Conditions:
    """Return when a source's record may be compared with the content at its URL on this day."""
    others = [other for other in map(_other(day), _OTHERS) if other and address(other) != address(day)]
    if all(identity(other) != identity(day) for other in others):
        return Conditions.RECORDED  # each day is a separate source, or the URL is the same every day
    return Conditions.SAME_NAME if all(name(other) != name(day) for other in others) else Conditions.NEVER


def _other(day: date) -> Callable[[int], date | None]:
    def other(days: int) -> date | None:
        try:
            return day + timedelta(days=days)
        except OverflowError:
            return None

    return other
