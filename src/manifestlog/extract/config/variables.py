"""Placeholders in a configuration: `${NAME}` from the environment, `${DAY}` and `{date:…}` for the day of the run.

Invariants:

- `${NAME}` is expanded in URLs, headers and bodies; the day also in source ids, datasets and file names. Anywhere else
  a placeholder is a problem, never literal text. No `$` is sent that was meant as a placeholder. `stages` are left as
  they are: a command may be a shell's.
- Values from the environment are recorded; the day is not secret.

It does not validate the data: values of another shape are left for the models to report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from manifestlog import safe_names
from manifestlog.extract.config import run_day
from manifestlog.extract.config.reader import Place
from manifestlog.extract.config.source import Conditions

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|)|\{date:([^{}]*)\}")
_VARIABLE_OF_NAMES = re.compile(r"\$(?:(\$)(?=\{)|\{([A-Za-z_][A-Za-z0-9_]*)\})|\{date:([^{}]*)\}")
"""Names may contain a plain `$`, so only `$${` is an escape."""
_VARIABLE_OF_BODIES = re.compile(
    r"\$(?:(\$)(?=\{)|\{([A-Za-z_][A-Za-z0-9_]*)\})|\{date:([^{}\x22\x27]*%[^{}\x22\x27]*)\}"
)
"""Bodies too: query languages have variables such as `$id`, and objects such as `{date: $d}`."""
_UNEXPANDED = re.compile(r"\$\{[A-Za-z_]|\{date:")
_NAMES = ("source_id", "dataset", "file_name")
_DIRECTORIES = (("manifests_dir",), ("data_dir",))
"""Their own validators give a better message."""


class Problem(NamedTuple):
    """What is wrong with the value at a place."""

    place: Place
    reason: str


class _Text(NamedTuple):
    """A text to expand: `owner[key]`, at `place`."""

    place: Place
    owner: Any
    key: Any
    pattern: re.Pattern[str] = _VARIABLE

    @property
    def text(self) -> str:
        return str(self.owner[self.key])


@dataclass(slots=True)
class Expansion:
    """The result of expanding a configuration."""

    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Values that came from the environment."""
    private: list[Place] = field(default_factory=list)
    """Places that received such a value."""
    conditions: dict[int, Conditions] = field(default_factory=dict)
    """By the number of a source whose URL names a day: when its record may be compared with the server's content."""
    names_a_day: bool = False


@dataclass(frozen=True, slots=True)
class _Values:
    environ: Mapping[str, str]
    day: date

    def substitute(self, text: str, found: Expansion, pattern: re.Pattern[str]) -> tuple[str, list[str]]:
        """Return the text with its placeholders expanded, and the problems found."""
        problems: list[str] = []
        is_name = pattern is _VARIABLE_OF_NAMES

        def value_of(match: re.Match[str]) -> str:
            dollar, name, form = match.groups()
            try:
                return "$" if dollar else self._value(name, form, found, is_name=is_name)
            except ValueError as error:
                problems.append(str(error))
                return match[0]

        return pattern.sub(value_of, text), problems

    def _value(self, name: str | None, form: str | None, found: Expansion, *, is_name: bool) -> str:
        if form is not None or name == run_day.VARIABLE:
            found.names_a_day = True
            return run_day.format_day(self.day, "%F" if form is None else form)
        if name is None:
            raise ValueError("expected ${NAME} after a $; write $$ for a plain $")
        if is_name:
            raise ValueError(
                "only ${DAY} and {date:…} are expanded in a name; write the value out ($${ for a plain ${)"
            )
        if name not in self.environ:
            raise ValueError(f"the environment variable {name} is not set; set it, or write $$ for a plain $")
        found.used.add(self.environ[name])
        return self.environ[name]


def expand(raw: dict[str, Any], environ: Mapping[str, str], day: str | None = None) -> Expansion:
    """Expand all placeholders in place, wherever the data has the right shape; `day` is the value of `--day`."""
    found = Expansion()
    texts = list(_texts(raw))
    values = _Values(environ, _day(raw, environ, day, texts, found))
    has_day = not found.problems
    found.problems += _unexpanded(raw, {text.place for text in texts})
    for number, source in enumerate(sources_of(raw)):
        if isinstance(source, dict):
            _resolve_conditions(number, source, _sent(source, raw.get("defaults")), values, found)
    for text in texts:
        before = text.text
        text.owner[text.key], wrong = values.substitute(before, found, text.pattern)
        found.private += [text.place] if "${" in before else []
        found.problems += [Problem(text.place, reason) for reason in wrong]
    if day is not None and has_day and not found.names_a_day:
        found.problems.append(Problem((), "--day: no source uses the day; put ${DAY} or {date:…} into a url"))
    return found


def _day(
    raw: dict[str, Any], environ: Mapping[str, str], said: str | None, texts: list[_Text], found: Expansion
) -> date:
    """Return the day of the run; the variable DAY may have any value if nothing uses the day."""
    try:
        where = run_day.time_zone(raw.get("time_zone", run_day.UTC_NAME))
    except ValueError:
        where = run_day.time_zone(run_day.UTC_NAME)  # the model reports it
    try:
        return run_day.resolve_day(said, environ, where)
    except ValueError as error:
        if said is not None:
            found.problems.append(Problem((), f"--day: expected {run_day.RULE}"))
        elif (first := next(filter(_names_a_day, texts), None)) is not None:
            found.problems.append(Problem(first.place, str(error)))
        return run_day.resolve_day("today", {}, where)


def _names_a_day(text: _Text) -> bool:
    return any(name == run_day.VARIABLE or form for _, name, form in text.pattern.findall(text.text))


def _sent(source: dict[str, Any], defaults: object) -> tuple[str, ...]:
    """Return the strings in the body that a source sends; none unless it uses POST."""
    both = {**(defaults if isinstance(defaults, dict) else {}), **source}
    return tuple(text.text for text in _body((), both)) if both.get("method") == "POST" else ()


def _resolve_conditions(
    number: int, source: dict[str, Any], bodies: tuple[str, ...], values: _Values, found: Expansion
) -> None:
    """Set when this source's record may be compared, and add the day to the file name if only the URL names it."""
    unused = Expansion()

    def on(day: date, *keys: str) -> tuple[str, ...]:
        texts = [(key, source.get(key)) for key in keys]
        that = _Values(values.environ, day)
        patterns = {key: _VARIABLE_OF_NAMES if key in _NAMES else _VARIABLE for key in keys}
        return tuple(that.substitute(text, unused, patterns[key])[0] for key, text in texts if isinstance(text, str))

    def asked(day: date) -> tuple[str, ...]:
        that = _Values(values.environ, day)
        return on(day, "url") + tuple(that.substitute(text, unused, _VARIABLE_OF_BODIES)[0] for text in bodies)

    def name(day: date) -> tuple[str, ...]:
        return on(day, "file_name") if source.get("file_name") is not None else (_last_part(on(day, "url")),)

    def resolve() -> Conditions:
        return run_day.conditions_for(values.day, asked, lambda day: on(day, "source_id", "dataset"), name)

    if not isinstance(source.get("url"), str):
        return
    conditions = resolve()
    if conditions is Conditions.NEVER and source.get("file_name") is None:
        stem, suffixes = safe_names.split_suffixes(name(values.day)[0])
        source["file_name"] = safe_names.sanitize(f"{stem}-{values.day}{suffixes}").replace("${", "$${")
        conditions = Conditions.SAME_NAME
    found.conditions[number] = conditions


def _last_part(urls: tuple[str, ...]) -> str:
    try:
        return safe_names.sanitize(unquote(urlsplit(urls[0]).path.rpartition("/")[2]))
    except ValueError:
        return safe_names.NAMELESS  # no URL: the model reports it


def _unexpanded(raw: dict[str, Any], expanded: set[Place]) -> Iterator[Problem]:
    """Report placeholders where they would be taken literally."""
    waiting: list[tuple[Place, object]] = [((key,), value) for key, value in raw.items() if key != "stages"]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*place, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, number), inner) for number, inner in enumerate(value)]
        elif (
            isinstance(value, str) and place not in expanded and place not in _DIRECTORIES and _UNEXPANDED.search(value)
        ):
            yield Problem(place, "variables are not expanded here; write the value out")


def _texts(raw: dict[str, Any]) -> Iterator[_Text]:
    """Yield URLs, headers, bodies and names, wherever the data has the right shape."""
    yield from _of_owner(("defaults",), raw.get("defaults"))
    for number, source in enumerate(sources_of(raw)):
        where = ("sources", number)
        if isinstance(source, dict) and isinstance(source.get("url"), str):
            yield _Text((*where, "url"), source, "url")
        if isinstance(source, dict):
            named = [name for name in _NAMES if isinstance(source.get(name), str)]
            yield from (_Text((*where, name), source, name, _VARIABLE_OF_NAMES) for name in named)
        yield from _of_owner(where, source)


def sources_of(raw: dict[str, Any]) -> list[Any]:
    """Return the sources in the file; none if they are not a list."""
    sources = raw.get("sources")
    return sources if isinstance(sources, list) else []


def _of_owner(where: Place, owner: object) -> Iterator[_Text]:
    """Yield the strings that both the defaults and a source may have."""
    if isinstance(owner, dict):
        headers = owner.get("headers")
        texts = headers.items() if isinstance(headers, dict) else ()
        yield from (_Text((*where, "headers", name), headers, name) for name, value in texts if isinstance(value, str))
        if isinstance(owner.get("proxy"), str):
            yield _Text((*where, "proxy"), owner, "proxy")
        yield from _body(where, owner)


def _body(where: Place, owner: dict[str, Any]) -> Iterator[_Text]:
    """Yield every text in a body except keys."""
    waiting: list[tuple[Place, Any, Any]] = [((*where, "body"), owner, "body")] if "body" in owner else []
    while waiting:
        place, holder, key = waiting.pop()
        value = holder[key]
        if isinstance(value, str):
            yield _Text(place, holder, key, _VARIABLE_OF_BODIES)
        elif isinstance(value, dict | list):
            keys = value if isinstance(value, dict) else range(len(value))
            waiting += [((*place, inner), value, inner) for inner in keys]
