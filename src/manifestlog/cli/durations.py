"""Spans and moments as people type them: `30s`, `2h`, `7d`, `2024-05-01`, `2024-05-01T12:00:00Z`."""

import re
from datetime import UTC, datetime, timedelta

import typer

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN_MAX_S = 10 * 365 * 86400
"""Ten years; clocks and timers take no more than some hundreds."""
SPAN_RULE = "a number and s, m, h, d or w, such as 30s or 2h"


def seconds(text: str) -> float | None:
    """Length of a span in seconds; None for what is none."""
    found = _SPAN.fullmatch(text)
    return float(found[1]) * _SECONDS[found[2]] if found else None


def interval(text: str | None) -> float | None:
    """An option's span in seconds, above 0."""
    if text is None:
        return None
    found = seconds(text)
    if not found or found > _SPAN_MAX_S:
        rule = f"{SPAN_RULE}, ten years at most"
        raise typer.BadParameter(f"{text!r} is no span above 0: expected {rule}", param_hint="--every")
    return found


def duration(text: str | None, hint: str) -> float | None:
    """An option's number of seconds, or its span, in seconds above 0."""
    if text is None:
        return None
    found = seconds(text if text[-1:].isalpha() else f"{text}s")
    if not found:
        raise typer.BadParameter(f"{text!r} is no time above 0: expected seconds, or {SPAN_RULE}", param_hint=hint)
    return found


def since(text: str | None, now: datetime) -> datetime | None:
    """The moment that `--since` means; without a zone it is in UTC."""
    if text is None:
        return None
    try:
        back = seconds(text)
        if back is not None:
            return now - timedelta(seconds=back)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        rule = f"an ISO date or time (2024-05-01, 2024-05-01T12:00:00Z) or a span back from now: {SPAN_RULE}"
        raise typer.BadParameter(f"{text!r} is no time: expected {rule}", param_hint="--since") from None
