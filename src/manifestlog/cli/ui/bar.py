"""The bar itself, drawn by rich."""

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from manifestlog.cli.ui import output


class RichBar:
    """Bytes done, bytes in all, bytes a second, time left; gone when it is over."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("hashing"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # Data is printed above the bar where both are on one terminal; elsewhere rich would send it to stderr.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self.progress.add_task("hashing", total=None)

    def set_total(self, count: int) -> None:
        """The bytes in all, once they are known."""
        self.progress.update(self._task, total=count)

    def advance(self, count: int) -> None:
        """So many bytes more."""
        self.progress.advance(self._task, count)

    def say(self, text: str) -> None:
        """A line above the bar, that stays."""
        line = Text(f"{output.PROGRAM}: {output.clean(text)}")
        self.progress.console.print(line, soft_wrap=True)
