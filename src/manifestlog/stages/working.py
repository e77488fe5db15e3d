"""Opens what each worker process of a run needs, and turns a batch into its answer.

Invariants:

- A worker closes its manifest: its own copy after a fork, otherwise the one it opened.
- An `async def` runs on the event loop of one thread; the threads that wait for it land their items together.

`workers.main` handles signals, logging and the death of the parent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.errors import ManifestError, RecordRejectedError
from manifestlog.options import Durability
from manifestlog.stages import function
from manifestlog.stages.arrival import Arrival, Landing
from manifestlog.stages.claiming import DoneByOthers, StageClaims
from manifestlog.stages.command_work import Commander
from manifestlog.stages.definition import CommandWork, FunctionWork, Stage
from manifestlog.stages.guard import Guard
from manifestlog.stages.inputs import Inputs
from manifestlog.stages.items import Naming
from manifestlog.stages.landing import land
from manifestlog.stages.rule import Rule
from manifestlog.stages.worker import Batch, BatchDone, Worker, work_on
from manifestlog.stages.workspace import Workspace
from manifestlog.workers.grouping import Grouping

if TYPE_CHECKING:
    from manifestlog.managers import ProcessedManifestManager
    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Outcome
    from manifestlog.workers.link import WorkerLink


ORPHAN_S = 5.0
"""How long a worker goes on after its parent was killed, to record what it has just done."""


class StageJob(NamedTuple):
    """What every worker of a run receives."""

    stage: Stage
    manifest: ProcessedManifestManager
    naming: Naming
    rule: Rule
    cursor: str
    """The position in the manifest's history as of which the items are pending."""
    run: str | None
    shows_start: bool = False

    @property
    def is_async(self) -> bool:
        """Whether one worker process does several items at once."""
        work = self.stage.work
        return isinstance(work, FunctionWork) and function.is_async(function.load(work, self.stage.name))


@contextmanager
def answering(job: StageJob, link: WorkerLink) -> Iterator[Callable[[Batch], BatchDone]]:
    """Open what a worker process needs; yield the function that does a batch."""
    _end_soon_after_parent()
    with job.manifest, working(job, link) as answer:
        yield answer


def _end_soon_after_parent() -> None:
    """End this worker some seconds after its parent died. `workers.main` asks it to stop, which a function cannot hear."""
    threading.Thread(target=_outlive_parent, name="outlive-parent", daemon=True).start()


def _outlive_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        time.sleep(ORPHAN_S)
        os._exit(1)


@contextmanager
def working(job: StageJob, link: WorkerLink) -> Iterator[Callable[[Batch], BatchDone]]:
    """Open what a worker needs besides the manifest; yield the function that does a batch."""
    with StageClaims(job.manifest) as claims, Guard() as guard:
        worker = _worker(job, claims, guard, link)
        if not job.is_async:
            yield partial(work_on, worker)
            return
        coroutines = import_module("manifestlog.stages.coroutines")  # asyncio is slow to import
        worker.land = partial(_land_together, Grouping[Arrival]())
        with coroutines.event_loop() as loop:
            link.interrupt = partial(coroutines.cancel, loop)
            assert isinstance(job.stage.work, FunctionWork)
            caller = function.Caller(job.stage, function.load(job.stage.work, job.stage.name))
            worker.perform = partial(coroutines.awaited, caller, loop)
            yield partial(work_on, worker)


def _worker(job: StageJob, claims: StageClaims, guard: Guard, link: WorkerLink) -> Worker:
    workspace = Workspace(job.stage, job.manifest.location.name)
    landing = landing_of(job.stage, job.manifest, claims, workspace)
    others = DoneByOthers(job.manifest, job.rule, job.cursor, job.run)
    return Worker(
        job.naming,
        job.rule,
        landing,
        claims,
        others,
        performer(job.stage, workspace, claims, guard, link),
        Inputs(workspace),
        link.stop,
        checks_input=job.stage.check_input,
        emit=link.send if job.shows_start else None,
    )


def landing_of(stage: Stage, manifest: ProcessedManifestManager, claims: StageClaims, workspace: Workspace) -> Landing:
    """Return what is needed to land items of this stage. Their outputs are as durable as the manifest's records."""
    return Landing(stage, manifest, claims, workspace, manifest.options.durability is Durability.POWER_CUT)


def performer(
    stage: Stage, workspace: Workspace, claims: StageClaims, guard: Guard, link: WorkerLink
) -> Callable[[Item], Outcome]:
    """Return what does the work on an item."""
    if isinstance(stage.work, CommandWork):
        return Commander(stage, stage.work, workspace, lambda: claims.descriptors, guard, link.stop)
    assert isinstance(stage.work, FunctionWork)
    return function.Caller(stage, function.load(stage.work, stage.name))


# -- what is done, of several threads ----------------------------------------------------------------------------------


def _land_together(grouping: Grouping[Arrival], landing: Landing, arrivals: list[Arrival]) -> None:
    """Land items together with those of other threads. Raises `ManifestError` if the manifest fails."""
    for one in arrivals:
        grouping.join(one, partial(_land_group, landing))
        if isinstance(one.error, ManifestError) and not isinstance(one.error, RecordRejectedError):
            raise one.error


def _land_group(landing: Landing, group: list[Arrival]) -> None:
    try:
        land(landing, group)
    except Exception as error:  # noqa: BLE001 -- raised again in the thread of each item
        for one in group:
            one.error = one.error or error
