"""Parsers for JSON with comments and trailing commas (json5) and for YAML (PyYAML); both are optional.

Invariants:

- If a parser is missing, the message names the command that installs it.
- YAML is read like JSON: `no` and `2024-05-01` are strings, duplicate keys are found, nothing is executed.
- A syntax error names line and column, and quotes nothing from the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

INSTALL = "pip install 'manifestlog[formats]'"
NODES_MAX = 1_000_000
"""More values than any list of sources has; nested aliases (`*a`) can expand to billions."""
Pairs = Callable[[Iterable[tuple[str, Any]]], dict[str, Any]]
"""Builds an object from its members, which may contain duplicate keys."""

_RELAXED = re.compile(r'"(?:[^"\\\n]|\\.)*"|(//|/\*|,\s*[}\]])')
_PLACE_OF_JSON5 = re.compile(r":(\d+) .* at column (\d+)", re.DOTALL)


class FormatError(ValueError):
    """A text violates its format."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


def relaxed_at(text: str) -> tuple[int, int] | None:
    """Return line and column of the first comment or trailing comma, in text that may otherwise be JSON; None without
    one.
    """
    for found in _RELAXED.finditer(text):
        if found[1]:
            before = text[: found.start(1)]
            return before.count("\n") + 1, len(before) - before.rfind("\n")
    return None


def read_json5(text: str, pairs: Pairs) -> object:
    """Parse JSON with comments and trailing commas; raises `FormatError`."""
    try:
        import json5  # noqa: PLC0415 -- an extra
    except ImportError:
        line, column = relaxed_at(text) or (0, 0)
        message = f"strict JSON has neither comments nor trailing commas: remove this, or install json5 ({INSTALL})"
        raise FormatError(message, line, column) from None
    try:
        return json5.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        place = _PLACE_OF_JSON5.search(str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        raise FormatError("invalid syntax; correct it", line, column) from None


def read_yaml(text: str, pairs: Pairs) -> object:
    """Parse YAML; raises `FormatError`."""
    try:
        import yaml  # noqa: PLC0415 -- an extra
    except ImportError:
        raise FormatError(
            f"YAML needs PyYAML, which is not installed: {INSTALL}, or write the file as JSON or TOML"
        ) from None
    try:
        return _Values(pairs).of(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise FormatError(f"{error.problem or 'invalid syntax'}; correct it", line, column) from None
    except yaml.YAMLError:
        raise FormatError("the file contains characters that YAML does not allow; remove them") from None


_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = (
    (re.compile(r"null|Null|NULL|~|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""The core schema of YAML 1.2. PyYAML uses YAML 1.1, where `no` is false and `2024-05-01` is a date."""


class _Values:
    """Converts YAML nodes to plain data."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._left = NODES_MAX

    def of(self, node: Any) -> object:
        self._left -= 1
        if self._left < 0:
            raise FormatError("the file has too many values; look for an alias (*name) that contains itself")
        if node is None:
            return None
        if node.id == "sequence":
            return [self.of(one) for one in node.value]
        if node.id == "mapping":
            return self._pairs([(self._key(key), self.of(value)) for key, value in self._merged(node)])
        return self._scalar(node)

    def _merged(self, node: Any) -> list[tuple[Any, Any]]:
        """Return the members of a mapping, with those of `<<: *other` first and only where the mapping has none."""
        own = [(key, value) for key, value in node.value if key.value != "<<"]
        taken = {self._key(key) for key, _ in own}
        before = []
        for key, value in node.value:
            if key.value == "<<":
                others = value.value if value.id == "sequence" else [value]
                if any(other.id != "mapping" for other in others):
                    raise self._wrong(value, "expected a mapping after <<; correct it")
                before += [pair for other in others for pair in self._merged(other) if self._key(pair[0]) not in taken]
        return before + own

    def _key(self, node: Any) -> str:
        if node.id != "scalar":
            raise self._wrong(node, "expected a string as a key; correct it")
        return str(node.value)

    def _scalar(self, node: Any) -> object:
        if node.style is not None:
            return node.value  # quoted or a block scalar: always a text
        made = next((make for pattern, make in _SCALARS if pattern.fullmatch(node.value)), str)
        return made(node.value)

    def _wrong(self, node: Any, reason: str) -> FormatError:
        return FormatError(reason, node.start_mark.line + 1, node.start_mark.column + 1)
