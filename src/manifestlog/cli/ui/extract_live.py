"""The live display of `extract`, drawn by rich: one line per active download, and a total."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress as Bars,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from manifestlog.cli.ui import above, output
from manifestlog.cli.ui.extract_plain import line_of
from manifestlog.cli.ui.fit import shortened
from manifestlog.extract.report import Event, Finished, Progress, Result, Started, Waiting

_NAME_WIDTH_MIN = 16
_BYTES_WIDTH, _TIME_WIDTH, _SPEED_WIDTH, _BAR_WIDTH = 16, 8, 12, 20
_WITH_TIME, _WITH_BAR = 72, 110
"""Minimum terminal width to show the time left, and to show a bar and the speed too."""


class LiveView:
    """Shows bytes, speed and time left of every active download. Failures stay above the display."""

    shows_progress = True

    def __init__(self, sources: int) -> None:
        console = Console(stderr=True)
        columns, self._name_width = _columns(console.width, len(f"{sources:,} of {sources:,}"))
        self.live = Bars(*columns, console=console, transient=True)
        self._sources, self._through = sources, 0
        self._total = self.live.add_task("all sources", total=None, count=self._count())
        self._bytes: dict[tuple[str, str], int] = {}
        self._lengths: dict[tuple[str, str], int | None] = {}
        self._bytes_through = 0
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def _count(self) -> str:
        return f"{self._through:,} of {self._sources:,}"

    def show(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Finished):
            self._finish(event)
            return
        source = (event.source_id, event.dataset)
        if isinstance(event, Progress):
            self._advance(source, event)
        elif isinstance(event, Started):
            self._bytes.pop(source, None)
        elif isinstance(event, Waiting):
            above.say(
                self.live.console, f"{event.dataset}/{event.source_id}: {event.reason}; again in {event.pause_s:.1f} s"
            )

    def _advance(self, source: tuple[str, str], event: Progress) -> None:
        if source not in self._tasks:
            name = shortened(output.clean(f"{event.dataset}/{event.source_id}"), self._name_width)
            self._tasks[source] = self.live.add_task(name, total=event.bytes_total, count="")
        self.live.update(self._tasks[source], completed=event.bytes_done, total=event.bytes_total)
        self._bytes[source], self._lengths[source] = event.bytes_done, event.bytes_total
        self._sum()

    def _sum(self) -> None:
        """Update the total line. Its length is known once every source is finished or has reported a length."""
        lengths = [length for length in self._lengths.values() if length is not None]
        known = self._through + len(lengths) == self._sources
        self.live.update(
            self._total,
            completed=self._bytes_through + sum(self._bytes.values()),
            total=self._bytes_through + sum(lengths) if known else None,
            count=self._count(),
        )

    def _finish(self, event: Finished) -> None:
        outcome = event.outcome
        source = (outcome.source_id, outcome.dataset)
        if (task := self._tasks.pop(source, None)) is not None:
            self.live.remove_task(task)
        self._through += 1
        self._lengths.pop(source, None)
        self._bytes_through += max(outcome.bytes_fetched, self._bytes.pop(source, 0))
        self._sum()
        if outcome.result is Result.FAILED or outcome.warning is not None:
            above.say(self.live.console, line_of(outcome))


def _columns(width: int, count_width: int) -> tuple[list[ProgressColumn], int]:
    """Return the columns that fit into `width` characters, and the maximum width of a name.

    Name, count and bytes always fit. Wider terminals add the time left, then the speed and a bar.
    """
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[count]}", markup=False),
        DownloadColumn(),
    ]
    taken = count_width + _BYTES_WIDTH + 3
    if width >= _WITH_TIME:
        columns.append(TimeRemainingColumn())
        taken += _TIME_WIDTH + 1
    if width >= _WITH_BAR:
        columns[1:1] = [BarColumn(_BAR_WIDTH)]
        columns[-1:-1] = [TransferSpeedColumn()]
        taken += _BAR_WIDTH + _SPEED_WIDTH + 2
    return columns, max(_NAME_WIDTH_MIN, width - taken)
