"""The live display of `extract`, drawn by rich: one line an active download, and a total."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.text import Text

from manifestlog.cli import output
from manifestlog.cli.extract_plain import line_of
from manifestlog.extract.report import Event, Finished, Progress, Result, Started, Waiting

_NAME_WIDTH = 40


class LiveView:
    """Bytes, speed and time left of every active download; what failed stays above."""

    def __init__(self, sources: int) -> None:
        self.live = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._sources, self._through = sources, 0
        self._total = self.live.add_task("all sources", total=None, count=self._count())
        self._bytes: dict[tuple[str, str], int] = {}
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def _count(self) -> str:
        return f"{self._through:,} of {self._sources:,}"

    def hear(self, event: Event) -> None:
        """Something happened."""
        if isinstance(event, Finished):
            self._finish(event)
            return
        source = (event.source_id, event.dataset)
        if isinstance(event, Progress):
            self._advance(source, event)
        elif isinstance(event, Started):
            self._bytes.pop(source, None)
        elif isinstance(event, Waiting):
            self._say(f"{event.dataset}/{event.source_id}: {event.reason}; again in {event.pause_s:.1f} s")

    def _advance(self, source: tuple[str, str], event: Progress) -> None:
        if source not in self._tasks:
            name = output.clean(f"{event.dataset}/{event.source_id}")[-_NAME_WIDTH:]
            self._tasks[source] = self.live.add_task(name, total=event.bytes_total, count="")
            self._bytes[source] = 0
        self.live.update(self._tasks[source], completed=event.bytes_done, total=event.bytes_total)
        self.live.advance(self._total, max(event.bytes_done - self._bytes[source], 0))
        self._bytes[source] = event.bytes_done

    def _finish(self, event: Finished) -> None:
        outcome = event.outcome
        source = (outcome.source_id, outcome.dataset)
        if (task := self._tasks.pop(source, None)) is not None:
            self.live.remove_task(task)
        self._through += 1
        self.live.advance(self._total, max(outcome.bytes_fetched - self._bytes.pop(source, 0), 0))
        self.live.update(self._total, count=self._count())
        if outcome.result is Result.FAILED or outcome.warning is not None:
            self._say(line_of(outcome))

    def _say(self, text: str) -> None:
        self.live.console.print(Text(f"{output.PROGRAM}: {output.clean(text)}"), soft_wrap=True)
