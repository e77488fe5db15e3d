"""Parses durations and times of the command line: `30s`, `2h`, `7d`, `2024-05-01`, `2024-05-01T12:00:00Z`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION_MAX_S = 10 * 365 * 86400
"""Ten years. Clocks and timers overflow after some hundreds."""
DURATION_RULE = "a number and s, m, h, d or w, such as 30s or 2h"


AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Show the manifest as it was at an ISO date or time (UTC), or a duration ago (2h, 7d).",
    ),
]
DayOption = Annotated[
    str | None,
    typer.Option(
        "--day",
        metavar="DAY",
        help="Day for ${DAY} and {date:…}: 2024-05-01, today or yesterday [default: today].",
        show_default=False,
    ),
]


def seconds(text: str) -> float | None:
    """Return a duration in seconds, or None if the text is not a duration."""
    found = _DURATION.fullmatch(text)
    return float(found[1]) * _SECONDS[found[2]] if found else None


def interval(text: str | None) -> float | None:
    """Return the duration of an option in seconds, above 0."""
    if text is None:
        return None
    found = seconds(text)
    if not found or found > _DURATION_MAX_S:
        rule = f"{DURATION_RULE}, at most ten years"
        raise typer.BadParameter(f"{text!r} is not a duration above 0: expected {rule}", param_hint="--every")
    return found


def duration(text: str | None, hint: str) -> float | None:
    """Return an option's duration, or plain number of seconds, in seconds above 0."""
    if text is None:
        return None
    found = seconds(text if text[-1:].isalpha() else f"{text}s")
    if not found:
        message = f"{text!r} is not a duration above 0: expected seconds, or {DURATION_RULE}"
        raise typer.BadParameter(message, param_hint=hint)
    return found


def since(text: str | None, now: datetime, hint: str = "--since") -> datetime | None:
    """Return the time that an option such as `--since` means. A time without a zone is UTC."""
    return None if text is None else moment(text, now, hint)


def as_of(text: str | None, now: datetime) -> datetime | None:
    """Return the time that `--as-of` means, which is not in the future."""
    return None if text is None else past(text, now, "--as-of")


def past(text: str, now: datetime, hint: str) -> datetime:
    """Return a time that is not in the future."""
    found = moment(text, now, hint)
    if found > now:
        raise typer.BadParameter(f"{text!r} is in the future", param_hint=hint)
    return found


def moment(text: str, now: datetime, hint: str) -> datetime:
    """Return an option's time. A time without a zone is UTC."""
    try:
        back = seconds(text)
        if back is not None:
            return now - timedelta(seconds=back)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        rule = f"an ISO date or time (2024-05-01, 2024-05-01T12:00:00Z) or a duration before now: {DURATION_RULE}"
        raise typer.BadParameter(f"{text!r} is not a time: expected {rule}", param_hint=hint) from None
