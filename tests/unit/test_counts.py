"""The line in which a run of tests says how much it tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from support.counts import Counts


def test_counts_are_summed_and_reported_by_name() -> None:
    """One number a name, with separators, in the order of the names."""
    counts = Counts()
    counts.add("kills", 2_500)
    counts.add("crash states", 52_345)
    counts.add("kills", 7_500)
    assert counts.line() == "counted: crash states 52,345 · kills 10,000"


def test_what_a_worker_counted_is_added_by_the_controller() -> None:
    """A worker's numbers travel with its end."""
    counts = Counts()
    worker = Counts()
    worker.add("kills", 3)
    output: dict[str, object] = {}
    session: Any = SimpleNamespace(config=SimpleNamespace(workeroutput=output))
    worker.pytest_sessionfinish(session)
    for _ in range(2):
        counts.pytest_testnodedown(SimpleNamespace(workeroutput=output))
    assert counts.line() == "counted: kills 6"
