"""The progress bar, drawn by rich."""

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

from manifestlog.cli.ui import above


class RichBar:
    """Shows bytes done, total bytes, speed and time left. Disappears at the end."""

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
            # On one terminal, data goes above the bar. A redirected stdout must not go to rich's stderr.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self.progress.add_task("hashing", total=None)

    def set_total(self, count: int) -> None:
        """Set the total bytes."""
        self.progress.update(self._task, total=count)

    def advance(self, count: int) -> None:
        """Add `count` bytes to the bytes done."""
        self.progress.advance(self._task, count)

    def say(self, text: str) -> None:
        """Print a permanent line above the bar."""
        above.say(self.progress.console, text)
