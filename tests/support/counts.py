"""Counts how much was tried, over a whole run of tests, and says it in one line at the end.

Invariants:

- `count("kills", 2_500)` may be called from a test or from a fixture of any scope, in any worker of xdist.
- What a worker counted reaches the run's last line when the worker ends; one that dies takes its counts with it.

A count proves nothing by itself; it is what `docs/TESTING.md` quotes. Forked children tell their numbers to the test.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENT_AS = "counted"


class Count(Protocol):
    """Adds to a named counter of this run."""

    def __call__(self, name: str, number: int = 1) -> None: ...


class Counts:
    """A plugin of pytest: the counters of this process, and of the workers that have ended."""

    def __init__(self) -> None:
        self._total: Counter[str] = Counter()

    def add(self, name: str, number: int = 1) -> None:
        self._total[name] += number

    def line(self) -> str:
        """`counted: kills 10,000 · crash states 52,345`, or nothing."""
        return "counted: " + " · ".join(f"{name} {number:,}" for name, number in sorted(self._total.items()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_SENT_AS] = dict(self._total)

    @pytest.hookimpl(optionalhook=True)  # there only with xdist
    def pytest_testnodedown(self, node: Any) -> None:
        sent: Mapping[str, int] = getattr(node, "workeroutput", {}).get(_SENT_AS, {})
        self._total.update(sent)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._total:
            terminalreporter.write_line(self.line())
