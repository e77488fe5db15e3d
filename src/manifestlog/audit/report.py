"""The options, the report and the events of an audit.

Invariants:

- Every planned file is in exactly one state, or counts as left.
- The run updates the report as it proceeds: after an error, the report from `Began` has the findings so far.
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
    """Which files to verify, and at which level. Raises `ValueError` for invalid values."""

    level: Level = Level.FULL
    """What to compare: presence, size, or full content."""
    max_duration_s: float | None = None
    """Start no file after this many seconds."""
    sample: int | str | None = None
    """A number of files, or a percentage such as "5%", chosen at random."""
    seed: int | None = None
    """Random seed, to repeat a sample."""
    root: str | os.PathLike[str] | None = None
    """Base directory for relative paths [default: the manifest's root]."""
    former: str | os.PathLike[str] | None = None
    """With `root`: look for absolute paths below this directory in `root` instead [default: the manifest's root]."""
    untracked: tuple[str | os.PathLike[str], ...] = ()
    """Directories in which to report files that no record names."""
    journal: str | os.PathLike[str] | None = None
    """File with the time at which each file was verified [default: beside the manifest; for a database, in
    `$XDG_CACHE_HOME/manifestlog` or `~/.cache/manifestlog`]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", Level(self.level))
        if self.sample is not None and not sample_size(self.sample, 1):
            raise ValueError(f"sample: {self.sample!r} must be a number of files above 0, or a percentage up to 100%")
        if self.max_duration_s is not None and not self.max_duration_s > 0:
            raise ValueError(f"max_duration_s must be greater than 0, got {self.max_duration_s!r}")
        if self.former is not None and self.root is None:
            raise ValueError("former requires root: give the directory that the files are in now")


def sample_size(sample: int | str, files: int) -> int:
    """Return the size of a sample of `files` files; 0 if `sample` is invalid."""
    try:
        if not isinstance(sample, str) or not sample.endswith("%"):
            return max(int(sample), 0)
        share = float(sample[:-1]) / 100
    except ValueError:
        return 0
    return math.ceil(files * share) if 0 < share <= 1 else 0


@dataclass(slots=True)
class AuditReport:
    """The result of a run."""

    level: Level
    files: int = 0
    """Number of files that the manifest names, without superseded ones."""
    planned: int = 0
    """Number of files to verify: all, or the sample."""
    superseded: int = 0
    """Number of older records of a path that a newer record names."""
    states: dict[FileState, int] = field(default_factory=lambda: dict.fromkeys(FileState, 0))
    findings: list[FileFinding] = field(default_factory=list)
    """Every file that differs from its record, unless `run` keeps no findings."""
    unregistered: int | None = None
    """Number of files that no record names; None if not requested, or if the run ended before."""
    folders_unreadable: int = 0
    """Number of directories that could not be searched for untracked files."""
    seed: int | None = None
    """Seed of the sample, or None."""
    bytes: int = 0
    """Number of bytes read."""
    seconds: float = 0.0
    interrupted: bool = False
    journal: str | None = None
    """The file with the time at which each file was verified, for the next run; None for a manifest in memory."""
    journal_error: str | None = None
    """The reason why the journal could not be written, or None. The next run then verifies the same files again."""

    @property
    def looked_at(self) -> int:
        return sum(self.states.values())

    @property
    def left(self) -> int:
        """Number of planned files that the run did not reach."""
        return self.planned - self.looked_at

    @property
    def failed(self) -> bool:
        """Whether a file differs from its record, or a file or directory could not be read."""
        return self.looked_at > self.states[FileState.OK] or self.folders_unreadable > 0

    def as_json(self) -> dict[str, Any]:
        """Return the report as data, without its findings."""
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
    """The files to verify are known. `run` returns the same `report` at the end."""

    manifest: str
    report: AuditReport


Event = Began | WorkersStarted | Progress | FileFinding
