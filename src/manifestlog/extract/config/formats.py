"""Configurations that are not strict JSON: with comments or trailing commas by json5, YAML by PyYAML; both optional.

Invariants:

- Without its parser, the message says which command installs it.
- YAML means what JSON would: `no` and `2024-05-01` are texts, a key that stands twice is found, nothing is executed.
- A syntax error names line and column, and shows nothing of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

INSTALL = "pip install 'manifestlog[formats]'"
NODES_MAX = 1_000_000
"""So many values are more than any list of sources; aliases of aliases (`*a`) can mean billions."""
Pairs = Callable[[Iterable[tuple[str, Any]]], dict[str, Any]]
"""Makes an object of its members, some of which may stand twice."""

_RELAXED = re.compile(r'"(?:[^"\\\n]|\\.)*"|(//|/\*|,\s*[}\]])')
_PLACE_OF_JSON5 = re.compile(r":(\d+) .* at column (\d+)", re.DOTALL)


class FormatError(ValueError):
    """A text is not what its format asks for."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


def relaxed_at(text: str) -> tuple[int, int] | None:
    """Line and column of the first comment or trailing comma, in what else may be JSON."""
    for found in _RELAXED.finditer(text):
        if found[1]:
            before = text[: found.start(1)]
            return before.count("\n") + 1, len(before) - before.rfind("\n")
    return None


def read_json5(text: str, pairs: Pairs) -> object:
    """What a JSON text with comments and trailing commas holds; raises `FormatError`."""
    try:
        import json5  # noqa: PLC0415 -- an extra
    except ImportError:
        line, column = relaxed_at(text) or (0, 0)
        told = f"strict JSON has neither comments nor trailing commas: take this out, or install json5 ({INSTALL})"
        raise FormatError(told, line, column) from None
    try:
        return json5.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        place = _PLACE_OF_JSON5.search(str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        raise FormatError("the syntax is wrong; correct it", line, column) from None


def read_yaml(text: str, pairs: Pairs) -> object:
    """What a YAML text holds; raises `FormatError`."""
    try:
        import yaml  # noqa: PLC0415 -- an extra
    except ImportError:
        raise FormatError(f"to read YAML, PyYAML is needed: {INSTALL}, or write it as JSON or TOML") from None
    try:
        return _Values(pairs).of(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise FormatError(f"{error.problem or 'the syntax is wrong'}; correct it", line, column) from None
    except yaml.YAMLError:
        raise FormatError("there are characters in it that YAML does not allow; take them out") from None


_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = (
    (re.compile(r"null|Null|NULL|~|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""The core schema of YAML 1.2; PyYAML's own is that of 1.1, where `no` is false and a day is a date."""


class _Values:
    """Makes plain data of YAML's nodes."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._left = NODES_MAX

    def of(self, node: Any) -> object:
        self._left -= 1
        if self._left < 0:
            raise FormatError("it has too many values; look for an alias (*name) that holds itself")
        if node is None:
            return None
        if node.id == "sequence":
            return [self.of(one) for one in node.value]
        if node.id == "mapping":
            return self._pairs([(self._key(key), self.of(value)) for key, value in self._merged(node)])
        return self._scalar(node)

    def _merged(self, node: Any) -> list[tuple[Any, Any]]:
        """The members, those of `<<: *other` before the node's own and only where it has none."""
        own = [(key, value) for key, value in node.value if key.value != "<<"]
        taken = {self._key(key) for key, _ in own}
        before = []
        for key, value in node.value:
            if key.value == "<<":
                others = value.value if value.id == "sequence" else [value]
                if any(other.id != "mapping" for other in others):
                    raise self._wrong(value, "expected a mapping behind <<; correct it")
                before += [pair for other in others for pair in self._merged(other) if self._key(pair[0]) not in taken]
        return before + own

    def _key(self, node: Any) -> str:
        if node.id != "scalar":
            raise self._wrong(node, "expected a text as a key; correct it")
        return str(node.value)

    def _scalar(self, node: Any) -> object:
        if node.style is not None:
            return node.value  # in quotes, or a block: a text whatever it looks like
        made = next((make for pattern, make in _SCALARS if pattern.fullmatch(node.value)), str)
        return made(node.value)

    def _wrong(self, node: Any, reason: str) -> FormatError:
        return FormatError(reason, node.start_mark.line + 1, node.start_mark.column + 1)
