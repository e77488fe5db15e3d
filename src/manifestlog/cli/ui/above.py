"""Permanent lines above a display that rich draws."""

from rich.console import Console
from rich.text import Text

from manifestlog.cli.ui import output


def say(console: Console, text: str) -> None:
    """Print a message on one line, however long it is, above what is drawn on this console."""
    console.print(Text(f"{output.PROGRAM}: {output.clean(text)}"), soft_wrap=True)
