"""Declares the global options for typer. They are accepted before and after the verb."""

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from manifestlog import names
from manifestlog.cli.settings import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE, LOCK_TIMEOUT_S


def _checked_timeout(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{value} must be a number of seconds, 0 or more")
    return value


def _directory(text: str) -> str:
    """Reject an empty path, which is usually an unset variable, and a directory that cannot be listed."""
    if not text:
        raise typer.BadParameter("must not be empty")
    if os.path.exists(text) and not os.access(text, os.R_OK):
        raise typer.BadParameter(f"{text!r} is not readable; ask its owner for access, or name another directory")
    return str(Path(text)) if names.is_path(text) else text


DirectoryOption = Annotated[
    str | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        parser=_directory,
        help=f"Directory of the manifests, or the URL of a database [default: {DIRECTORY_VARIABLE}, else ./{DEFAULT_DIRECTORY}].",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document; print errors as JSON too.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print data and errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print more messages on stderr.")]
LockTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--lock-timeout",
        metavar="SECONDS",
        callback=_checked_timeout,
        help=f"Seconds to wait for a lock [default: {LOCK_TIMEOUT_S:g}].",
    ),
]
NoProgressOption = Annotated[
    bool,
    typer.Option("--no-progress", help="Never show a progress bar."),
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
    """Return the global options given in one place. Its signature declares them for both places."""
    return {
        "directory": directory,
        "as_json": as_json,
        "quiet": quiet,
        "verbose": verbose,
        "lock_timeout": lock_timeout,
        "no_progress": no_progress,
    }
