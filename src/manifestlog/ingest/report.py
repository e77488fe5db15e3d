"""The report and the events of a run that registers files.

Invariants:

- Every file found is counted once: under its verdict, as a failure, or as skipped.
- The run updates the report as it proceeds: after an error, the report from `Began` has the counts so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from manifestlog.ingest.walk import Failure, Skipped, SkipReason
from manifestlog.model.verdict import Verdict
from manifestlog.workers.events import Progress, WorkersStarted


@dataclass(slots=True)
class IngestReport:
    """The result of a run."""

    created: bool = False
    """Whether this run created the manifest."""
    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    """Number of files per verdict, with an entry for every verdict."""
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[SkipReason, int] = field(default_factory=lambda: dict.fromkeys(SkipReason, 0))
    bytes: int = 0
    """Total bytes of the registered files."""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def files(self) -> int:
        """Number of files whose content is now in the manifest, new or not."""
        return sum(self.verdicts.values())

    def as_json(self) -> dict[str, Any]:
        """Return the report as data."""
        verdicts = {verdict.value: count for verdict, count in self.verdicts.items()}
        return verdicts | {
            "failed": len(self.failures),
            "skipped": sum(self.skipped.values()),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


class Began(NamedTuple):
    """The manifest is open, and the search for files starts. `run` returns the same `report` at the end."""

    manifest: str
    report: IngestReport


Event = Began | WorkersStarted | Progress | Failure | Skipped
