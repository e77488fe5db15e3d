"""The call that runs a stage, in two forms: with a `Stage`, or with the arguments that most stages need.

Invariants:

- The short form makes a `Stage` and runs it, so both do the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from manifestlog.stages.definition import FunctionWork, Stage
from manifestlog.stages.runner import run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from manifestlog.model.models import ETLProcess
    from manifestlog.options import ManifestOptions
    from manifestlog.stages.definition import Rerun
    from manifestlog.stages.report import StageEvent, StageReport
    from manifestlog.stages.where import Where


class HowToRun(TypedDict, total=False):
    """The options of one run."""

    options: ManifestOptions | None
    """For the manifest that the stage writes."""
    only: str | None
    """A pattern (the shell's wildcards) for the path, source_id or dataset of the items to process."""
    retry_failed: bool
    """Whether to try items, too, that the stage has given up."""
    leave_out: Collection[str]
    """The keys of items to skip."""
    on_event: Callable[[StageEvent], None] | None
    """Called in this process for each event."""
    shows_start: bool
    """Whether `on_event` also receives `Started`."""
    asked_to_stop: Callable[[], int] | None
    """Polled: at 1 the run ends after the items in progress, from 2 on at once."""
    initializer: Callable[[], None] | None
    """Called first in each worker process."""


class Settings(HowToRun, total=False):
    """The options of one run, and the settings of its stage: those of `Stage`."""

    name: str
    process: ETLProcess | str
    version: str
    output: str | None
    output_dir: str | os.PathLike[str]
    dataset: str | None
    where: Where
    group_by: str | None
    jobs: int
    retries: int
    backoff_s: float
    timeout_s: float | None
    rerun: Rerun | str
    give_up_after: int | None
    check_input: bool
    log_dir: Path | None
    log_days: int


@overload
def run_stage(
    stage: Stage, directory: str | os.PathLike[str] = "manifests", **how: Unpack[HowToRun]
) -> StageReport: ...


@overload
def run_stage(
    upstream: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    function: str | Callable[..., Any],
    directory: str | os.PathLike[str] = "manifests",
    **settings: Unpack[Settings],
) -> StageReport: ...


def run_stage(*given: Any, **named: Any) -> StageReport:
    """Process everything that is pending for a stage, and return a report.

    Pass a `Stage`, or the manifests that it reads and writes, its function (or `package.module:name`), and settings of
    `Stage` such as `version`, `output_dir` and `jobs`.

    `directory` holds the manifests that the stage names; it may be the URL of a database. Both forms take the options of
    one run. `options` are those of the manifest that it writes. `only` is a pattern (the shell's wildcards) for the path,
    source_id or dataset of the items to process. `retry_failed` also tries items that the stage has given up. Items whose
    keys are in `leave_out` are skipped. A failed item is part of the report and does not stop the others. `asked_to_stop`
    is polled: at 1 the run ends after the items in progress, from 2 on at once. `on_event` is called in this process. Each
    worker process calls `initializer` first.

    With one job, and without `asked_to_stop` and `timeout_s`, the work happens in this process. Raises, before anything is
    done, `ManifestNotFoundError`, `DamagedManifestError` and `NewerFormatError` for the upstream manifest or the stage's,
    and `StageError` if the stage cannot run. `CommandNotStartedError` and other `ManifestError`s may end a run midway.
    """
    if "stage" in named or isinstance(given[0] if given else None, Stage):
        return run(*given, **named)
    return _run_function(*given, **named)


def _run_function(
    upstream: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    function: str | Callable[..., Any],
    directory: str | os.PathLike[str] = "manifests",
    **settings: Any,
) -> StageReport:
    how = {name: settings.pop(name) for name in HowToRun.__annotations__.keys() & settings.keys()}
    stage = Stage(os.fspath(upstream), os.fspath(manifest), FunctionWork(function), **settings)
    return run(stage, directory, **how)
