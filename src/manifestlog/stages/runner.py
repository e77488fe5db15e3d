"""Runs a stage: finds what is pending, distributes it to worker processes, and collects the outcomes in a report."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from manifestlog.options import ManifestOptions
from manifestlog.stages.definition import Stage
from manifestlog.stages.report import ItemRef, StageEvent, StageReport

OnEvent = Callable[[StageEvent], None]


def run_stage(
    stage: Stage,
    directory: str | os.PathLike[str] = "manifests",
    *,
    options: ManifestOptions | None = None,
    only: str | None = None,
    retry_failed: bool = False,
    on_event: OnEvent | None = None,
    shows_start: bool = False,
    asked_to_stop: Callable[[], int] | None = None,
    initializer: Callable[[], None] | None = None,
) -> StageReport:
    """Process everything that is pending for a stage, and return a report.

    `directory` holds the manifests that the stage names. `only` is a pattern (the shell's wildcards) for the path,
    source_id or dataset of the items to do. `retry_failed` also tries what was given up. A failed item is part of the
    report and does not stop the others. `asked_to_stop` is polled: at 1 the run ends after the items in work, from 2 on
    at once. `on_event` is called in this process. Each worker process calls `initializer` first.

    Raises `ManifestNotFoundError`, `DamagedManifestError` and `NewerFormatError` for the upstream manifest or the
    stage's, and `StageError` if the stage cannot run, all before anything is done.
    """
    raise NotImplementedError


def pending_items(
    stage: Stage,
    directory: str | os.PathLike[str] = "manifests",
    *,
    only: str | None = None,
    retry_failed: bool = False,
) -> Collection[ItemRef]:
    """Return what a run would do; nothing is written. Raises as `run_stage`."""
    raise NotImplementedError
