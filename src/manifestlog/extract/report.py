"""The outcome of each source, the report of a run, and the events during a run.

Invariants:

- Each source is in exactly one of the counts.
- No text here contains a secret: the producer of an outcome removes secrets from its texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from manifestlog.extract.config.source import SPAN_UNITS_S
from manifestlog.model.verdict import Verdict


class Result(StrEnum):
    """The result for a source; the first five are the manifest's verdicts.

    - `NEW`: the first content of the source, unknown to the manifest.
    - `CHANGED`: other content than before.
    - `ALIAS`: content that another source already has; it is stored once.
    - `REVERTED`: content that this source had before, with other content in between.
    - `REFRESHED`: the same content with another ETag, time or path.
    - `UNCHANGED`: the server has nothing new, or sent the recorded content again.
    - `CLAIMED`: another run is fetching the source right now.
    - `FAILED`: nothing was registered; the outcome's `error` says why.
    """

    NEW = "new"
    CHANGED = "changed"
    ALIAS = "alias"
    REVERTED = "reverted"
    REFRESHED = "refreshed"
    UNCHANGED = "unchanged"
    CLAIMED = "claimed"
    FAILED = "failed"

    @classmethod
    def of(cls, verdict: Verdict) -> Result:
        """Return the result for a verdict of the manifest."""
        return cls.UNCHANGED if verdict is Verdict.DUPLICATE else cls(verdict.value)


class Outcome(NamedTuple):
    """The result for one source, with details."""

    source_id: str
    dataset: str
    result: Result
    file_path: str | None = None
    bytes_fetched: int = 0
    bytes_saved: int = 0
    """Size of the body that was not sent, because it is already recorded."""
    seconds: float = 0.0
    error: str | None = None
    warning: str | None = None
    """What needs attention although nothing failed; shown even with `--quiet`."""


class Stale(NamedTuple):
    """A source that was not confirmed within its `stale_after`."""

    source_id: str
    dataset: str
    since: datetime
    """When it was last fetched or confirmed, or first tried."""
    stale_after_s: float
    was_fetched: bool

    def __str__(self) -> str:
        what = "not fetched or confirmed since" if self.was_fetched else "never fetched, first tried at"
        unit = next((u for u, size_s in SPAN_UNITS_S.items() if self.stale_after_s % size_s == 0), "s")
        span = f"{self.stale_after_s / SPAN_UNITS_S[unit]:g}{unit}"
        since = self.since.isoformat(timespec="seconds")
        return f"{self.dataset}/{self.source_id}: stale: {what} {since}, which exceeds stale_after ({span})"


class Plan(NamedTuple):
    """What a run would do with one source, and why."""

    source_id: str
    dataset: str
    action: str
    """`fetch`, `unchanged` or `failed`."""
    why: str
    length_bytes: int | None = None


class Started(NamedTuple):
    """A source's first request is about to be sent."""

    source_id: str
    dataset: str


class Progress(NamedTuple):
    """The length downloaded so far, and the total if known; emitted a few times a second."""

    source_id: str
    dataset: str
    bytes_done: int
    bytes_total: int | None


class Waiting(NamedTuple):
    """An attempt failed; the next one starts after a pause."""

    source_id: str
    dataset: str
    reason: str
    pause_s: float


class Finished(NamedTuple):
    """A source is done."""

    outcome: Outcome


Event = Started | Progress | Waiting | Finished


@dataclass(slots=True)
class RunReport:
    """The outcomes of a run."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stale: list[Stale] = field(default_factory=list)

    @property
    def counts(self) -> dict[Result, int]:
        """The number of sources for each result, zeros included."""
        found = dict.fromkeys(Result, 0)
        for outcome in self.outcomes:
            found[outcome.result] += 1
        return found

    @property
    def bytes_fetched(self) -> int:
        return sum(outcome.bytes_fetched for outcome in self.outcomes)

    @property
    def bytes_saved(self) -> int:
        return sum(outcome.bytes_saved for outcome in self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.result is Result.FAILED]

    @property
    def warnings(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.warning is not None]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        counts = {result.value: count for result, count in self.counts.items()}
        failures = [{"source_id": o.source_id, "dataset": o.dataset, "error": o.error} for o in self.failures]
        warnings = [{"source_id": o.source_id, "dataset": o.dataset, "warning": o.warning} for o in self.warnings]
        stale = [
            {"source_id": s.source_id, "dataset": s.dataset, "since": s.since.isoformat(timespec="seconds")}
            for s in self.stale
        ]
        found = {
            "sources": len(self.outcomes),
            **counts,
            "bytes_fetched": self.bytes_fetched,
            "bytes_saved": self.bytes_saved,
            "seconds": round(self.seconds, 3),
            "failures": failures,
        }
        return found | {name: some for name, some in (("warnings", warnings), ("stale", stale)) if some}
