"""The definition of a stage: plain data, the same from a configuration and from Python.

Invariants:

- An existing `Stage` is usable: a bad value raises `StageError`, which names the field.
- It says what to do, never whether it was done; the stage's manifest says that.

It opens nothing and loads no function.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from manifestlog.factory import DEFAULT_ETL_VERSION
from manifestlog.model.models import ETLProcess
from manifestlog.names import check_name, name_of
from manifestlog.stages import naming, placeholders
from manifestlog.stages.errors import StageError
from manifestlog.stages.where import Where

LOG_DAYS_MAX = 36_500
_TYPES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (str, "a text", ("name", "version")),
    (str | None, "a text", ("output", "dataset", "group_by")),
    (int, "a whole number", ("jobs", "retries", "log_days")),
    (int | None, "a whole number", ("give_up_after",)),
    (int | float, "a number", ("backoff_s",)),
    (int | float | None, "a number", ("timeout_s",)),
    (bool, "True or False", ("check_input",)),
    (Where, "a `Where`", ("where",)),
)
"""The types of fields that nothing converts."""
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Rerun(StrEnum):
    """What makes a processed input pending again.

    - `VERSION`: another `version` of the stage. The default.
    - `CODE`: another version, or a change of the command, of a script that it names, or of the function's module.
    - `NEVER`: nothing.
    """

    VERSION = "version"
    CODE = "code"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class FunctionWork:
    """A Python function, as `package.module:name` or as an object.

    It is called as `function(item)` or `function(item, output)`, with an `Item` and the path to write the output to. An
    `async def` processes several items at once in one worker process; any other function runs in several processes.
    """

    function: str | Callable[..., Any]


@dataclass(frozen=True, slots=True)
class CommandWork:
    """A command, run without a shell for each item. The module `placeholders` lists the placeholders of its arguments.

    Exit code 0 means success. The output is then `{output}`, or every file in `{output_dir}`. A command with neither has
    no output.
    """

    argv: tuple[str, ...]
    _: KW_ONLY
    cwd: Path | None = None
    """[default: the working directory of the run]"""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables in addition to those of the run; placeholders are allowed in the values."""
    judges: bool = False
    """Whether it validates its input: exit code 0 means valid; 1 to 125 mean invalid, and its last line on stderr says why,
    or on stdout if stderr is empty."""
    nothing_exit: int | None = None
    """The exit code which means that there is nothing to do with this input."""


Work = FunctionWork | CommandWork


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a pipeline: for each record of `upstream`, do `work`, and record the result in `manifest`.

    `upstream` and `manifest` are names of manifests in the directory of the run (`systems_download`), or paths. Raises
    `StageError` for an invalid value.
    """

    upstream: str
    manifest: str
    work: Work | None = None
    """What to do with an item; None for a stage whose items a loop takes (`Pipeline`)."""
    _: KW_ONLY
    name: str = ""
    """[default: the last part of the manifest's name, such as `processing`]"""
    process: ETLProcess = ETLProcess.TRANSFORMER
    """The `process` of a new manifest."""
    version: str = DEFAULT_ETL_VERSION
    output: str | None = None
    """The pattern of an output's path below `output_dir`, such as `{dataset}/{stem}.json`. The module
    `placeholders` lists the placeholders. [default: `{dataset}/` and the name of the input's file]"""
    output_dir: Path = Path("data")
    """The directory of the outputs, relative to the working directory. No output is ever written outside it."""
    dataset: str | None = None
    """The dataset of the outputs. [default: the input's]"""
    where: Where = field(default_factory=Where)
    """Which upstream records are processed. [default: all that were not judged invalid]"""
    group_by: str | None = None
    """Process groups of records instead of single records. Group by `dataset`, `source_id`, a pattern with placeholders
    (`{dataset}/{month}`), or a regular expression for the path, whose groups are the key. A group is pending whenever a
    member is new. It has the latest record of each source in it."""
    jobs: int = 1
    """Worker processes; for an `async def`, items at once in one worker process."""
    retries: int = 0
    """How often a run repeats a failed item."""
    backoff_s: float = 1.0
    """The pause before the first repetition. It doubles each time, up to 5 minutes."""
    timeout_s: float | None = None
    """How long one attempt may take. After that, a command and its process group get SIGTERM, and SIGKILL 10 s later. A
    sync function ends with its worker, which is killed; an `async def` is cancelled."""
    rerun: Rerun = Rerun.VERSION
    give_up_after: int | None = None
    """Stop trying an input after this many failed attempts by this version (with `Rerun.CODE`, by this code), in all runs.
    [default: never]"""
    check_input: bool = False
    """Whether to hash the input after each attempt. If it is not what upstream recorded, the attempt has failed."""
    log_dir: Path | None = None
    """Where the stdout and stderr of commands are kept, by day and item. [default:
    `<output_dir>/.manifestlog.work/<manifest>/logs`]"""
    log_days: int = 30
    """How many days these are kept."""

    def __post_init__(self) -> None:
        for one in ("upstream", "manifest"):
            self._set(one, os.fsdecode, "the name or path of a manifest")
        if not self.name:
            object.__setattr__(self, "name", _last_part(self.manifest))
        self._check_types()
        self._set("process", ETLProcess, f"one of {', '.join(ETLProcess)}")
        self._set("rerun", Rerun, f"one of {', '.join(Rerun)}")
        self._set("output_dir", Path, "the path of a directory")
        self._set("log_dir", lambda given: None if given is None else Path(given), "the path of a directory")
        self._require("upstream", bool(self.upstream), "expected the name or path of a manifest")
        self._require("manifest", bool(self.manifest), "expected the name or path of a manifest")
        self._require("manifest", self.manifest != self.upstream, "a stage cannot be its own upstream")
        self._require("version", bool(self.version), "expected a text that is not empty")
        self._require("dataset", self.dataset != "", "expected a text that is not empty")
        self._require("jobs", self.jobs >= 1, "expected at least 1")
        self._require("retries", self.retries >= 0, "expected 0 or more")
        self._require("backoff_s", 0 <= self.backoff_s < math.inf, "expected 0 or more seconds")
        self._require("timeout_s", self.timeout_s is None or self.timeout_s > 0, "expected more than 0 seconds")
        self._require("give_up_after", self.give_up_after is None or self.give_up_after >= 1, "expected at least 1")
        self._require("log_days", 1 <= self.log_days <= LOG_DAYS_MAX, f"expected 1 to {LOG_DAYS_MAX} days")
        self._check_work()
        self._check_patterns()

    def _check_types(self) -> None:
        for kind, expected, names in _TYPES:
            for name in names:
                self._require(name, isinstance(getattr(self, name), kind), f"expected {expected}")

    def _set(self, name: str, kind: Callable[[Any], object], expected: str) -> None:
        given = getattr(self, name)
        try:
            object.__setattr__(self, name, kind(given))
        except (ValueError, TypeError):
            raise StageError(self.name, name, f"expected {expected}, got {given!r:.80}") from None

    def _require(self, name: str, is_met: bool, reason: str) -> None:  # noqa: FBT001 -- a condition
        if not is_met:
            raise StageError(self.name, name, f"{reason}, got {getattr(self, name)!r:.80}")

    def _check_work(self) -> None:
        work = self.work
        if isinstance(work, CommandWork):
            are_texts = not isinstance(work.argv, str) and all(isinstance(one, str) for one in work.argv)
            self._require("work", are_texts, "expected the program and each argument as a text of its own")
            are_texts = all(isinstance(one, str) for one in work.env.values())
            self._require("work", are_texts, "expected texts as the values of env")
            self._require("work", bool(work.argv), "a command has at least one argument")
        elif isinstance(work, FunctionWork):
            named = isinstance(work.function, str) and _FUNCTION.fullmatch(work.function)
            self._require("work", bool(named) or callable(work.function), "expected package.module:name, or a function")
        else:
            self._require("work", work is None, "expected a command or a function")

    def _check_patterns(self) -> None:
        """Refuse what would fail for every item."""
        reason = naming.output_problem(self.output) if self.output else None
        self._require("output", reason is None, reason or "")
        if self.group_by is not None:
            naming.GroupKey(self.name, self.group_by)
        if isinstance(self.work, CommandWork):
            for key, texts in (("command", self.work.argv), ("env", self.work.env.values())):
                if (reason := placeholders.command_problem(texts)) is not None:
                    raise StageError(self.name, key, reason)


def _last_part(manifest: str) -> str:
    name = name_of(manifest)
    try:
        return check_name(name).rpartition("_")[2]
    except ValueError as error:
        reason = str(error) if name == manifest else f"{manifest}: {error}"
        raise StageError("", "manifest", reason) from None
