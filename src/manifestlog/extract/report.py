"""What came of a run: an outcome for each source, and their sum; and the events on the way there.

Invariants:

- Every source is in exactly one of the counts.
- No text in here holds a secret: whoever makes an outcome has redacted it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from manifestlog.extract.source import SPAN_UNITS_S
from manifestlog.verdict import Verdict


class Result(StrEnum):
    """What came of a source; the first five are the manifest's verdicts.

    - `NEW`: the first content of the source, and nobody had it before.
    - `CHANGED`: other content than before.
    - `ALIAS`: content that another source had brought already; it is kept once.
    - `REVERTED`: content that this source had before, and other content since.
    - `REFRESHED`: the same content under another ETag, time or path.
    - `UNCHANGED`: the server has nothing new, or sent again what is recorded.
    - `CLAIMED`: another run is fetching the source at this moment.
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
        """The result of an addition with this verdict."""
        return cls.UNCHANGED if verdict is Verdict.DUPLICATE else cls(verdict.value)


class Outcome(NamedTuple):
    """What came of one source."""

    source_id: str
    dataset: str
    result: Result
    file_path: str | None = None
    bytes_fetched: int = 0
    bytes_saved: int = 0
    """Of a body that was not sent, because it was recorded already."""
    seconds: float = 0.0
    error: str | None = None
    warning: str | None = None
    """What somebody should look at, though nothing has failed; shown under `--quiet` as well."""


class Stale(NamedTuple):
    """A source that has not answered for longer than its `stale_after`."""

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
        return f"{self.dataset}/{self.source_id}: stale: {what} {since}, longer ago than stale_after ({span})"


class Plan(NamedTuple):
    """What would be done with one source, and why."""

    source_id: str
    dataset: str
    action: str
    """`fetch`, `unchanged` or `failed`."""
    why: str
    length_bytes: int | None = None


class Started(NamedTuple):
    """A source is asked for."""

    source_id: str
    dataset: str


class Progress(NamedTuple):
    """So much of a content is here, of so much, where that is known; told a few times a second."""

    source_id: str
    dataset: str
    bytes_done: int
    bytes_total: int | None


class Waiting(NamedTuple):
    """An attempt failed; the next one begins after a pause."""

    source_id: str
    dataset: str
    reason: str
    pause_s: float


class Finished(NamedTuple):
    """A source is through."""

    outcome: Outcome


Event = Started | Progress | Waiting | Finished


@dataclass(slots=True)
class RunReport:
    """What came of a run."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stale: list[Stale] = field(default_factory=list)

    @property
    def counts(self) -> dict[Result, int]:
        """How many sources came to each result; all results are there."""
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
        """The report as data."""
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
