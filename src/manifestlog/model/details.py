"""The rules for the members of an event: one for each member, for writers and readers.

Invariants:

- A member that this version does not know may have any value.
- Everything that is written passes `check_details`. Events that are read may come from a newer program: `wrong_members`
  names the members to leave out.

`was` must be an object here; `before` checks its content.
"""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from manifestlog.model.rows import is_checksum
from manifestlog.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

Details = dict[str, Any]
"""The members of an event as they lie on disk."""

_VERDICTS = frozenset(Verdict)
_KINDS = frozenset({"update", "relocate", "retime", "undo"})
JUDGEMENTS = ("valid", "invalid")
_TEXTS = (
    "source_id",
    "dataset",
    "run",
    "undoes",
    "stage",
    "version",
    "url",
    "error",
    "name",
    "host",
    "user",
    "program",
    "outcome",
    "reason",
    "command",
    "code",
    "target",
    "stderr",
)


def check_details(found: Details) -> None:
    """Raise `ValueError` if a known member of an event has a value that it cannot have."""
    if wrong := wrong_members(found):
        raise ValueError(f"an event's {wrong[0]} is not valid")


def wrong_members(found: Details) -> list[str]:
    """Return the known members of an event that have a value that they cannot have."""
    return [name for name, value in found.items() if not is_valid(name, value)]


def is_valid(name: str, value: object) -> bool:
    """Return whether a member of an event can have this value."""
    allows = _ALLOWED.get(name)
    return allows is None or allows(value)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and value.endswith("Z") and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and isfinite(value))


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _are_sources(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_source, value))


def _is_source(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("source_id"), str) and isinstance(value.get("dataset"), str)


_ALLOWED: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    **dict.fromkeys(("bytes", "pid", "status", "rows", "exit_code"), _is_integer),
    **dict.fromkeys(("seconds", "pid_started"), _is_number),
    "verdict": lambda value: isinstance(value, str) and value in _VERDICTS,
    "kind": lambda value: isinstance(value, str) and value in _KINDS,
    "judgement": lambda value: value in JUDGEMENTS,
    "started": _is_time,
    "checksum": is_checksum,
    "inputs": lambda value: isinstance(value, list) and all(map(is_checksum, value)),
    "recovered": _are_sources,
    "was": _is_object,
    "counts": _is_object,
    "gap": lambda value: value is True,
}
