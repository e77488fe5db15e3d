"""Pipelines: stages for code that has a loop of its own.

::

    with Pipeline("manifests") as pipeline:
        stage = pipeline.stage("processing", of="download", version="2.0.0")
        for item in stage.claim():
            with item.output("x.json") as out:
                out.write(convert(item.path))

Invariants:

- An item is claimed before the loop receives it, and until the loop asks for the next one.
- An item is recorded when the loop asks for the next item, or leaves the pipeline without an error. Then its outputs
  get their names. A loop that is killed loses only the item that it was working on.
- An error in `with item:` or `with item.output(…):` is the failure of that item, and the loop continues. An error
  anywhere else in the loop is also a failure of the item, and ends the loop.
- An item without outputs stays pending, unless the loop calls `item.done`.
"""

from __future__ import annotations

import logging
import os
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from manifestlog.error_texts import explained
from manifestlog.files.processes import this_process
from manifestlog.locating import manifests_in
from manifestlog.model.rows import moment_text
from manifestlog.names import SUFFIX, name_of
from manifestlog.server_errors import ClaimLostError
from manifestlog.stages import kept_look, leftovers, opening
from manifestlog.stages.arrival import Arrival
from manifestlog.stages.claiming import ITEM, DoneByOthers, StageClaims
from manifestlog.stages.definition import Stage
from manifestlog.stages.errors import StageError
from manifestlog.stages.failure_texts import text_of_work
from manifestlog.stages.inputs import Inputs
from manifestlog.stages.items import Item
from manifestlog.stages.landing import land
from manifestlog.stages.obsolete import obsolete_inputs
from manifestlog.stages.outcome import Failed, Made
from manifestlog.stages.pending import Choice
from manifestlog.stages.report import ItemOutcome, Result, StageReport
from manifestlog.stages.worker import result_of
from manifestlog.stages.working import landing_of
from manifestlog.stages.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from manifestlog.managers import ProcessedManifestManager
    from manifestlog.options import ManifestOptions
    from manifestlog.run import Run
    from manifestlog.stages.items import Naming
    from manifestlog.stages.outcome import Outcome

log = logging.getLogger(__name__)

_TRACEBACK_LINES = 12


class Pipeline:
    """The stages of one directory of manifests, for loops. Use it as a context manager, in one thread."""

    def __init__(
        self, directory: str | os.PathLike[str] = "manifests", *, options: ManifestOptions | None = None
    ) -> None:
        """Prepare stages of the manifests in this directory, or in the database at this URL; `options` are for those that they write."""
        self._directory = os.fspath(directory)
        self._options = options
        self._opened = ExitStack()

    def stage(self, manifest: str, *, of: str, **settings: Any) -> LoopStage:
        """Return the stage that processes the records of the manifest `of` and writes `manifest`.

        Both are names in the directory. The last part of a name is enough (`download`, `processing`), if only one upstream
        manifest has this last part. `settings` are those of `Stage`: `version`, `output`, `output_dir`, `where`, and so
        on. Raises as `run_stage`.
        """
        upstream = self._named(of)
        if "_" not in manifest:
            manifest = f"{upstream.rpartition('_')[0]}_{manifest}"
        found = LoopStage(Stage(upstream, manifest, **settings), self._directory, self._options)
        self._opened.push(found)
        return found

    def _named(self, text: str) -> str:
        if "_" in text:
            return text
        try:
            names = [name_of(path) for path in manifests_in(self._directory)]
        except FileNotFoundError:
            names = []
        found = [name for name in names if name.endswith(f"_{text}")]
        if len(found) != 1:
            which = f"{len(found)} manifests" if found else "no manifest"
            reason = f"{which} in {self._directory} named *_{text}{SUFFIX}; give the whole name"
            raise StageError("", "of", reason)
        return found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)


class LoopStage:
    """A stage whose items a loop takes. Created by `Pipeline.stage`."""

    def __init__(self, stage: Stage, directory: str, options: ManifestOptions | None) -> None:
        self.stage = stage
        self._directory = directory
        self._opened = ExitStack()
        self._rule = opening.rule_of(stage)
        with opening.upstream_of(stage, directory) as upstream:
            self.manifest: ProcessedManifestManager = self._opened.enter_context(
                opening.outputs_of(stage, upstream, directory, options)
            )
            """The stage's manifest."""
            self.report = StageReport(stage.name, stage.version, self.manifest.location.name, upstream.location.name)
            """The results so far."""
            self._claims = self._opened.enter_context(StageClaims(self.manifest))
            self._workspace = Workspace(stage, self.manifest.location.name)
            self._inputs = Inputs(self._workspace)
            self._landing = landing_of(stage, self.manifest, self._claims, self._workspace)
            leftovers.tidy(self._landing, opening.naming_of(stage, upstream))
        self._current: _Current | None = None
        self._run: Run | None = None

    def claim(self, *, only: str | None = None, retry_failed: bool = False) -> Iterator[Item]:
        """Yield every pending item, each claimed until the loop asks for the next one. Skip items that others have claimed.

        `only` and `retry_failed` are as for `run_stage`. Raises as `run_stage`, and `ManifestError` if an item cannot be
        recorded because the manifest fails.
        """
        with opening.upstream_of(self.stage, self._directory) as upstream:
            between = opening.between_of(self.stage, upstream, self.manifest)
            look = kept_look.look_at(between)
            naming = opening.naming_of(self.stage, upstream)
            others = DoneByOthers(self.manifest, self._rule, look.outputs_cursor, None)
            tasks, _ = Choice(only, retry_failed).of(self.stage, between, look)
            for task in tasks:
                item = Item(task, naming, self._workspace, is_of_loop=True)
                if self._take(item, others, naming):
                    yield item
                    self._settle()
            if kept_look.keep_renewed(between, look) and (inputs := obsolete_inputs(between, look)):
                self._begin().obsolete(inputs)

    def _take(self, item: Item, others: DoneByOthers, naming: Naming) -> bool:
        """Claim an item; return whether it is to be done."""
        self._settle()  # a loop before this one may have left its last item
        held = ExitStack()
        is_ours = held.enter_context(self._claims.claim(ITEM, item.digest))
        left = leftovers.finish_claimed(self._landing, naming, {item.digest} if is_ours else set())
        if is_ours:
            others.renew()
        if not is_ours or others.has_done(item, asks_history=bool(left)):
            held.close()
            self.report.add(ItemOutcome(item.ref, Result.CLAIMED, attempts=0))
            return False
        self._begin()
        self._current = _Current(item, held)
        failed = self._inputs.fetch(item)
        if failed is not None:
            item.outcome = failed
            self._settle()
        return failed is None

    def _begin(self) -> Run:
        """Return the run of this loop, begun when it is first asked for."""
        if self._run is None:
            about = {"host": str(this_process()["host"])}
            run = self.manifest.run(self.stage.name, self.stage.version, stage=self.stage.name, about=about)
            self._run = self._opened.enter_context(run)
            self.report.run = run.id
        return self._run

    def _settle(self, error: Exception | None = None) -> None:
        """Record the outcome of the current item, and release its claim."""
        current, self._current = self._current, None
        if current is not None:
            with current.held:
                self._record(current, error)

    def _record(self, current: _Current, error: Exception | None) -> None:
        item = current.item
        outcome = _outcome(item, error)
        if outcome is not None:
            arrival = Arrival(item, outcome, self._rule.version, self._rule.code, current.started, current.seconds)
            if not isinstance(outcome, Failed):
                land(self._landing, [arrival])
                if arrival.error is not None:
                    outcome = Failed(explained(arrival.error))
            if isinstance(arrival.error, ClaimLostError):  # another host has it
                log.warning("%s: %s: %s", self.stage.name, item.ref.file_path, arrival.error)
                self.report.add(ItemOutcome(item.ref, Result.CLAIMED, attempts=0))
            else:
                self._report(arrival, outcome)
        self._workspace.clear(item)

    def _report(self, one: Arrival, outcome: Outcome) -> None:
        said = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(outcome, Failed):
            inputs = [found.checksum for found in one.item.inputs]
            about = {"version": one.version, "code": one.code, "started": one.started, "seconds": one.seconds}
            self.manifest.fail(one.item, outcome.error, inputs=inputs, stderr=outcome.stderr, **about)
        result = result_of(outcome)
        self.report.add(ItemOutcome(one.item.ref, result, one.made, seconds=one.seconds, error=said))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                self._settle(error)
            elif self._current is not None:  # Ctrl-C: the item stays pending
                self._workspace.clear(self._current.item)
                self._current.held.close()
        finally:
            self._opened.__exit__(kind, error, trace)


class _Current:
    """The item that the loop has."""

    def __init__(self, item: Item, held: ExitStack) -> None:
        self.item = item
        self.held = held
        self.started = moment_text(datetime.now(UTC))
        self._began = monotonic()

    @property
    def seconds(self) -> float:
        return round(monotonic() - self._began, 6)


def _outcome(item: Item, error: Exception | None) -> Outcome | None:
    """Return the outcome of an item of a loop; None if the loop gave it none."""
    found = item.error or error
    if found is not None:
        lines = "".join(traceback.format_exception(found)).splitlines()
        return Failed(text_of_work(found), stderr="\n".join(lines[-_TRACEBACK_LINES:]))
    if item.opened:
        return Failed("an output is still open; close it before the loop asks for the next item")
    if item.outcome is not None:
        return item.outcome
    outputs = item.written()
    return Made(tuple(outputs)) if outputs else None
