"""The global options as typer declares them: before the verb and after it, the same ones."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from manifestlog.cli.settings import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE, LOCK_TIMEOUT_S


def _checked_timeout(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{value} is no number of seconds from 0 up")
    return value


def _directory(text: str) -> Path:
    """An empty one is mostly a variable that is not set, and would be the working folder."""
    if not text:
        raise typer.BadParameter("it must not be empty")
    return Path(text)


DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        parser=_directory,
        help=f"Directory of the manifests; without it {DIRECTORY_VARIABLE}, else ./{DEFAULT_DIRECTORY}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document; errors are JSON too.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print data and errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]
LockTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--lock-timeout",
        metavar="SECONDS",
        callback=_checked_timeout,
        help=f"How long to wait for a lock, in seconds; {LOCK_TIMEOUT_S:g} without it.",
    ),
]
NoProgressOption = Annotated[
    bool,
    typer.Option("--no-progress", help="Show no progress bar, not even on a terminal."),
]


def collect(
    *,
    directory: DirectoryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    lock_timeout: LockTimeoutOption = None,
    no_progress: NoProgressOption = False,
) -> dict[str, Any]:
    """The global options as given in one place; its signature is what both places accept."""
    return {
        "directory": directory,
        "as_json": as_json,
        "quiet": quiet,
        "verbose": verbose,
        "lock_timeout": lock_timeout,
        "no_progress": no_progress,
    }
