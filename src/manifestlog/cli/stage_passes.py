"""Runs the stages of a configuration: in one pass, or in passes whenever upstream records arrive.

Invariants:

- A stage runs after the stages whose results it reads, so one pass takes a record through all of them.
- In watch mode, a stage runs again if its upstream manifest has changed since its last pass began. A failed item is
  skipped until its pause is over, even if the upstream is busy.
- An error in one stage ends the run. `reports` has the results before it.

It prints nothing except through the display.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import ManifestNotFoundError
from manifestlog.managers import DownloadManifestManager
from manifestlog.names import is_url, location_in

if TYPE_CHECKING:
    from manifestlog.cli.ui.stage_view import View
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.report import StageEvent, StageReport

_POLL_S = 0.2
_POLL_SERVER_S = 2.0
"""How often a database is asked after a while in which nothing came: each look is a connection of its own."""
RETRY_FIRST_S, RETRY_LAST_S = 5.0, 300.0


@dataclass
class Retries:
    """When the failed items of a stage are tried again by a run that watches: after a pause that doubles."""

    waiting: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By the item's key: when it is due, and how long its pause was."""

    def not_due(self, now: float) -> set[str]:
        """Return the keys of the items that still wait."""
        return {key for key, (due, _) in self.waiting.items() if due > now}

    def is_due(self, now: float) -> bool:
        """Return whether a failed item is to be tried again."""
        return any(due <= now for due, _ in self.waiting.values())

    def take(self, failed: Iterable[str], tried_at: float, now: float) -> None:
        """Take in which items have failed in a pass that tried everything that was due at `tried_at`."""
        before = {key: pause for key, (due, pause) in self.waiting.items() if due <= tried_at}
        for key in before:
            del self.waiting[key]
        for key in failed:
            pause = min(2 * before.get(key, RETRY_FIRST_S / 2), RETRY_LAST_S)
            self.waiting[key] = (now + pause, pause)


@dataclass
class Passes:
    """The stages of a run, and what came of them so far."""

    settings: Settings
    directory: Path | str
    """The directory of the manifests, or the URL of their database."""
    stages: "Sequence[Stage]"
    written: frozenset[str]
    """The manifests that this configuration writes; until something is in them, they may be missing."""
    view: "View"
    asked_to_stop: Callable[[], int]
    only: str | None = None
    retry_failed: bool = False
    history: str | None = None
    on_event: "Callable[[StageEvent], None] | None" = None
    """Also receives every event."""
    reports: "dict[str, StageReport]" = field(default_factory=dict)
    """The sum of all passes, by the name of the stage."""
    _seen: dict[str, str | None] = field(default_factory=dict)
    """The upstream cursor when the last pass of a stage began."""
    _retries: defaultdict[str, Retries] = field(default_factory=lambda: defaultdict(Retries))
    _given_up: set[tuple[str, str]] = field(default_factory=set)
    """The stage and key of the items that were shown as given up."""

    def run(self) -> None:
        """Run every stage once."""
        for stage in self.stages:
            if self.asked_to_stop():
                return
            self._pass(stage)

    def watch(self, on_pass: "Callable[[StageReport], None]") -> None:
        """Run the stages whenever there is something for them, until asked to stop. `on_pass` gets each report."""
        pause_s = _POLL_S
        while not self.asked_to_stop():
            busy = False
            for stage in self.stages:
                if not self.asked_to_stop() and self._is_due(stage):
                    report = self._pass(stage)
                    busy = True
                    if report.counts.total():
                        on_pass(report)
            pause_s = _POLL_S if busy or not is_url(self.directory) else min(2 * pause_s, _POLL_SERVER_S)
            if not busy:
                time.sleep(pause_s)

    def _is_due(self, stage: "Stage") -> bool:
        if stage.name not in self._seen or self._cursor(stage) != self._seen[stage.name]:
            return True
        return self._retries[stage.name].is_due(time.monotonic())

    def _pass(self, stage: "Stage") -> "StageReport":
        from manifestlog.stages.report import StageReport  # noqa: PLC0415 -- slow to import

        self._seen[stage.name] = self._cursor(stage)
        empty = StageReport(stage.name, stage.version, stage.manifest, stage.upstream)
        total = self.reports.setdefault(stage.name, empty)
        if self._seen[stage.name] is None and stage.upstream in self.written:
            return empty  # the stage before it has made nothing yet
        retries, began = self._retries[stage.name], time.monotonic()
        report = self._run_stage(stage, retries.not_due(began))
        retries.take((one.item.key for one in report.failures), began, time.monotonic())
        total.include(report)
        return report

    def _run_stage(self, stage: "Stage", leave_out: set[str]) -> "StageReport":
        from manifestlog.stages.runner import run  # noqa: PLC0415 -- slow to import

        return run(
            stage,
            self.directory,
            options=self.settings.options(self.history),
            only=self.only,
            retry_failed=self.retry_failed,
            leave_out=leave_out,
            on_event=self._show,
            asked_to_stop=self.asked_to_stop,
            initializer=partial(output.configure_logging_if_spawned, self.settings),
        )

    def _show(self, event: "StageEvent") -> None:
        """Show an event, but no item that was given up more than once."""
        from manifestlog.stages.report import Finished, Result  # noqa: PLC0415 -- loaded by now

        if self.on_event is not None:
            self.on_event(event)
        if isinstance(event, Finished) and event.outcome.result is Result.GIVEN_UP:
            key = (event.stage, event.outcome.item.key)
            if key in self._given_up:
                return
            self._given_up.add(key)
        self.view.show(event)

    def _cursor(self, stage: "Stage") -> str | None:
        """Return the upstream manifest's cursor; None if there is no such manifest."""
        try:
            with DownloadManifestManager(location_in(self.directory, stage.upstream), read_only=True) as manifest:
                return manifest.cursor
        except ManifestNotFoundError:
            return None
