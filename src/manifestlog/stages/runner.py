"""Runs a stage: finds pending items, distributes them to worker processes, and collects the outcomes in a report.

Invariants:

- A run that finds nothing pending reads only the events since the last run. It writes nothing, unless a failure is over
  because its inputs are no longer pending.
- Each item that was begun is in the report once. If its worker dies, another one tries it again, alone.
- However a run ends, recorded results stay recorded, and the next run continues from there.

`worker` does the work; `look` and `pending` find the items; `queue` hands them out.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from manifestlog.files.processes import this_process
from manifestlog.stages import command_logs, kept_look, leftovers, opening
from manifestlog.stages.claiming import StageClaims
from manifestlog.stages.items import Item
from manifestlog.stages.look import Between, Look, UncertainError
from manifestlog.stages.obsolete import obsolete_inputs
from manifestlog.stages.pending import Choice
from manifestlog.stages.queue import BATCH_MAX, Queue
from manifestlog.stages.report import DONE, Begun, Ended, Finished, ItemOutcome, Result, StageReport, Waiting
from manifestlog.stages.worker import lost_twice
from manifestlog.stages.working import StageJob, answering, landing_of, working
from manifestlog.stages.workspace import Workspace
from manifestlog.workers.link import WorkerLink
from manifestlog.workers.main import Job, work
from manifestlog.workers.pool import Pool, is_daemonic

if TYPE_CHECKING:
    from manifestlog.managers import ProcessedManifestManager
    from manifestlog.options import ManifestOptions
    from manifestlog.run import Run
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.items import ItemTask
    from manifestlog.stages.report import ItemRef, StageEvent
    from manifestlog.stages.worker import Again, Batch, BatchDone

log = logging.getLogger(__name__)


def run(
    stage: Stage,
    directory: str | os.PathLike[str] = "manifests",
    *,
    options: ManifestOptions | None = None,
    only: str | None = None,
    retry_failed: bool = False,
    leave_out: Collection[str] = (),
    on_event: Callable[[StageEvent], None] | None = None,
    shows_start: bool = False,
    asked_to_stop: Callable[[], int] | None = None,
    initializer: Callable[[], None] | None = None,
) -> StageReport:
    """Process everything that is pending for a stage, and return a report: `calls.run_stage` says how, and what it raises."""
    began = time.monotonic()
    opening.check(stage)
    with (
        opening.upstream_of(stage, directory) as upstream,
        opening.outputs_of(stage, upstream, directory, options) as outputs,
    ):
        between = opening.between_of(stage, upstream, outputs)
        report = StageReport(stage.name, stage.version, outputs.location.name, upstream.location.name)
        found = _StageRun(stage, between, report, on_event or _ignore, asked_to_stop, initializer, shows_start)
        try:
            found.all_of(Choice(only, retry_failed, leave_out))
        finally:
            report.interrupted = asked_to_stop is not None and asked_to_stop() > 0
            report.seconds = time.monotonic() - began
    log.info("stage %s: %s", stage.name, ", ".join(f"{count} {result}" for result, count in report.counts.items()))
    found.on_event(Ended(stage.name, report))
    return report


def pending_items(
    stage: Stage,
    directory: str | os.PathLike[str] = "manifests",
    *,
    only: str | None = None,
    retry_failed: bool = False,
) -> list[ItemRef]:
    """Return the items that a run would process, and write nothing. A loop's stage has no work. Raises as `run_stage`."""
    if stage.work is not None:
        opening.check(stage)
    with opening.upstream_of(stage, directory) as upstream, opening.outputs_to_read(stage, directory) as outputs:
        between = opening.between_of(stage, upstream, outputs)
        naming = opening.naming_of(stage, upstream)
        workspace = Workspace(stage, outputs.location.name)
        look = kept_look.look_at(between)
        tasks, _ = Choice(only, retry_failed).of(stage, between, look)
        return [Item(task, naming, workspace).ref for task in tasks]


def _ignore(_: StageEvent) -> None:
    """Ignore the event."""


@dataclass(slots=True)
class _StageRun:
    """One run of a stage."""

    stage: Stage
    between: Between
    report: StageReport
    on_event: Callable[[StageEvent], None]
    asked_to_stop: Callable[[], int] | None
    initializer: Callable[[], None] | None
    shows_start: bool
    _look: Look | None = None
    _has_lost: bool = False
    """Whether a worker has died, of this run or of another one, so that the history has records that nobody reported."""

    @property
    def outputs(self) -> ProcessedManifestManager:
        return self.between.outputs  # type: ignore[return-value]  # `outputs_of` has opened it

    def all_of(self, choice: Choice) -> None:
        """Do everything that is pending."""
        self._tidy()
        look = kept_look.look_at(self.between)
        tasks, given_up = choice.of(self.stage, self.between, look)
        first = next(tasks, None)
        for task in given_up:
            self._finish(ItemOutcome(self._item(task).ref, Result.GIVEN_UP, attempts=0))
        if first is None:
            self._end_failures(look)
            self.on_event(Begun(self.stage.name, 0, None))
        else:
            total = len(look.pending) if self.stage.group_by is None and choice.takes_all else 1
            self._run(chain([first], tasks), total, look)
        # What a worker recorded and did not report before it died is only in the history.
        knows_all = not self._has_lost and not (self.asked_to_stop is not None and self.asked_to_stop())
        knows_all = knows_all and self._believes_reports
        kept_look.keep_renewed(self.between, look, without_run=self.report.run if knows_all else None)

    @property
    def _believes_reports(self) -> bool:
        """Whether what was recorded stays so. A server may lose it to a standby that did not have it: only events count."""
        return self.outputs.is_in_files

    def _tidy(self) -> None:
        workspace = Workspace(self.stage, self.outputs.location.name)
        if workspace.names():
            with StageClaims(self.outputs) as claims:
                landing = landing_of(self.stage, self.outputs, claims, workspace)
                leftovers.tidy(landing, opening.naming_of(self.stage, self.between.upstream))

    def _end_failures(self, look: Look) -> None:
        """Record which failures are over although nothing is pending; nothing if there are none."""
        if inputs := obsolete_inputs(self.between, look):
            with self._new_run() as run:
                run.obsolete(inputs)

    def _obsolete(self, look: Look) -> set[str]:
        """Return the inputs of failures that are over without a success; none if the look does not say what is pending."""
        try:
            if look.failed and not self._believes_reports:
                look.renew(self.between)
        except UncertainError:
            return set()
        return obsolete_inputs(self.between, look)

    def _new_run(self) -> Run:
        about = {"command": opening.described(self.stage)[:500], "host": str(this_process()["host"])}
        about = {name: text for name, text in about.items() if text}
        return self.outputs.run(self.stage.name, self.stage.version, stage=self.stage.name, about=about)

    def _run(self, tasks: Iterator[ItemTask], total: int, look: Look) -> None:
        self._look = look
        with self._new_run() as run:
            self.report.run = run.id
            self.on_event(Begun(self.stage.name, total, run.id))
            naming = opening.naming_of(self.stage, self.between.upstream)
            job = StageJob(
                self.stage, self.outputs, naming, self.between.rule, look.outputs_cursor, run.id, self.shows_start
            )
            self._work(job, tasks, total)
            run.obsolete(self._obsolete(look))
            self._sum_up(run)
        command_logs.remove_old(self.stage, Workspace(self.stage, self.outputs.location.name))

    def _work(self, job: StageJob, tasks: Iterator[ItemTask], total: int) -> None:
        stop = self.asked_to_stop or int
        at_once = job.is_async
        queue = Queue(tasks, total, self.stage, time.monotonic, batch_max=1 if at_once else BATCH_MAX)
        is_simple = self.stage.jobs == 1 and self.asked_to_stop is None and self.stage.timeout_s is None
        listener = _Listener(self, queue)
        if is_daemonic() or not self.outputs.is_shared or (is_simple and not at_once):
            _work_here(job, queue, listener, stop)
            return
        jobs, capacity = (1, self.stage.jobs) if at_once else (self.stage.jobs, 1)
        worker_job = Job(partial(answering, job), self.initializer, max(capacity, 1 + at_once))
        with Pool(work, worker_job, queue, jobs, capacity=capacity, name=f"manifestlog-{self.stage.name}"[:15]) as pool:
            pool.run(listener, stop)

    def _sum_up(self, run: Run) -> None:
        """Give the end of a run what leaves no event of its own."""
        if claimed := self.report.counts[Result.CLAIMED]:
            run.count(Result.CLAIMED.value, claimed)
        if self.asked_to_stop is not None and self.asked_to_stop():
            run.outcome = "interrupted"

    def _item(self, task: ItemTask) -> Item:
        workspace = Workspace(self.stage, self.outputs.location.name)
        return Item(task, opening.naming_of(self.stage, self.between.upstream), workspace)

    def _finish(self, outcome: ItemOutcome) -> None:
        self.report.add(outcome)
        self.on_event(Finished(self.stage.name, outcome))

    def finished(self, outcome: ItemOutcome) -> None:
        """Take in that an item is done."""
        if self._look is not None:
            if outcome.result in DONE and self._believes_reports:
                self._look.done(outcome.item.inputs, self.between.upstream)
            elif outcome.result is Result.FAILED:
                self._look.failed.update(outcome.item.inputs)
        self._finish(outcome)

    def waits(self, failed: Again, pause_s: float) -> None:
        """Take in that an item is tried again later."""
        outcome = failed.outcome
        self.on_event(Waiting(self.stage.name, outcome.item, outcome.error or "", pause_s))

    def found_left(self, *, is_any: bool) -> None:
        """Take in whether a worker has recorded what a killed run had left."""
        self._has_lost |= is_any

    def lost(self, given_up: list[ItemTask], how: str) -> None:
        """Take in that a worker died, and which items two workers have died of."""
        self._has_lost = True
        for task in given_up:
            self._died(task, how)

    def _died(self, task: ItemTask, how: str) -> None:
        item = self._item(task)
        outcome = lost_twice(task, item.ref, how)
        inputs = [one.checksum for one in item.inputs]
        rule = self.between.rule
        self.outputs.fail(item, outcome.error or "", inputs=inputs, version=rule.version, code=rule.code)
        self._finish(outcome)


@dataclass(slots=True)
class _Listener:
    """Receives the messages of the workers."""

    run: _StageRun
    queue: Queue

    def on_progress(self, news: Any) -> None:
        self.run.on_event(news)

    def on_done(self, result: BatchDone) -> None:
        self.queue.done(result)
        self.run.found_left(is_any=result.has_found_left)
        for outcome in result.finished:
            self.run.finished(outcome)
        for failed in result.failed:
            pause_s = self.queue.again(failed)
            if pause_s is None:
                self.run.finished(failed.outcome)
            else:
                self.run.waits(failed, pause_s)

    def on_worker_died(self, task: Batch, how: str) -> bool:
        self.run.lost(self.queue.lost(task), how)
        return False


def _work_here(job: StageJob, queue: Queue, listener: _Listener, asked_to_stop: Callable[[], int]) -> None:
    """Do all batches in this process."""
    with ExitStack() as opened:
        link = WorkerLink(listener.on_progress)
        answer = opened.enter_context(working(job, link))
        while not asked_to_stop():
            batch = queue.take()
            if batch is not None:
                listener.on_done(answer(batch))
                continue
            pause_s = queue.pause_s()
            if pause_s is None or pause_s == float("inf"):
                return
            time.sleep(min(pause_s, 0.2))
