"""The variables of a configuration: `${NAME}` from the environment, `${DAY}` and `{date:…}` for the day of the run.

Invariants:

- `${NAME}` stands in addresses, headers and bodies, the day also in what a source and its files are called; anywhere
  else, either is a problem and never taken literally. Nothing is sent with a `$` that was meant otherwise.
- What came from the environment is known; the day is no secret.

It does not know what the data must hold: where that has another shape, it is left for the models to say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from manifestlog.extract import days, names
from manifestlog.extract.source import Conditions
from manifestlog.extract.syntax import Place

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|)|\{date:([^{}]*)\}")
_VARIABLE_OF_NAMES = re.compile(r"\$(?:(\$)(?=\{)|\{([A-Za-z_][A-Za-z0-9_]*)\})|\{date:([^{}]*)\}")
"""In names a `$` was always a sign like any other; before a brace it is doubled."""
_VARIABLE_OF_BODIES = re.compile(
    r"\$(?:(\$)(?=\{)|\{([A-Za-z_][A-Za-z0-9_]*)\})|\{date:([^{}\x22\x27]*%[^{}\x22\x27]*)\}"
)
"""In bodies too: languages of queries have variables of their own, `$id`, and objects that look like `{date: $d}`."""
_LEFT_ALONE = re.compile(r"\$\{[A-Za-z_]|\{date:")
_NAMES = ("source_id", "dataset", "file_name")
_FOLDERS = (("manifests_dir",), ("data_dir",))
"""Their own check says more."""


class Problem(NamedTuple):
    """What is wrong with the value at a place."""

    place: Place
    reason: str


class _Text(NamedTuple):
    """A text that variables are put in: `owner[key]`, at `place`."""

    place: Place
    owner: Any
    key: Any
    pattern: re.Pattern[str] = _VARIABLE

    @property
    def text(self) -> str:
        return str(self.owner[self.key])


@dataclass(slots=True)
class Found:
    """What came of the variables of a configuration."""

    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """The values that came from the environment."""
    private: list[Place] = field(default_factory=list)
    """Where they went."""
    conditions: dict[int, Conditions] = field(default_factory=dict)
    """Of sources whose address names a day, by their number."""
    names_a_day: bool = False


@dataclass(frozen=True, slots=True)
class _Values:
    environ: Mapping[str, str]
    day: date

    def put_in(self, text: str, found: Found, pattern: re.Pattern[str]) -> tuple[str, list[str]]:
        """The text with its variables, and what is wrong with them."""
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

    def _value(self, name: str | None, form: str | None, found: Found, *, is_name: bool) -> str:
        if form is not None or name == days.VARIABLE:
            found.names_a_day = True
            return days.written(self.day, "%F" if form is None else form)
        if name is None:
            raise ValueError("expected ${NAME} behind a $; write $$ for a plain $")
        if is_name:
            raise ValueError("only ${DAY} and {date:…} are expanded in a name; write it out ($${ for a plain ${)")
        if name not in self.environ:
            raise ValueError(f"the environment variable {name} is not set; set it, or write $$ for a plain $")
        found.used.add(self.environ[name])
        return self.environ[name]


def expand(raw: dict[str, Any], environ: Mapping[str, str], day: str | None = None) -> Found:
    """Put variables in, wherever the data has the shape for it; `day` is what `--day` says."""
    found = Found()
    texts = list(_texts(raw))
    values = _Values(environ, _day(raw, environ, day, texts, found))
    found.problems += _left_alone(raw, {text.place for text in texts})
    for number, source in enumerate(sources_of(raw)):
        if isinstance(source, dict):
            _tell_days_apart(number, source, _sent(source, raw.get("defaults")), values, found)
    for text in texts:
        before = text.text
        text.owner[text.key], wrong = values.put_in(before, found, text.pattern)
        found.private += [text.place] if "${" in before else []
        found.problems += [Problem(text.place, reason) for reason in wrong]
    if day is not None and not found.names_a_day:
        found.problems.append(Problem((), "--day: nothing here names a day; put ${DAY} or {date:…} into an address"))
    return found


def _day(raw: dict[str, Any], environ: Mapping[str, str], said: str | None, texts: list[_Text], found: Found) -> date:
    """The day of the run. The variable DAY may be anything where nothing names a day."""
    try:
        where = days.zone(raw.get("time_zone", days.UTC_NAME))
    except ValueError:
        where = days.zone(days.UTC_NAME)  # the model says so
    try:
        return days.day_of(said, environ, where)
    except ValueError as error:
        if said is not None:
            found.problems.append(Problem((), f"--day: expected {days.RULE}"))
        for text in texts:
            if said is None and any(name == days.VARIABLE or form for _, name, form in text.pattern.findall(text.text)):
                found.problems.append(Problem(text.place, str(error)))
        return days.day_of("today", {}, where)


def _sent(source: dict[str, Any], defaults: object) -> tuple[str, ...]:
    """The texts of the body that is sent for a source; none where it is not asked by POST."""
    both = {**(defaults if isinstance(defaults, dict) else {}), **source}
    return tuple(text.text for text in _body((), both)) if both.get("method") == "POST" else ()


def _tell_days_apart(
    number: int, source: dict[str, Any], bodies: tuple[str, ...], values: _Values, found: Found
) -> None:
    """When this source's record may be asked about; gives files of an address that names a day names that do so."""
    nobody = Found()

    def on(day: date, *keys: str) -> tuple[str, ...]:
        texts = [(key, source.get(key)) for key in keys]
        that = _Values(values.environ, day)
        patterns = {key: _VARIABLE_OF_NAMES if key in _NAMES else _VARIABLE for key in keys}
        return tuple(that.put_in(text, nobody, patterns[key])[0] for key, text in texts if isinstance(text, str))

    def asked(day: date) -> tuple[str, ...]:
        that = _Values(values.environ, day)
        return on(day, "url") + tuple(that.put_in(text, nobody, _VARIABLE_OF_BODIES)[0] for text in bodies)

    def name(day: date) -> tuple[str, ...]:
        return on(day, "file_name") if source.get("file_name") is not None else (_last_part(on(day, "url")),)

    def settle() -> Conditions:
        return days.conditions(values.day, asked, lambda day: on(day, "source_id", "dataset"), name)

    if not isinstance(source.get("url"), str):
        return
    settled = settle()
    if settled is Conditions.NEVER and source.get("file_name") is None:
        stem, suffixes = names.split_suffixes(name(values.day)[0])
        source["file_name"] = names.harmless(f"{stem}-{values.day}{suffixes}").replace("${", "$${")
        settled = Conditions.SAME_NAME
    found.conditions[number] = settled


def _last_part(urls: tuple[str, ...]) -> str:
    try:
        return names.harmless(unquote(urlsplit(urls[0]).path.rpartition("/")[2]))
    except ValueError:
        return names.NAMELESS  # no address: the model says so


def _left_alone(raw: dict[str, Any], expanded: set[Place]) -> Iterator[Problem]:
    """Variables where they would be taken literally."""
    waiting: list[tuple[Place, object]] = [((), raw)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*place, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, number), inner) for number, inner in enumerate(value)]
        elif isinstance(value, str) and place not in expanded and place not in _FOLDERS and _LEFT_ALONE.search(value):
            yield Problem(place, "variables are not expanded here; write the value out")


def _texts(raw: dict[str, Any]) -> Iterator[_Text]:
    """Addresses, headers, bodies and names, wherever the data has the shape for it."""
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
    """The sources as they stand in the file; none where that is no list."""
    sources = raw.get("sources")
    return sources if isinstance(sources, list) else []


def _of_owner(where: Place, owner: object) -> Iterator[_Text]:
    """What both the defaults and a source may have."""
    if isinstance(owner, dict):
        headers = owner.get("headers")
        texts = headers.items() if isinstance(headers, dict) else ()
        yield from (_Text((*where, "headers", name), headers, name) for name, value in texts if isinstance(value, str))
        if isinstance(owner.get("proxy"), str):
            yield _Text((*where, "proxy"), owner, "proxy")
        yield from _body(where, owner)


def _body(where: Place, owner: dict[str, Any]) -> Iterator[_Text]:
    """Every text in a body, its keys left out."""
    waiting: list[tuple[Place, Any, Any]] = [((*where, "body"), owner, "body")] if "body" in owner else []
    while waiting:
        place, holder, key = waiting.pop()
        value = holder[key]
        if isinstance(value, str):
            yield _Text(place, holder, key, _VARIABLE_OF_BODIES)
        elif isinstance(value, dict | list):
            keys = value if isinstance(value, dict) else range(len(value))
            waiting += [((*place, inner), value, inner) for inner in keys]
