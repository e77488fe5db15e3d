"""Writes the placeholders of a statement in the style of a driver: the five styles of PEP 249.

It is pure: it turns a statement with names in braces into the arguments of `execute`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

STYLES: Mapping[str, Callable[[str, int], str]] = {
    "qmark": lambda _name, _number: "?",
    "numeric": lambda _name, number: f":{number}",
    "named": lambda name, _number: f":{name}",
    "format": lambda _name, _number: "%s",
    "pyformat": lambda name, _number: f"%({name})s",
}
"""What stands for a value, by the `paramstyle` of a driver's module."""

_NAME = re.compile(r"\{(\w+)\}")
_BY_NAME = frozenset({"named", "pyformat"})

Parameters = dict[str, str | None] | tuple[str | None, ...]


def bound(statement: str, values: Mapping[str, str | None], style: str) -> tuple[str, Parameters]:
    """Return a statement with the placeholders of this style, and its parameters.

    Each `{name}` of the statement stands for the value of that name.
    """
    names = _NAME.findall(statement)
    numbers = iter(range(1, len(names) + 1))
    text = _NAME.sub(lambda found: STYLES[style](found[1], next(numbers)), statement)
    return text, {name: values[name] for name in names} if style in _BY_NAME else tuple(values[name] for name in names)
