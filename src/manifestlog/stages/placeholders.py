"""Placeholders: their names, how they are replaced, and whether a text uses them rightly.

::

    {dataset} {source_id} {checksum} {checksum8} {key}      the item; a group's dataset and source_id are its own
    {name} {stem} {suffix} {parent}                         the (first) input's file: prices.csv.gz prices .csv.gz, its directory
    {year} {month} {date} {hour}                            of the (latest) input's time in UTC: 2026 2026-01 2026-01-31 2026-01-31T23
    {stage} {version}                                       the stage
    {input} {inputs} {output} {output_dir}                  paths, in a command only; {inputs} is an argument for each member

Invariants:

- A reason says what to write instead. It quotes nothing of the text but the name of a placeholder: the rest may be a secret.

It knows neither stages nor items.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

TIMES = {"year": 4, "month": 7, "date": 10, "hour": 13}
"""The placeholders of a time, and how many characters of its text each is."""
OF_RECORD = TIMES.keys() | {"dataset", "source_id", "checksum", "checksum8", "name", "stem", "suffix", "parent"}
"""Those whose value a record alone gives."""
VALUES = OF_RECORD | {"key", "stage", "version"}
PATHS = frozenset({"input", "inputs", "output", "output_dir"})
_PLACEHOLDER = re.compile(r"\{([a-z0-9_]*)\}")


def names_in(text: str) -> set[str]:
    """Return the names of the placeholders in a text."""
    return set(_PLACEHOLDER.findall(text))


def expand(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced; one without a value stays."""
    return replaced(text, values.get)


def replaced(text: str, value_of: Callable[[str], str | None]) -> str:
    """Return the text with each placeholder replaced by the value of its name; one whose value is None stays."""
    return _PLACEHOLDER.sub(lambda found: found[0] if (value := value_of(found[1])) is None else value, text)


def pattern_problem(text: str, known: AbstractSet[str], what: str) -> str | None:
    """Return why a text is no pattern of these placeholders, and what to write instead; None if it is one.

    `what` is what the text is, such as `an output's name`. Braces are for placeholders only.
    """
    if (reason := _unknown(text, known, what)) is not None:
        return reason
    rest = expand(text, dict.fromkeys(known, ""))
    if "{" in rest or "}" in rest:
        return (
            f"a brace is not closed, not opened, or holds no placeholder; expected one of {_list(known)} in each pair"
        )
    return None


def command_problem(texts: Iterable[str]) -> str | None:
    """Return why these arguments or variables of a command cannot be used, and what to write instead; None if they can.

    Other braces than those of placeholders are the command's own, as in `awk '{print $1}'`.
    """
    for text in texts:
        if (reason := _unknown(text, VALUES | PATHS, "a command")) is not None:
            return reason
        if "inputs" in names_in(text) and text != "{inputs}":
            return "{inputs} must be an argument of its own: it becomes one for each member"
    return None


def _unknown(text: str, known: AbstractSet[str], what: str) -> str | None:
    name = next((name for name in sorted(names_in(text)) if name not in known), None)
    if name is None:
        return None
    close = get_close_matches(name, sorted(known), n=1)
    one = f"{close[0]}, or another" if close else "one"
    return f"{{{name}}} is no placeholder of {what}; expected {one} of {_list(known)}"


def _list(known: AbstractSet[str]) -> str:
    return ", ".join(sorted(known))
