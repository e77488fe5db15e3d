"""The configuration of the extract step: read, completed from the environment, validated.

Invariants:

- Either everything is right, or there is one `ConfigError` that names the first problem's place and counts the others.
- No message shows a value: it could be a secret in the wrong place.
- What came from the environment is known, so that it can be redacted, and is in no `repr` and no dump.

It does not look at the folders that it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from manifestlog.extract import days, names, place, reach
from manifestlog.extract.errors import ConfigError
from manifestlog.extract.expectations import Expectations
from manifestlog.extract.reach import Reach
from manifestlog.extract.secrets import SECRET_CHARACTERS_MIN
from manifestlog.extract.source import STRICT, ETLSource, Headers, Span, WithHeaders
from manifestlog.extract.syntax import Place, read, repeated, shown
from manifestlog.extract.variables import Problem, expand, sources_of
from manifestlog.naming import NAME_PATTERN, NAME_RULE, check_name

_SHELLS = re.compile(r"~|.*\$[{A-Za-z_]")
"""What a shell would expand: as a folder's name it is most likely a mistake, and `rm -r ~` the way to tidy up."""
_SECONDS_MAX = 86_400
_OF_RUNS = ("state", "conditions")
ADDRESS_REMEDY = (
    "but it is an address, and files cannot be kept at one yet; name a local folder (./ in front takes it as a name)"
)
"""For `s3://bucket` in place of a folder."""


def _folder(value: object, info: ValidationInfo) -> object:
    """An absolute path; relative ones lie beside the configuration file."""
    if not isinstance(value, str | Path):
        return value
    if not str(value) or not str(value).isprintable():
        raise ValueError("expected the path of a folder; write . for the configuration's own")
    if names.is_address(str(value)):
        raise ValueError(f"expected a folder on this machine, {ADDRESS_REMEDY}")
    if _SHELLS.match(str(value)):
        raise ValueError("~ and variables are not expanded in a path; write it out (./~ for a folder of that name)")
    base = info.context["folder"] if info.context else ""
    return Path(os.path.abspath(os.path.join(base, value)))


def _manifest(name: str) -> str:
    try:
        return check_name(name)
    except ValueError:
        raise ValueError(
            f"expected the first part of {NAME_PATTERN} ({NAME_RULE}); write it without folder and suffix"
        ) from None


def _zone(name: str) -> str:
    days.zone(name)
    return name


def _not_empty(sources: tuple[ETLSource, ...]) -> tuple[ETLSource, ...]:
    if not sources:
        raise ValueError("is empty; name at least one source")
    return sources


_Folder = Annotated[Path, BeforeValidator(_folder)]
_Seconds = Annotated[float, Field(strict=True, gt=0, le=_SECONDS_MAX, allow_inf_nan=False)]
_Pause = Annotated[float, Field(strict=True, ge=0, le=_SECONDS_MAX, allow_inf_nan=False)]


class Defaults(Expectations, Reach, WithHeaders):
    """How every source is fetched."""

    jobs: int = Field(default=4, strict=True, ge=1, le=1024, description="a whole number from 1 to 1024")
    retries: int = Field(default=5, strict=True, ge=0, le=100, description="a whole number from 0 to 100")
    backoff_s: _Pause = Field(default=0.5, description=f"seconds, from 0 to {_SECONDS_MAX}")
    timeout_connect_s: _Seconds = Field(default=10.0, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    timeout_read_s: _Seconds = Field(default=60.0, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    bytes_per_s_min: float = Field(
        default=10.0, strict=True, ge=0, allow_inf_nan=False, description="bytes per second, 0 or more"
    )
    stall_s: _Seconds = Field(default=120.0, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    timeout_total_s: _Seconds | None = Field(default=None, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    decode: bool | None = Field(default=None, strict=True, description="true or false")
    stale_after: Span | None = Field(default=None, description="a span such as 36h or 7d")
    redirects_max: int = Field(default=10, strict=True, ge=0, le=100, description="a whole number from 0 to 100")
    headers: Headers = Field(default={}, repr=False, description="an object of texts by the names of headers")


class ExtractConfig(BaseModel):
    """Where everything lies, and what to fetch."""

    model_config = STRICT

    etl_version: str = Field(min_length=1, description="a text that is not empty")
    manifests_dir: _Folder = Field(description="the path of a folder")
    data_dir: _Folder = Field(description="the path of a folder")
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default=days.UTC_NAME, description="a time zone such as Europe/Berlin"
    )
    manifest: Annotated[str, AfterValidator(_manifest)] = Field(description="a manifest's name")
    defaults: Defaults = Field(default=Defaults(), description="an object")
    sources: Annotated[tuple[ETLSource, ...], AfterValidator(_not_empty)] = Field(description="a list of objects")

    _from_environment: frozenset[str] = PrivateAttr(default=frozenset())

    def model_post_init(self, context: Any, /) -> None:
        self._from_environment = frozenset(context["from_environment"] if context else ())

    @property
    def from_environment(self) -> frozenset[str]:
        """The values that stood for `${NAME}`, for a `Redactor`."""
        return self._from_environment


def load_config(path: str | os.PathLike[str], environ: Mapping[str, str], *, day: str | None = None) -> ExtractConfig:
    """The configuration in this file, for this day (`2024-05-01`, `today`, `yesterday`); raises `ConfigError`."""
    name = os.fspath(path)
    raw = read(name)
    if problems := [Problem(where, "stands twice; keep one") for where in repeated(raw)]:
        raise _error(name, problems)
    found = expand(raw, environ, day)
    problems += found.problems
    context = {"folder": os.path.dirname(os.path.abspath(name)), "from_environment": found.used}
    try:
        config = ExtractConfig.model_validate(raw, context=context)
        _keep_private(config, found.private)
        problems += _conflicts(config)
    except ValidationError as error:
        known = {problem.place for problem in problems}
        problems += [p for p in map(_problem, error.errors(include_input=False)) if p.place not in known]
    problems += _states(raw)
    if problems:
        raise _error(name, problems)
    sources = (
        source.model_copy(update={"conditions": found.conditions.get(number, source.conditions)})
        for number, source in enumerate(config.sources)
    )
    return config.model_copy(update={"sources": tuple(sources)})


def _error(path: str, problems: list[Problem]) -> ConfigError:
    first, more = problems[0], len(problems) - 1
    reason = first.reason + (f" (and {more} more {'problem' if more == 1 else 'problems'})" if more else "")
    return ConfigError(path, shown(first.place), reason)


def _keep_private(config: ExtractConfig, places: list[Place]) -> None:
    """Mark the headers at these places: their values came from the environment."""
    if names := [str(place[-1]) for place in places if place[:2] == ("defaults", "headers")]:
        config.defaults.keep_private(names)
    for number, source in enumerate(config.sources):
        where = ("sources", number, "headers")
        if names := [str(place[-1]) for place in places if place[:3] == where]:
            source.keep_private(names)


# -- problems ----------------------------------------------------------------------------------------------------------


def _problem(error: ErrorDetails) -> Problem:
    where = tuple(step for step in error["loc"] if step != "[key]")
    kind = error["type"]
    if kind == "missing":
        return Problem(where, f"is missing; add it: {_expected(where)}")
    if kind == "extra_forbidden":
        return Problem(where, _unknown(where))
    if kind == "value_error":  # ours
        return Problem(where, str(error["ctx"]["error"]))
    return Problem(where, f"expected {_expected(where)}; correct it")


def _model_at(where: Place) -> tuple[type[BaseModel], Place]:
    """Which model a place is in, and the rest of the way."""
    if where[0] == "sources" and len(where) > 2:
        return ETLSource, where[2:]
    if where[0] == "defaults" and len(where) > 1:
        return Defaults, where[1:]
    return ExtractConfig, where


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that a configuration has for them, those that many share last."""
    shared = Reach.model_fields | Expectations.model_fields
    own_first = sorted(
        model.model_fields.items(), key=lambda item: [*shared].index(item[0]) if item[0] in shared else -1
    )
    return {field.alias or name: field for name, field in own_first}


def _expected(where: Place) -> str:
    model, rest = _model_at(where)
    if len(rest) == 1:
        return str(_keys(model)[str(rest[0])].description)
    return "an object with source_id, dataset and url" if rest[0] == "sources" else "a text"


def _unknown(where: Place) -> str:
    model, rest = _model_at(where)
    known = [name for name in _keys(model) if name not in _OF_RUNS]
    close = get_close_matches(str(rest[0]), known, n=1)
    return f"unknown key; expected {f'{close[0]}, or another' if close else 'one'} of {', '.join(known)}"


def _states(raw: dict[str, Any]) -> Iterator[Problem]:
    """What is known from earlier runs, and how this one asks, is no matter of a configuration."""
    for number, source in enumerate(sources_of(raw)):
        for name in _OF_RUNS:
            if isinstance(source, dict) and name in source:
                where = ("sources", number, name)
                yield Problem(where, _unknown(where))


def _conflicts(config: ExtractConfig) -> Iterator[Problem]:
    """What is right alone and wrong together, or names a file that is not there."""
    yield from (Problem(("defaults", field), reason) for field, reason in reach.missing(config.defaults))
    if config.defaults.body and not any(reach.asks_by_post(source, config.defaults) for source in config.sources):
        yield Problem(("defaults", "body"), "is sent by POST only; set method to POST, or remove it")
    first: dict[tuple[str, str], int] = {}
    for number, source in enumerate(config.sources):
        earlier = first.setdefault((source.source_id, source.dataset), number)
        if earlier != number:
            reason = f"same source_id and dataset as sources[{earlier}]; change one of them, or keep one"
            yield Problem(("sources", number), reason)
        wrong = [*reach.misplaced(source, source.url, config.defaults), *reach.missing(source)]
        yield from (Problem(("sources", number, field), reason) for field, reason in wrong)
        name = place.name_of(source)
        if source.file_name is None and any(
            len(v) >= SECRET_CHARACTERS_MIN and v in name for v in config.from_environment
        ):
            reason = "puts a value from the environment into the file's name; give a file_name"
            yield Problem(("sources", number, "url"), reason)
        if place.target(config.data_dir, source).parent == config.manifests_dir:
            reason = "expected another folder than manifests_dir, where only manifests belong; choose another name"
            yield Problem(("sources", number, "dataset"), reason)
