"""Turns the stages of a configuration, as plain data, into `Stage` objects.

Invariants:

- Either every stage is returned, or every problem, each with its place.
- No message contains a configured value, because it may be a secret in the wrong place. The name of a stage or of a
  placeholder is not a secret.

It reads no file, and does not know the rest of the configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from manifestlog.factory import DEFAULT_ETL_VERSION
from manifestlog.model.models import ETLProcess
from manifestlog.model.url_paths import UrlPath
from manifestlog.names import NAME_PATTERN, NAME_RULE, check_name
from manifestlog.stages.definition import LOG_DAYS_MAX, CommandWork, FunctionWork, Rerun, Stage
from manifestlog.stages.errors import StageError
from manifestlog.stages.order import in_order
from manifestlog.stages.where import JUDGEMENTS, Where

Place = tuple[str | int, ...]

EXTRACT = "extract"
"""The name of the first step of a run, which is no stage."""
_SECONDS_MAX = 31_536_000
_STAGE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SHELLS = re.compile(r"~|.*\$[{A-Za-z_]|.*://")
"""A path that a shell would expand, or a URL: as the name of a directory it is most likely a mistake."""
_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
_OF_COMMANDS = ("judges", "nothing_exit", "env")
_KEYS_OF_FIELDS = {"upstream": "from", "work": "command"}


class Problem(NamedTuple):
    """What is wrong with the value at a place of the configuration."""

    place: Place
    reason: str


def _stage_name(name: str) -> str:
    if not _STAGE_NAME.fullmatch(name):
        raise ValueError("expected a name of letters, digits, '-', '_' and '.'; correct it")
    if name == EXTRACT:
        raise ValueError(f"{EXTRACT} is the name of the first step, which fetches the sources; choose another name")
    return name


def _manifest(name: str) -> str:
    try:
        return check_name(name)
    except ValueError:
        message = f"expected the first part of {NAME_PATTERN} ({NAME_RULE}); write it without directory and suffix"
        raise ValueError(message) from None


def _function(name: str) -> str:
    if not _FUNCTION.fullmatch(name):
        raise ValueError("expected package.module:name; correct it")
    return name


def _directory(path: str) -> str:
    if _SHELLS.match(path):
        raise ValueError("expected a local directory; ~ and variables are not expanded in a path: write it out")
    return path


def _texts(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_Text = Annotated[str, Field(min_length=1)]
_Texts = Annotated[tuple[_Text, ...], BeforeValidator(_texts), Field(min_length=1)]
_Seconds = Annotated[float, Field(strict=True, gt=0, le=_SECONDS_MAX, allow_inf_nan=False)]
_Pause = Annotated[float, Field(strict=True, ge=0, le=_SECONDS_MAX, allow_inf_nan=False)]
_Directory = Annotated[str, Field(min_length=1), AfterValidator(_directory)]
_TEXT = "a non-empty string"


class _Where(BaseModel):
    """The conditions of a stage."""

    model_config = _STRICT

    dataset: _Texts | None = Field(default=None, description="a pattern, or a list of patterns")
    source: _Texts | None = Field(default=None, description="a pattern, or a list of patterns")
    since: _Text | None = Field(default=None, description="an ISO-8601 date or time")
    until: _Text | None = Field(default=None, description="an ISO-8601 date or time")
    path: _Text | None = Field(default=None, description="a pattern")
    judgement: _Text | None = Field(default=None, description=f"one of {', '.join(JUDGEMENTS)}")


class _Entry(BaseModel):
    """A stage as the configuration has it."""

    model_config = _STRICT

    name: Annotated[str, AfterValidator(_stage_name)] | None = Field(default=None, description="the name of the stage")
    upstream: _Text = Field(alias="from", description="the name of a stage or of a manifest")
    manifest: Annotated[str, AfterValidator(_manifest)] = Field(description="the name of a manifest")
    process: ETLProcess = Field(default=ETLProcess.TRANSFORMER, description=f"one of {', '.join(ETLProcess)}")
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="a list of strings: a program and its arguments"
    )
    function: Annotated[str, AfterValidator(_function)] | None = Field(default=None, description="package.module:name")
    where: _Where = Field(default=_Where(), description="an object")
    output: _Text | None = Field(default=None, description="a pattern such as {dataset}/{stem}.json")
    output_dir: _Directory | None = Field(default=None, description="the path of a directory")
    dataset: _Text | None = Field(default=None, description=_TEXT)
    group_by: _Text | None = Field(default=None, description=_TEXT)
    version: _Text = Field(default=DEFAULT_ETL_VERSION, description=_TEXT)
    rerun: Rerun = Field(default=Rerun.VERSION, description=f"one of {', '.join(Rerun)}")
    jobs: int = Field(default=1, strict=True, ge=1, le=1024, description="an integer from 1 to 1024")
    retries: int = Field(default=0, strict=True, ge=0, le=100, description="an integer from 0 to 100")
    backoff_s: _Pause = Field(default=1.0, description=f"seconds, from 0 to {_SECONDS_MAX}")
    timeout_s: _Seconds | None = Field(default=None, description=f"seconds, more than 0, at most {_SECONDS_MAX}")
    give_up_after: int | None = Field(default=None, strict=True, ge=1, description="an integer, 1 or more")
    check_input: bool = Field(default=False, strict=True, description="true or false")
    judges: bool = Field(default=False, strict=True, description="true or false")
    nothing_exit: int | None = Field(
        default=None, strict=True, ge=1, le=255, description="an exit code, an integer from 1 to 255"
    )
    env: Mapping[str, str] = Field(default={}, repr=False, description="an object of names and values")
    log_dir: _Directory | None = Field(default=None, description="the path of a directory")
    log_days: int = Field(default=30, strict=True, ge=1, le=LOG_DAYS_MAX, description="a number of days, 1 or more")


class Directories(NamedTuple):
    """Where the paths of a configuration start."""

    config: Path
    """The directory of the configuration file: commands run in it, and relative paths start at it."""
    data: Path
    """`data_dir`: the outputs of a stage go to the directory of its name in it."""


def read_stages(
    raw: object, directories: Directories, downloads: str | None = None
) -> tuple[list[Stage], list[Problem]]:
    """Return the stages in the order in which they run, or else all problems.

    `downloads` is the name of the manifest that `extract` writes. `from` may name it, a stage, a stage's manifest, or
    any other manifest, because other programs may fill that one.
    """
    if not isinstance(raw, list | tuple):
        return [], [Problem(("stages",), "expected a list of objects; correct it")]
    entries, problems = _entries(raw)
    if problems:
        return [], problems
    by_name = {_name(entry): entry.manifest for entry in entries}
    known = list(dict.fromkeys([*filter(None, [downloads]), *by_name, *by_name.values()]))
    stages = []
    for number, entry in enumerate(entries):
        if entry.manifest == downloads:
            reason = "extract writes this manifest; give the stage a manifest of its own"
            problems.append(Problem(("stages", number, "manifest"), reason))
            continue
        try:
            stages.append(_stage(entry, _upstream(entry.upstream, by_name, known), directories))
        except StageError as error:
            problems.append(_at(number, error))
    if problems:
        return [], problems
    try:
        return in_order(stages), []
    except StageError as error:
        number = max(n for n, stage in enumerate(stages) if stage.name == error.stage)
        return [], [_at(number, error)]


def _entries(raw: Sequence[object]) -> tuple[list[_Entry], list[Problem]]:
    entries, problems = [], []
    for number, one in enumerate(raw):
        place = ("stages", number)
        try:
            entry = _Entry.model_validate(one)
        except ValidationError as error:
            problems += [_problem(place, found) for found in error.errors(include_input=False)]
        else:
            entries.append(entry)
            problems += [Problem((*place, key), reason) for key, reason in _conflicts(entry)]
    return entries, problems


def _conflicts(entry: _Entry) -> Iterator[tuple[str, str]]:
    if entry.function is None and entry.command is None:
        yield "command", "the key is missing; add it, or function: what to do with each record"
    if entry.function is not None and entry.command is not None:
        yield "function", "a stage runs a command or a function; remove one of them"
    if entry.function is not None:
        for key in _OF_COMMANDS:
            if key in entry.model_fields_set:
                yield key, "is for commands; remove it, and let the function do this"
    if entry.name is None and entry.manifest.rpartition("_")[2] == EXTRACT:
        yield "manifest", f"its last part would be the stage's name, and {EXTRACT} is none; add a name"


def _name(entry: _Entry) -> str:
    return entry.name or entry.manifest.rpartition("_")[2]


def _upstream(name: str, by_name: Mapping[str, str], known: Sequence[str]) -> str:
    if name in by_name:
        return by_name[name]
    try:
        return check_name(name)
    except ValueError:
        close = get_close_matches(name, known, n=1)
        one = f"{close[0]}, or another" if close else "one"
        message = f"no stage or manifest has this name; expected {one} of {', '.join(known)}"
        raise StageError("", "upstream", message) from None


def _stage(entry: _Entry, upstream: str, directories: Directories) -> Stage:
    """Return the stage. Raises `StageError` for what only the stage itself refuses."""
    output_dir = directories.data / _name(entry)
    if entry.output_dir is None and isinstance(output_dir, UrlPath):
        reason = "outputs are stored locally, and data_dir is in an object store; add output_dir"
        raise StageError("", "output_dir", reason)
    return Stage(
        upstream=upstream,
        manifest=entry.manifest,
        work=_work(entry, directories),
        name=_name(entry),
        process=entry.process,
        version=entry.version,
        output=entry.output,
        output_dir=_beside(directories, entry.output_dir) or output_dir,
        dataset=entry.dataset,
        where=Where(**entry.where.model_dump()),
        group_by=entry.group_by,
        jobs=entry.jobs,
        retries=entry.retries,
        backoff_s=entry.backoff_s,
        timeout_s=entry.timeout_s,
        rerun=entry.rerun,
        give_up_after=entry.give_up_after,
        check_input=entry.check_input,
        log_dir=_beside(directories, entry.log_dir),
        log_days=entry.log_days,
    )


def _work(entry: _Entry, directories: Directories) -> CommandWork | FunctionWork:
    if entry.command is None:
        return FunctionWork(str(entry.function))
    return CommandWork(
        entry.command, cwd=directories.config, env=entry.env, judges=entry.judges, nothing_exit=entry.nothing_exit
    )


def _beside(directories: Directories, path: str | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(directories.config / path))


# -- problems ----------------------------------------------------------------------------------------------------------


def _at(number: int, error: StageError) -> Problem:
    steps = _KEYS_OF_FIELDS.get(error.field, error.field).split(".") if error.field else []
    return Problem(("stages", number, *steps), error.reason.partition(", got ")[0])


def _problem(place: Place, error: ErrorDetails) -> Problem:
    steps = tuple(step for step in error["loc"] if isinstance(step, int) or step in _KEYS)
    kind = error["type"]
    if kind == "missing":
        return Problem((*place, *steps), f"the key is missing; add it: {_expected(steps)}")
    if kind == "extra_forbidden":
        return Problem((*place, *error["loc"]), _unknown(error["loc"]))
    if kind == "value_error":  # raised by our validators
        return Problem((*place, *steps), str(error["ctx"]["error"]))
    return Problem((*place, *steps), f"expected {_expected(steps)}; correct it")


def _keys(model: type[BaseModel]) -> dict[str, str]:
    return {field.alias or name: str(field.description) for name, field in model.model_fields.items()}


_KEYS = {**_keys(_Where), **_keys(_Entry)}


def _expected(steps: Place) -> str:
    if not steps:
        return "an object with name, from, manifest, and command or function"
    if steps[0] == "where" and len(steps) > 1:
        return _keys(_Where)[str(steps[1])]
    return _keys(_Entry)[str(steps[0])]


def _unknown(steps: Place) -> str:
    known = _keys(_Where) if steps[0] == "where" and len(steps) > 1 else _keys(_Entry)
    close = get_close_matches(str(steps[-1]), known, n=1)
    return f"unknown key; expected {f'{close[0]}, or another' if close else 'one'} of {', '.join(known)}"
