"""The rule for when an input is done: which derivations count, for this version of a stage.

Invariants:

- The history and the rows give the same answer, if both have one.

It reads nothing; `look` and `worker` use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.events import EventKind
from manifestlog.stages.definition import Rerun

if TYPE_CHECKING:
    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row

DERIVES = frozenset({EventKind.PUT, EventKind.DERIVED})
"""The kinds of events that say that inputs are done."""


class Rule(NamedTuple):
    """What counts as done."""

    stage: str
    version: str
    rerun: Rerun = Rerun.VERSION
    code: str | None = None
    """The digest of what the stage runs; with `Rerun.CODE`."""

    def counts(self, event: Event) -> bool:
        """Return whether this event says that its inputs are done. One without a stage was recorded by hand."""
        if event.kind not in DERIVES or event.stage not in (None, self.stage):
            return False
        if self.rerun is Rerun.NEVER:
            return True
        return self.counts_attempt(event)

    def counts_attempt(self, event: Event) -> bool:
        """Return whether this event is of an attempt by this version, and with `Rerun.CODE`, by this code."""
        is_code = self.rerun is not Rerun.CODE or event.details.get("code") == self.code
        return event.version == self.version and is_code

    def counts_row(self, row: Row) -> bool:
        """Return whether this row says that its inputs are done. It does not know the code, so the history must."""
        return self.rerun is Rerun.NEVER or (self.rerun is Rerun.VERSION and row["version"] == self.version)
