"""The day that a run is for, and where a configuration names it: `${DAY}` and `{date:%Y-%m-%d}`.

Invariants:

- One run has one day: `--day`, else the variable DAY, else today in the zone that the configuration states.
- What is recorded of one day is never taken for an answer about another one (`conditions`).

It does not know where in a configuration such texts stand.
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
"""Steps to other days: what is the same for all of them does not tell one day from another."""


def time_zone(name: object) -> tzinfo:
    """The zone of this name; raises `ValueError`."""
    if name == UTC_NAME:
        return UTC
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "expected a time zone such as Europe/Berlin that this system knows; correct it, or install tzdata"
        ) from None


def resolve_day(said: str | None, environ: Mapping[str, str], where: tzinfo) -> date:
    """The day of a run; `said` is what `--day` says. Raises `ValueError`."""
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
    """The day as `{date:form}` wants it; raises `ValueError`."""
    letters = _DIRECTIVE.findall(form)
    if not letters or not _OF_A_DAY.issuperset(letters) or "" in letters:
        raise ValueError("expected a form of a day in {date:…}, such as %Y-%m-%d, %Y/%m or %G-W%V; correct it")
    return day.strftime(form.replace("%F", "%Y-%m-%d"))


Texts = Callable[[date], tuple[str, ...]]
"""The texts of a source as they would be on a day."""


def conditions_for(day: date, address: Texts, identity: Texts, name: Texts) -> Conditions:
    """When a source's record may be compared with what its address has on this day."""
    others = [other for other in map(_other(day), _OTHERS) if other and address(other) != address(day)]
    if all(identity(other) != identity(day) for other in others):
        return Conditions.RECORDED  # each day is a source of its own, or the address is the same every day
    return Conditions.SAME_NAME if all(name(other) != name(day) for other in others) else Conditions.NEVER


def _other(day: date) -> Callable[[int], date | None]:
    def other(days: int) -> date | None:
        try:
            return day + timedelta(days=days)
        except OverflowError:
            return None

    return other
