"""The configuration of the extract step: parsed, expanded from the environment, validated.

Invariants:

- Either a valid configuration is returned, or one `ConfigError` names the place of the first problem and counts the
  others.
- No message contains a value, because it may be a secret in the wrong place.
- Values from the environment are known, so that they can be redacted; they appear in no `repr` and no dump.

It does not access the directories that it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from manifestlog import locating, safe_names
from manifestlog.extract import paths, request_options
from manifestlog.extract.config import run_day
from manifestlog.extract.config.reader import Place, read, repeated, shown
from manifestlog.extract.config.redaction import SECRET_CHARACTERS_MIN
from manifestlog.extract.config.source import STRICT, ETLSource, Headers, Span, WithHeaders
from manifestlog.extract.config.variables import Problem, expand, sources_of
from manifestlog.extract.errors import ConfigError
from manifestlog.extract.expectations import Expectations
from manifestlog.extract.request_options import RequestOptions
from manifestlog.model.url_paths import UrlPath
from manifestlog.names import NAME_PATTERN, NAME_RULE, check_name, is_path, location_in
from manifestlog.objects import locations
from manifestlog.options import FOREVER, HISTORY_RULE, parse_history

_SHELLS = re.compile(r"~|.*\$[{A-Za-z_]")
"""Text that a shell would expand: as a directory name it is most likely a mistake, and `rm -r ~` would remove it."""
_SECONDS_MAX = 86_400
_OF_RUNS = ("state", "conditions")
_MISSING, _UNKNOWN = "the key is missing", "unknown key"
_LOCAL_ONLY = "expected a local directory, but this is a URL; name a local directory (prefix ./ to use it as a name)"
"""For a URL such as `s3://bucket` in place of a directory."""


def _directory(value: object, info: ValidationInfo) -> object:
    """Return an absolute path; relative paths start at the configuration file's directory."""
    if not isinstance(value, str | Path):
        return value
    if not str(value) or not str(value).isprintable():
        raise ValueError("expected the path of a directory; write . for the configuration file's own")
    if safe_names.is_address(str(value)):
        raise ValueError(_LOCAL_ONLY)
    if _SHELLS.match(str(value)):
        raise ValueError("~ and variables are not expanded in a path; write it out (./~ for a directory of that name)")
    base = info.context["directory"] if info.context else ""
    return Path(os.path.abspath(os.path.join(base, value)))


def _manifests_directory(value: object, info: ValidationInfo) -> object:
    """Return an absolute path, or the URL of a database as it is."""
    if not isinstance(value, str | Path):
        raise ValueError(f"{locating.EXPECTED}; correct it")
    if is_path(value):
        return _directory(value, info)
    if not str(value).isprintable():
        raise ValueError("expected a URL without control characters; correct it")
    if _SHELLS.match(str(value)):
        raise ValueError("variables are not expanded in a URL; write it out, or let libpq take PGHOST and the like")
    if reason := locating.problem(str(value)):
        raise ValueError(f"{reason}; correct it")
    return str(value)


def _data_directory(value: object, info: ValidationInfo) -> object:
    """Return an absolute path, or the URL of a directory in an object store."""
    if isinstance(value, UrlPath) or not isinstance(value, str) or not safe_names.is_address(value):
        return value if isinstance(value, UrlPath) else _directory(value, info)
    if not value.isprintable():
        raise ValueError("expected a URL without control characters; correct it")
    if reason := locations.problem(value.rstrip("/")):
        raise ValueError(reason)
    return UrlPath(value.rstrip("/"))


def _manifest(name: str) -> str:
    try:
        return check_name(name)
    except ValueError:
        raise ValueError(
            f"expected the first part of {NAME_PATTERN} ({NAME_RULE}); write it without directory and suffix"
        ) from None


def _zone(name: str) -> str:
    run_day.time_zone(name)
    return name


def _history(keep: str) -> str:
    try:
        parse_history(keep)
    except ValueError:
        raise ValueError(f"expected {HISTORY_RULE}; correct it") from None
    return keep


def _not_empty(sources: tuple[ETLSource, ...]) -> tuple[ETLSource, ...]:
    if not sources:
        raise ValueError("the list is empty; add at least one source")
    return sources


_ManifestsDirectory = Annotated[Path | str, BeforeValidator(_manifests_directory)]
_DataDirectory = Annotated[Path, BeforeValidator(_data_directory)]
_Seconds = Annotated[float, Field(strict=True, gt=0, le=_SECONDS_MAX, allow_inf_nan=False)]
_Pause = Annotated[float, Field(strict=True, ge=0, le=_SECONDS_MAX, allow_inf_nan=False)]


class Defaults(Expectations, RequestOptions, WithHeaders):
    """How to fetch every source."""

    jobs: int = Field(default=2, strict=True, ge=1, le=1024, description="an integer from 1 to 1024")
    connections: int = Field(default=64, strict=True, ge=1, le=1024, description="an integer from 1 to 1024")
    connections_per_host: int = Field(default=8, strict=True, ge=1, le=1024, description="an integer from 1 to 1024")
    segments: int = Field(default=1, strict=True, ge=1, le=64, description="an integer from 1 to 64")
    request_pause_s: _Pause = Field(default=0.0, description=f"seconds, from 0 to {_SECONDS_MAX}")
    retries: int = Field(default=5, strict=True, ge=0, le=100, description="an integer from 0 to 100")
    backoff_s: _Pause = Field(default=0.5, description=f"seconds, from 0 to {_SECONDS_MAX}")
    timeout_connect_s: _Seconds = Field(default=10.0, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    timeout_read_s: _Seconds = Field(default=60.0, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    bytes_per_s_min: float = Field(
        default=10.0, strict=True, ge=0, allow_inf_nan=False, description="bytes per second, 0 or more"
    )
    stall_s: _Seconds = Field(default=120.0, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    timeout_total_s: _Seconds | None = Field(default=None, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    decode: bool | None = Field(default=None, strict=True, description="true or false")
    stale_after: Span | None = Field(default=None, description="a duration such as 36h or 7d")
    redirects_max: int = Field(default=10, strict=True, ge=0, le=100, description="an integer from 0 to 100")
    headers: Headers = Field(default={}, repr=False, description="an object of header names and values")


class ExtractConfig(BaseModel):
    """Where files and manifest are, and what to fetch.

    A configuration with `stages` may have no sources, and then needs no `manifest`: other programs fill the manifests
    that the stages read.
    """

    model_config = STRICT

    etl_version: str = Field(min_length=1, description="a non-empty string")
    manifests_dir: _ManifestsDirectory = Field(
        description="the path of a directory, or the URL of a database such as postgresql://host/etl"
    )
    data_dir: _DataDirectory = Field(description="the path of a directory, or its URL in an object store")
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default=run_day.UTC_NAME, description="a time zone such as Europe/Berlin"
    )
    manifest: Annotated[str, AfterValidator(_manifest)] = Field(default="", description="the name of a manifest")
    history: Annotated[str, AfterValidator(_history)] = Field(default=FOREVER, description=HISTORY_RULE)
    defaults: Defaults = Field(default=Defaults(), description="an object")
    sources: Annotated[tuple[ETLSource, ...], AfterValidator(_not_empty)] = Field(
        default=(), description="a list of objects"
    )
    stages: tuple[Any, ...] = Field(default=(), repr=False, description="a list of objects")
    """The stages, as written in the file; `manifestlog run` reads and validates them."""

    _from_environment: frozenset[str] = PrivateAttr(default=frozenset())

    def model_post_init(self, context: Any, /) -> None:
        self._from_environment = frozenset(context["from_environment"] if context else ())

    @property
    def manifest_location(self) -> str:
        """The path or URL of the manifest."""
        return location_in(self.manifests_dir, self.manifest)

    @property
    def from_environment(self) -> frozenset[str]:
        """The values that replaced `${NAME}`, for a `Redactor`."""
        return self._from_environment


def load_config(path: str | os.PathLike[str], environ: Mapping[str, str], *, day: str | None = None) -> ExtractConfig:
    """Return the configuration in this file for a day (`2024-05-01`, `today`, `yesterday`); raises `ConfigError`."""
    name = os.fspath(path)
    raw = read(name)
    if problems := [Problem(where, "the key appears twice; keep one") for where in repeated(raw)]:
        raise config_error(name, problems)
    found = expand(raw, environ, day)
    problems += found.problems
    context = {"directory": os.path.dirname(os.path.abspath(name)), "from_environment": found.used}
    try:
        config = ExtractConfig.model_validate(raw, context=context)
        _mark_private(config, found.private)
        problems += _conflicts(config)
    except ValidationError as error:
        known = {problem.place for problem in problems}
        problems += [p for p in map(_problem, error.errors(include_input=False)) if p.place not in known]
    problems += _missing(raw)
    problems += _runtime_only(raw)
    if problems:
        raise config_error(name, problems)
    sources = (
        source.model_copy(update={"conditions": found.conditions.get(number, source.conditions)})
        for number, source in enumerate(config.sources)
    )
    return config.model_copy(update={"sources": tuple(sources)})


def config_error(path: str, problems: Sequence[tuple[Place, str]]) -> ConfigError:
    """Return the error that names the place of the first problem and counts the others."""
    (place, reason), more = _to_name(problems), len(problems) - 1
    reason += f" (and {more} more {'problem' if more == 1 else 'problems'})" if more else ""
    return ConfigError(path, shown(place), reason)


def _to_name(problems: Sequence[tuple[Place, str]]) -> tuple[Place, str]:
    """Return the first problem; but of a misspelt key, which is unknown and also missing, that it is unknown."""
    place, reason = problems[0]
    if reason.startswith(_MISSING):
        near = (one for one in problems if one[1].startswith(_UNKNOWN) and one[0][:-1] == place[:-1])
        return next((one for one in near if f"expected {place[-1]}," in one[1]), problems[0])
    return place, reason


def _mark_private(config: ExtractConfig, places: list[Place]) -> None:
    """Mark the headers at these places as private: their values came from the environment."""
    if names := [str(place[-1]) for place in places if place[:2] == ("defaults", "headers")]:
        config.defaults.mark_private(names)
    for number, source in enumerate(config.sources):
        where = ("sources", number, "headers")
        if names := [str(place[-1]) for place in places if place[:3] == where]:
            source.mark_private(names)


# -- problems ----------------------------------------------------------------------------------------------------------


def _problem(error: ErrorDetails) -> Problem:
    where = tuple(step for step in error["loc"] if step != "[key]")
    kind = error["type"]
    if kind == "missing":
        return Problem(where, f"{_MISSING}; add it: {_expected(where)}")
    if kind == "extra_forbidden":
        return Problem(where, _unknown(where))
    if kind == "value_error":  # raised by our validators
        return Problem(where, str(error["ctx"]["error"]))
    return Problem(where, f"expected {_expected(where)}; correct it")


def _missing(raw: dict[str, Any]) -> Iterator[Problem]:
    """Report what is missing in a configuration with sources, or with nothing to do."""
    for key in ("manifest", "sources"):
        if key not in raw and ("sources" in raw or not raw.get("stages")):
            yield Problem((key,), f"the key is missing; add it: {_expected((key,))}")


def _model_at(where: Place) -> tuple[type[BaseModel], Place]:
    """Return the model at a place, and the rest of the place within it."""
    if where[0] == "sources" and len(where) > 2:
        return ETLSource, where[2:]
    if where[0] == "defaults" and len(where) > 1:
        return Defaults, where[1:]
    return ExtractConfig, where


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by their names in a configuration, fields shared by several models last."""
    shared = RequestOptions.model_fields | Expectations.model_fields
    own_first = sorted(
        model.model_fields.items(), key=lambda item: [*shared].index(item[0]) if item[0] in shared else -1
    )
    return {field.alias or name: field for name, field in own_first}


def _expected(where: Place) -> str:
    model, rest = _model_at(where)
    if len(rest) == 1:
        return str(_keys(model)[str(rest[0])].description)
    return "an object with source_id, dataset and url" if rest[0] == "sources" else "a string"


def _unknown(where: Place) -> str:
    model, rest = _model_at(where)
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a mistake

    known = [name for name in _keys(model) if name not in _OF_RUNS]
    close = get_close_matches(str(rest[0]), known, n=1)
    return f"{_UNKNOWN}; expected {f'{close[0]}, or another' if close else 'one'} of {', '.join(known)}"


def _runtime_only(raw: dict[str, Any]) -> Iterator[Problem]:
    """Report keys for the results of earlier runs and for conditions, which do not belong in a configuration."""
    for number, source in enumerate(sources_of(raw)):
        for name in _OF_RUNS:
            if isinstance(source, dict) and name in source:
                where = ("sources", number, name)
                yield Problem(where, _unknown(where))


def _conflicts(config: ExtractConfig) -> Iterator[Problem]:
    """Report valid values that conflict, and missing files."""
    yield from (
        Problem(("defaults", field), reason) for field, reason in request_options.missing_files(config.defaults)
    )
    if config.defaults.body and not any(
        request_options.uses_post(source, config.defaults) for source in config.sources
    ):
        yield Problem(("defaults", "body"), "is sent by POST only; set method to POST, or remove body")
    if isinstance(config.data_dir, UrlPath):
        yield from _without_local_files(config)
    first: dict[tuple[str, str], int] = {}
    for number, source in enumerate(config.sources):
        earlier = first.setdefault((source.source_id, source.dataset), number)
        if earlier != number:
            reason = f"same source_id and dataset as sources[{earlier}]; change one of them, or remove one"
            yield Problem(("sources", number), reason)
        wrong = [
            *request_options.unusable_fields(source, source.url, config.defaults),
            *request_options.missing_files(source),
        ]
        yield from (Problem(("sources", number, field), reason) for field, reason in wrong)
        name = paths.file_name_of(source)
        if source.file_name is None and any(
            len(v) >= SECRET_CHARACTERS_MIN and v in name for v in config.from_environment
        ):
            reason = "the file name would contain a value from the environment; set file_name"
            yield Problem(("sources", number, "url"), reason)
        if paths.path_for(config.data_dir, source).parent == config.manifests_dir:
            reason = "the files would be in manifests_dir, which is for manifests only; choose another name"
            yield Problem(("sources", number, "dataset"), reason)


def _without_local_files(config: ExtractConfig) -> Iterator[Problem]:
    """Report what needs the data files on the local disk."""
    reason = "runs a program on a local file, but data_dir is an object store; remove it"
    if config.defaults.validate_command:
        yield Problem(("defaults", "validate"), reason)
    for number, source in enumerate(config.sources):
        if source.validate_command:
            yield Problem(("sources", number, "validate"), reason)
