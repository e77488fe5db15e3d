"""The global options: what they are called, where they may stand, what they mean.

Invariants:

- A global option means the same before and after the verb; given in both places, the one after the verb counts.
- `--dir` beats MANIFESTLOG_DIR beats ./manifests.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from manifestlog.options import ManifestOptions

DIRECTORY_VARIABLE = "MANIFESTLOG_DIR"
DEFAULT_DIRECTORY = "manifests"
LOCK_TIMEOUT_S = 30.0


def _checked_timeout(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{value} is no number of seconds from 0 up")
    return value


DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
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


@dataclass(frozen=True, slots=True)
class Settings:
    """What the global options of one run say."""

    directory: Path
    directory_named: bool
    """Whether the user named the directory; a missing default is no mistake."""
    as_json: bool
    quiet: bool
    verbose: bool
    lock_timeout_s: float
    progress: bool

    def options(self) -> ManifestOptions:
        """How to open manifests."""
        return ManifestOptions(lock_timeout_s=self.lock_timeout_s)


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


def settle(before: Mapping[str, Any], after: Mapping[str, Any]) -> Settings:
    """The settings that both places together ask for."""
    given = {name: before.get(name) if value is None or value is False else value for name, value in after.items()}
    named = given["directory"] or os.environ.get(DIRECTORY_VARIABLE)
    timeout = given["lock_timeout"]
    return Settings(
        directory=Path(named or DEFAULT_DIRECTORY),
        directory_named=bool(named),
        as_json=bool(given["as_json"]),
        quiet=bool(given["quiet"]),
        verbose=bool(given["verbose"]),
        lock_timeout_s=LOCK_TIMEOUT_S if timeout is None else timeout,
        progress=not given["no_progress"],
    )
