"""A run: the writes of a pipeline between two moments, under one id.

Invariants:

- Every write of the manager inside the `with` block has the run's id, from any thread and any forked or spawned worker
  that received the manager. If several runs are open, it is the id of the run that began last.
- The begin is durable before the block starts. The end is written however the block ends; a killed run has none.

It writes two events and counts. `runs` in the command line reads them.
"""

from __future__ import annotations

import operator
import secrets
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from manifestlog import history
from manifestlog.engines.protocol import Capability
from manifestlog.error_texts import named
from manifestlog.errors import ManifestError
from manifestlog.files.processes import this_process
from manifestlog.model.attempts import failure_text, writable
from manifestlog.model.events import EventKind, kept
from manifestlog.model.safe_urls import safe_text
from manifestlog.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from manifestlog.engines.protocol import Engine
    from manifestlog.model.events import Details


_OUTCOMES = (None, "ok", "failed", "interrupted")


def new_id() -> str:
    """Return an id that sorts by time, such as `20260101T120000Z-5eed1234`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


class RunContext:
    """The runs that are open in a manager; its writes belong to the one that began last."""

    def __init__(self) -> None:
        self._open: list[Details] = []
        self._received: Details | None = None

    @property
    def details(self) -> Details | None:
        """What a write keeps of its run; None outside of any run."""
        return next(reversed(self._open), self._received)

    def receive(self, details: Details | None) -> None:
        """Write for this run of another process; runs that are open here go before it."""
        if not self._open:
            self._received = details

    def enter(self, details: Details) -> None:
        self._open.append(details)

    def leave(self, details: Details) -> None:
        # By value, because runs in two threads may end in any order.
        self._open.remove(details)

    def joined(self, given: Mapping[str, Any]) -> Details | None:
        """Return the details of an event: those of the run, and these."""
        run = self.details
        return ({**run, **given} if run else dict(given)) or None


class Run:
    """One run of a pipeline, used as a context manager. Created by `AbstractManifest.run`."""

    def __init__(self, engine: Engine, context: RunContext, details: Details, begun: Details) -> None:
        self.id = str(details["run"])
        self._bytes = 0
        self._engine = engine
        self._context = context
        self._details = details
        self._begun = begun
        self._counts: Counter[str] = Counter()
        self._unchanged: set[tuple[str, str]] = set()
        self._obsolete: set[str] = set()
        self._since = 0.0
        self._outcome: str | None = None

    @property
    def bytes(self) -> int:
        """Bytes transferred, for the end of the run. Setting anything but a whole number raises `ValueError`."""
        return self._bytes

    @bytes.setter  # noqa: A003 -- the property itself
    def bytes(self, value: int) -> None:
        self._bytes = writable({"bytes": value})["bytes"]

    @property
    def outcome(self) -> str | None:
        """The outcome of the run: `ok`, `failed` or `interrupted`. By default, it follows from how the block ends."""
        return self._outcome

    @outcome.setter
    def outcome(self, value: str | None) -> None:
        if value not in _OUTCOMES:
            raise ValueError(f"{value!r:.80} is not how a run ends: expected ok, failed or interrupted")
        self._outcome = value

    def count(self, outcome: str, times: int = 1) -> None:
        """Count a result that leaves no event of its own, such as `unchanged`."""
        writable({"counts": {outcome: operator.index(times)}})
        self._counts[outcome] += times

    def unchanged(self, source_id: str, dataset: str) -> None:
        """Count a source that answered that its content is unchanged. If it was failing, its failure ends."""
        writable({"recovered": [{"source_id": source_id, "dataset": dataset}]})
        self.count("unchanged")
        self._unchanged.add((source_id, dataset))

    def obsolete(self, inputs: Iterable[str]) -> None:
        """State that these contents no longer need to be processed. If one was failing, its failure ends.

        The event at the end of the run names them. Raises `ValueError` for text that is not a checksum.
        """
        self._obsolete.update(writable({"inputs": list(inputs)})["inputs"])

    def __enter__(self) -> Self:
        self._engine.record_event(EventKind.BEGUN, writable({**self._details, **self._begun}))
        self._context.enter(self._details)
        self._since = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.leave(self._details)
        outcome = self.outcome or (
            "ok" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        )
        end = {
            "outcome": outcome,
            "counts": dict(self._counts) or None,
            "recovered": self._recovered() or None,
            "inputs": sorted(self._obsolete) or None,
            "bytes": self.bytes or None,
            "seconds": round(time.monotonic() - self._since, 3),
            "error": None if error is None else safe_text(named(error)),
        }
        self._engine.record_event(EventKind.ENDED, {**self._details, **kept(end)})

    def _recovered(self) -> list[dict[str, str]]:
        """Return the sources that were failing and are unchanged; a damaged history does not stop the end of a run."""
        found: list[tuple[str, str]] = []
        with suppress(ManifestError, OSError):
            if self._unchanged and Capability.HISTORY in self._engine.capabilities:
                found = history.recovered(self._engine, self._unchanged, datetime.now(UTC))
        return [{"source_id": source_id, "dataset": dataset} for source_id, dataset in found]


class JoinedRun:
    """A part of a run in another process or thread, used as a context manager. Created by `AbstractManifest.join_run`."""

    def __init__(self, context: RunContext, details: Details) -> None:
        self.id = str(details["run"])
        self._context = context
        self._details = details

    def __enter__(self) -> Self:
        self._context.enter(self._details)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.leave(self._details)


def begin(
    engine: Engine,
    context: RunContext,
    name: str,
    version: str,
    *,
    stage: str | None = None,
    about: Mapping[str, str] | None = None,
) -> Run:
    """Return the run with this name; it begins when its block does. Every event of it has what `about` says."""
    details = kept({"run": new_id(), "stage": stage, **(about or {})})
    program = f"manifestlog {__version__}"
    begun = {"name": failure_text(name), "version": version, "program": program, **this_process()}
    return Run(engine, context, details, begun)
