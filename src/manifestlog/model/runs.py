"""Folds events into runs: who ran what, when, and with what result.

Invariants:

- A run has a unique id, so it is one run even if it wrote to several manifests.
- Every event of a run counts once. Results without an event, such as `unchanged`, are counted in the run's end.
- A run without an end stays open here; events do not show whether its process still runs.

It does no I/O.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.model.events import EventKind
from manifestlog.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.model.events import Event

_VERDICTS = [verdict.value for verdict in Verdict]


class RunOutcome(StrEnum):
    """How a run ended, or that it has not.

    - `OK`: its block ended.
    - `FAILED`: its block ended with an error, or the program reported a failure.
    - `INTERRUPTED`: something outside ended its block, such as Ctrl-C.
    - `RUNNING`: it has not ended, and its process exists.
    - `DIED`: it has not ended, and its process is gone.
    - `UNKNOWN`: it has not ended, and its process cannot be checked: it is on another host, or the beginning is unknown.
    """

    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    DIED = "died"
    UNKNOWN = "unknown"


class RunSummary(NamedTuple):
    """One run. A member is None if it is unknown, such as the beginning of a run whose first events were cut."""

    run: str
    """Its id."""
    manifests: tuple[str, ...]
    """The names of the manifests that it wrote to."""
    name: str | None
    version: str | None
    stage: str | None
    begun: str | None
    """When it began, as ISO-8601 text in UTC; so are the other times."""
    ended: str | None
    last: str
    """When it last wrote an event."""
    outcome: RunOutcome
    host: str | None
    pid: int | None
    pid_started: float | None
    user: str | None
    program: str | None
    counts: dict[str, int]
    """How often each verdict and each other kind of change occurred, with the counts of its end."""
    failed: int
    """Number of failed attempts."""
    bytes: int
    """Bytes transferred, according to its end, or else to its events."""
    seconds: float | None
    """How long it took, according to its end."""
    error: str | None
    """Why it failed."""


class _Open:
    """What is known of one run so far."""

    def __init__(self) -> None:
        self.manifests: dict[str, None] = {}
        self.begin: Event | None = None
        self.end: Event | None = None
        self.stage: str | None = None
        self.last = ""
        self.counts: Counter[str] = Counter()
        self.bytes = 0

    def add(self, manifest: str, event: Event) -> None:
        self.manifests[manifest] = None
        self.last = max(self.last, event.ts)
        self.stage = self.stage or event.stage
        if event.kind is EventKind.BEGUN:
            self.begin = event
        elif event.kind is EventKind.ENDED:
            self.end = event
            self.counts.update(_numbers(event.details.get("counts")))
        else:
            self.counts[event.verdict or event.kind] += 1
            if event.kind in (EventKind.PUT, EventKind.FAILED):
                self.bytes += event.bytes or 0


def fold_runs(events: Iterable[tuple[str, Event]]) -> list[RunSummary]:
    """Return the runs of these events, each with its manifest's name, in the order in which they began.

    A run without an end is `UNKNOWN`. The order of the events does not matter.
    """
    found: dict[str, _Open] = {}
    for manifest, event in events:
        if event.run is not None:
            if event.run not in found:
                found[event.run] = _Open()
            found[event.run].add(manifest, event)
    runs = [_summary(run, one) for run, one in found.items()]
    return sorted(runs, key=lambda one: (one.begun or one.last, one.run))


def _summary(run: str, one: _Open) -> RunSummary:
    begin = one.begin.details if one.begin else {}
    end = one.end.details if one.end else {}
    words = sorted((str(word) for word in one.counts if word != EventKind.FAILED), key=_order)
    return RunSummary(
        run=run,
        manifests=tuple(one.manifests),
        name=begin.get("name"),
        version=begin.get("version"),
        stage=one.stage,
        begun=one.begin.ts if one.begin else None,
        ended=one.end.ts if one.end else None,
        last=one.last,
        outcome=_outcome(end.get("outcome")),
        host=begin.get("host"),
        pid=begin.get("pid"),
        pid_started=begin.get("pid_started"),
        user=begin.get("user"),
        program=begin.get("program"),
        counts={word: one.counts[word] for word in words},
        failed=one.counts[EventKind.FAILED],
        bytes=end.get("bytes", one.bytes),
        seconds=end.get("seconds"),
        error=end.get("error"),
    )


def _numbers(counts: dict[str, Any] | None) -> dict[str, int]:
    return {word: count for word, count in (counts or {}).items() if type(count) is int}


def _order(word: str) -> tuple[int, str]:
    return (_VERDICTS.index(word) if word in _VERDICTS else len(_VERDICTS), word)


def _outcome(text: str | None) -> RunOutcome:
    return RunOutcome(text) if text in tuple(RunOutcome) else RunOutcome.UNKNOWN
