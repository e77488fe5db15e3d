"""The live display of stages, drawn by rich: one line per stage."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress as Bars, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn

from manifestlog.cli.ui import above, output
from manifestlog.cli.ui.fit import shortened
from manifestlog.cli.ui.stage_plain import line_of
from manifestlog.stages.report import Begun, Ended, Finished, Result, StageEvent, Waiting

_NAME_WIDTH = 20
_EVERY_S = 0.1
"""How often a line is drawn again, because a stage may finish thousands of items a second."""
_WITH_BAR = 72
"""Minimum terminal width to show a bar and the time left."""


class LiveView:
    """Shows how many items of each stage are done, failed and left. Failures stay above the display."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.live = Bars(*_columns(console.width), console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._drawn_at = 0.0

    def show(self, event: StageEvent) -> None:
        """Show an event."""
        if isinstance(event, Begun):
            self._begin(event.stage, event.pending)
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Waiting):
            name = f"{event.stage}: {event.item.dataset}/{event.item.source_id}"
            above.say(self.live.console, f"{name}: {event.error}; again in {event.pause_s:.1f} s")
        elif isinstance(event, Ended):
            self._draw(event.stage)

    def _begin(self, stage: str, pending: int) -> None:
        self._done[stage] = self._failed[stage] = 0
        if stage in self._tasks:
            self.live.reset(self._tasks[stage], total=pending, count="", failed="")
        elif pending:
            name = shortened(output.clean(stage), _NAME_WIDTH)
            self._tasks[stage] = self.live.add_task(name, total=pending, count="", failed="")
        self._draw(stage)

    def _finish(self, event: Finished) -> None:
        self._done[event.stage] += 1
        if event.outcome.result is Result.FAILED:
            self._failed[event.stage] += 1
        if event.outcome.error is not None:
            above.say(self.live.console, line_of(event.stage, event.outcome))
        if time.monotonic() - self._drawn_at >= _EVERY_S:
            self._draw(event.stage)

    def _draw(self, stage: str) -> None:
        self._drawn_at = time.monotonic()
        if stage in self._tasks:
            total = self.live.tasks[self.live.task_ids.index(self._tasks[stage])].total or 0
            failed = self._failed[stage]
            self.live.update(
                self._tasks[stage],
                completed=self._done[stage],
                count=f"{self._done[stage]:,} of {int(total):,}",
                failed=f"failed: {failed:,}" if failed else "",
            )


def _columns(width: int) -> list[ProgressColumn]:
    """Return the columns that fit into `width` characters."""
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[failed]}", markup=False),
    ]
    if width >= _WITH_BAR:
        columns[1:1] = [BarColumn(20)]
        columns.append(TimeRemainingColumn())
    return columns
