"""The result of each item, the report of a run of a stage, and the events during a run.

Invariants:

- Each item that was taken up is in exactly one of the counts.
- A report of a million items keeps the counts and the failures, not the items.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Result(StrEnum):
    """The result of an item.

    - `MADE`: it has outputs.
    - `NOTHING`: there was nothing to do with it.
    - `VALID`, `INVALID`: it was judged.
    - `LOADED`: it was loaded.
    - `FAILED`: every attempt of this run failed.
    - `CLAIMED`: another run is processing it, or has just processed it.
    - `GIVEN_UP`: it has failed `give_up_after` times, so it was not tried again.
    """

    MADE = "made"
    NOTHING = "nothing"
    VALID = "valid"
    INVALID = "invalid"
    LOADED = "loaded"
    FAILED = "failed"
    CLAIMED = "claimed"
    GIVEN_UP = "given_up"


class ItemRef(NamedTuple):
    """An item, as in displays and events."""

    key: str
    """The input's checksum; for a group, its key."""
    source_id: str
    dataset: str
    inputs: tuple[str, ...]
    """The checksums of the inputs: one, or the members of a group."""
    file_path: str
    """The path of the input, or of the first member; absolute."""


class MadeOutput(NamedTuple):
    """An output that was recorded."""

    checksum: str
    file_path: str
    """Absolute."""
    file_size: int
    dataset: str
    verdict: str


class ItemOutcome(NamedTuple):
    """The result of one item, with details."""

    item: ItemRef
    result: Result
    outputs: tuple[MadeOutput, ...] = ()
    attempts: int = 1
    """How many attempts of this run it took."""
    seconds: float = 0.0
    """How long the last attempt took."""
    why: str | None = None
    """The reason for the judgement, or why there was nothing to do."""
    rows: int | None = None
    """How many rows were loaded, if known."""
    error: str | None = None
    exit_code: int | None = None
    stderr: str | None = None
    """The last lines that the command wrote there."""


class Begun(NamedTuple):
    """The run of a stage begins. Without an item, there is nothing to do."""

    stage: str
    pending: int
    """How many items are pending."""
    run: str | None
    """The id of the run in the history; None if nothing is pending, because such a run writes nothing."""


class Started(NamedTuple):
    """An attempt at an item starts. Only with `shows_start=True`, because it costs a message each."""

    stage: str
    item: ItemRef


class Waiting(NamedTuple):
    """An attempt failed; the next one starts after a pause."""

    stage: str
    item: ItemRef
    error: str
    pause_s: float


class Finished(NamedTuple):
    """An item is done; its records are as durable as the manifest's options promise."""

    stage: str
    outcome: ItemOutcome


class Ended(NamedTuple):
    """The run of a stage has ended."""

    stage: str
    report: StageReport


StageEvent = Begun | Started | Waiting | Finished | Ended


@dataclass(slots=True)
class StageReport:
    """The results of a run of a stage."""

    stage: str
    version: str
    manifest: str
    """The name of the stage's manifest."""
    upstream: str
    """The name of the upstream manifest."""
    run: str | None = None
    """The id of the run in the history; None if nothing was pending."""
    counts: Counter[Result] = field(default_factory=Counter)
    """The number of items for each result."""
    failures: list[ItemOutcome] = field(default_factory=list)
    """The failed items; at most the first `FAILURES_MAX`."""
    outputs: int = 0
    rows: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def done(self) -> int:
        """How many items were processed."""
        return sum(self.counts[one] for one in DONE)

    @property
    def is_ok(self) -> bool:
        """Whether nothing failed and nothing was given up."""
        return not (self.counts[Result.FAILED] or self.counts[Result.GIVEN_UP] or self.interrupted)

    def add(self, outcome: ItemOutcome) -> None:
        """Count what became of an item."""
        self.counts[outcome.result] += 1
        self.outputs += len(outcome.outputs)
        self.bytes_written += sum(one.file_size for one in outcome.outputs)
        self.rows += outcome.rows or 0
        if outcome.result is Result.FAILED and len(self.failures) < FAILURES_MAX:
            self.failures.append(outcome)

    def include(self, other: StageReport) -> None:
        """Add what a later run of the same stage came to."""
        self.run = other.run or self.run
        self.counts.update(other.counts)
        # These are the same items again.
        for result in (Result.CLAIMED, Result.GIVEN_UP):
            self.counts[result] = other.counts[result]
        self.failures += other.failures[: FAILURES_MAX - len(self.failures)]
        self.outputs += other.outputs
        self.rows += other.rows
        self.bytes_written += other.bytes_written
        self.seconds += other.seconds
        self.interrupted |= other.interrupted

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "stage": self.stage,
            "version": self.version,
            "manifest": self.manifest,
            "upstream": self.upstream,
            "run": self.run,
            "items": self.counts.total(),
            **{result.value: self.counts[result] for result in Result},
            "outputs": self.outputs,
            "rows": self.rows,
            "bytes_written": self.bytes_written,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "failures": [_failure(one) for one in self.failures],
        }


FAILURES_MAX = 1000
DONE = frozenset({Result.MADE, Result.NOTHING, Result.VALID, Result.INVALID, Result.LOADED})
"""The results of items that are not pending any more."""


def _failure(one: ItemOutcome) -> dict[str, Any]:
    return {
        "source_id": one.item.source_id,
        "dataset": one.item.dataset,
        "inputs": list(one.item.inputs),
        "attempts": one.attempts,
        "error": one.error,
        "exit_code": one.exit_code,
        "stderr": one.stderr,
    }
