"""What came of a run that registers files, and the events on the way there.

Invariants:

- Every file that was found is counted once: under its verdict, as a failure, or as skipped.
- A report is filled while the run goes on: whoever keeps the one of `Began` knows what landed before an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from manifestlog.ingest.walk import Failure, Skipped, SkipReason
from manifestlog.model.verdict import Verdict
from manifestlog.workers.events import Progress, WorkersStarted


@dataclass(slots=True)
class IngestReport:
    """What came of a run."""

    created: bool = False
    """Whether the manifest was made by this run."""
    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    """How many files came to each verdict; all verdicts are there."""
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[SkipReason, int] = field(default_factory=lambda: dict.fromkeys(SkipReason, 0))
    bytes: int = 0
    """Of the files that were registered."""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def files(self) -> int:
        """How many files are registered: in the manifest now, whether or not this run brought them."""
        return sum(self.verdicts.values())

    def as_json(self) -> dict[str, Any]:
        """The report as data."""
        verdicts = {verdict.value: count for verdict, count in self.verdicts.items()}
        return verdicts | {
            "failed": len(self.failures),
            "skipped": sum(self.skipped.values()),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


class Began(NamedTuple):
    """The manifest is there, and the files are looked for; `report` is what `run` gives in the end."""

    manifest: str
    report: IngestReport


Event = Began | WorkersStarted | Progress | Failure | Skipped
