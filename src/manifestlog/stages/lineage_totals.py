"""Adds up by dataset what a run of a stage read and wrote, as lineage tools need it.

Invariants:

- Memory grows with the number of datasets, not of items.
- This run has not read items that were claimed by others or given up, so they do not count.

Pure: it turns the events of a run into totals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from manifestlog.stages.report import Result

if TYPE_CHECKING:
    from manifestlog.stages.report import ItemOutcome

_READ = frozenset({Result.MADE, Result.NOTHING, Result.VALID, Result.INVALID, Result.LOADED, Result.FAILED})
_PASSED_ON = frozenset({Result.VALID, Result.INVALID, Result.LOADED})
"""What is recorded again in the stage's own manifest."""


@dataclass(slots=True)
class Total:
    """What was read of one dataset, or written to it."""

    files: int = 0
    bytes: int | None = None
    """None if it is not known."""
    rows: int | None = None

    def add(self, files: int, size: int | None = None, rows: int | None = None) -> None:
        self.files += files
        self.bytes = _sum(self.bytes, size)
        self.rows = _sum(self.rows, rows)


@dataclass(slots=True)
class Totals:
    """What a run read and wrote, by dataset."""

    inputs: dict[str, Total] = field(default_factory=dict)
    outputs: dict[str, Total] = field(default_factory=dict)
    failed: int = 0
    error: str | None = None
    """Why the first failed item failed."""

    def add(self, outcome: ItemOutcome) -> None:
        """Take in what became of an item."""
        item, result = outcome.item, outcome.result
        if result not in _READ:
            return
        self.inputs.setdefault(item.dataset, Total()).add(len(item.inputs))
        for one in outcome.outputs:
            self.outputs.setdefault(one.dataset, Total()).add(1, one.file_size)
        if result in _PASSED_ON:
            self.outputs.setdefault(item.dataset, Total()).add(len(item.inputs), rows=outcome.rows)
        if result is Result.FAILED:
            self.failed += 1
            self.error = self.error or outcome.error


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)
