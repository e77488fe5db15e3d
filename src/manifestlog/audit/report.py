"""What an audit is asked for and what came of it, and the events on the way there.

Invariants:

- Every planned file is in exactly one of the states, or left.
- A report is filled while the run goes on: whoever keeps the one of `Began` knows what was found before an error.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from manifestlog.audit.plan import FileState, Level
from manifestlog.audit.worker import FileFinding
from manifestlog.workers.events import Progress, WorkersStarted


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Which files are looked at, and how closely; raises `ValueError` for what cannot be meant."""

    level: Level = Level.FULL
    """What to compare: presence, size, or full content."""
    max_duration_s: float | None = None
    """No file is begun after so many seconds."""
    sample: int | str | None = None
    """A number of files, or a share of them such as "5%", chosen at random."""
    seed: int | None = None
    """Chooses the same sample again."""
    root: str | os.PathLike[str] | None = None
    """Where relative paths begin, if not at the manifest's root."""
    former: str | os.PathLike[str] | None = None
    """With `root`: absolute paths below this folder are looked for below `root`; without it, those below the manifest's root."""
    untracked: tuple[str | os.PathLike[str], ...] = ()
    """Folders whose files are named when no record names them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", Level(self.level))
        if self.sample is not None and not sample_size(self.sample, 1):
            raise ValueError(
                f"sample: {self.sample!r} is neither a number of files above 0 nor a percentage up to 100%"
            )
        if self.max_duration_s is not None and not self.max_duration_s > 0:
            raise ValueError(f"max_duration_s must be greater than 0, got {self.max_duration_s!r}")
        if self.former is not None and self.root is None:
            raise ValueError("former goes with root: say where the files are now")


def sample_size(sample: int | str, files: int) -> int:
    """How many of so many files; 0 for what says nothing."""
    try:
        if not isinstance(sample, str) or not sample.endswith("%"):
            return max(int(sample), 0)
        share = float(sample[:-1]) / 100
    except ValueError:
        return 0
    return math.ceil(files * share) if 0 < share <= 1 else 0


@dataclass(slots=True)
class AuditReport:
    """What came of a run."""

    level: Level
    files: int = 0
    """How many the manifest names, superseded ones left out."""
    planned: int = 0
    """How many of them were to be looked at: all, or the sample."""
    superseded: int = 0
    """Older records of a path that a newer one names."""
    states: dict[FileState, int] = field(default_factory=lambda: dict.fromkeys(FileState, 0))
    findings: list[FileFinding] = field(default_factory=list)
    """Every file that is not as it should be, unless `run` was told to keep none."""
    unregistered: int | None = None
    """How many files no record names; None when nobody asked, or the run ended before."""
    folders_unreadable: int = 0
    """How many folders could not be searched for such files."""
    seed: int | None = None
    """Of the sample; None without one."""
    bytes: int = 0
    """How many were read."""
    seconds: float = 0.0
    interrupted: bool = False
    journal_error: str | None = None
    """Why the next run will not know of this one; None when it will."""

    @property
    def looked_at(self) -> int:
        return sum(self.states.values())

    @property
    def left(self) -> int:
        """How many planned files were not come to."""
        return self.planned - self.looked_at

    @property
    def failed(self) -> bool:
        """Whether a file is not what the ledger says, or something could not be looked at."""
        return self.looked_at > self.states[FileState.OK] or self.folders_unreadable > 0

    def as_json(self) -> dict[str, Any]:
        """The report as data, without its findings."""
        first = {"level": self.level, "files": self.files}
        return (
            first
            | {state.value: number for state, number in self.states.items()}
            | {
                "unregistered": self.unregistered,
                "superseded": self.superseded,
                "left": self.left,
                "sample": None if self.seed is None else self.planned,
                "seed": self.seed,
                "seconds": round(self.seconds, 3),
                "bytes": self.bytes,
            }
        )


class Began(NamedTuple):
    """It is known which files to look at; `report` is what `run` gives in the end."""

    manifest: str
    report: AuditReport


Event = Began | WorkersStarted | Progress | FileFinding
