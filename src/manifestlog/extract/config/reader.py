"""Parses a configuration file into plain data: JSON, TOML for `.toml`, and the formats of `formats`.

Invariants:

- The result is an object of strings, numbers, lists and objects; anything else is a `ConfigError` for the whole file.
- A syntax error names line and column, and quotes nothing from the file.
- A duplicate key is not a syntax error. Its value is `TWICE`, and `repeated` reports the place.

It does not know the keys of a configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from manifestlog.extract.config.formats import FormatError, read_json5, read_yaml, relaxed_at
from manifestlog.extract.errors import ConfigError

Place = tuple[str | int, ...]
"""The path to a value: `("sources", 3, "url")`."""

TWICE = object()

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


def read(path: str) -> dict[str, Any]:
    """Return the file's top-level object."""
    text = _text(path)
    try:
        data = _data(path, text)
    except FormatError as error:
        place = f"line {error.line}, column {error.column}: " if error.line else ""
        raise ConfigError(path, "", f"{place}{error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(path, "", _syntax(error.lineno, error.colno, error.msg) + _read_as(path)) from None
    except RecursionError:
        raise ConfigError(path, "", "the data is nested too deeply; write an object as in the guide") from None
    except ValueError:  # an integer of thousands of digits
        raise ConfigError(path, "", "a number has too many digits; correct it") from None
    if not isinstance(data, dict):
        raise ConfigError(path, "", "expected an object at the top level; put everything between { and }")
    return data


def _from_toml(path: str, text: str) -> object:
    import tomllib  # noqa: PLC0415 -- few configurations are TOML

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, "", _toml_syntax(str(error), text)) from None


def _data(path: str, text: str) -> object:
    name = path.lower()
    if name.endswith(".toml"):
        return _from_toml(path, text)
    if name.endswith((".yaml", ".yml")):
        return read_yaml(text, _object)
    try:
        return _from_json(text)
    except json.JSONDecodeError:
        if relaxed_at(text) is None:
            raise
        return read_json5(text, _object)


def repeated(data: object) -> Iterator[Place]:
    """Yield the places of duplicate keys, in the order of the file."""
    waiting: list[tuple[Place, object]] = [
        ((), data)
    ]  # no recursion: JSON may be nested deeper than Python's call stack
    while waiting:
        place, value = waiting.pop()
        if value is TWICE:
            yield place
        elif isinstance(value, dict):
            waiting += [((*place, key), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += reversed([((*place, number), inner) for number, inner in enumerate(value)])


def shown(place: Place) -> str:
    """Return the place as text, such as `sources[3].url`."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_][\w-]*", step, re.ASCII):
            text += f".{step}"
        else:
            text += f"[{json.dumps(step)}]"
    return text.removeprefix(".")


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(path, "", f"{reason}; name a readable configuration file") from None
    except ValueError as error:  # a NUL in the path
        raise ConfigError(path, "", f"{error}; name a readable configuration file") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(path, "", f"not UTF-8 at byte {error.start}; save the file as UTF-8") from None


def _from_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = TWICE if key in found else value
    return found


def _syntax(line: int, column: int, message: str) -> str:
    return f"line {line}, column {column}: {message}; correct the syntax"


def _read_as(path: str) -> str:
    """Return why the file was read as JSON, if its name does not say so: it may be TOML or YAML."""
    if path.lower().endswith((".json", ".jsonc", ".json5")):
        return ""
    return "; it is read as JSON, because its name does not end in .toml, .yaml or .yml"


def _toml_syntax(message: str, text: str) -> str:
    found = _TOML_PLACE.search(message)
    if found is None:
        return f"{message}; correct the syntax"
    end = (text.count("\n") + 1, len(text) - text.rfind("\n"))
    line, column = (int(found[1]), int(found[2])) if found[1] else end
    return _syntax(line, column, message[: found.start()])
