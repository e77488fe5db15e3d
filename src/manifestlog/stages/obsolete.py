"""Finds failures that no success will ever end, because the stage will not process their inputs any more.

An input was forgotten or judged invalid upstream, it was replaced in its group or by another version, or the condition
of the stage has changed. The end of a run names such inputs (`Run.obsolete`), so that `failures` and `status` leave
them out.

Invariants:

- The failure of a pending input is never over.
- Only failures that the look knows are checked, so a stage without failures reads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.model.failures import TOLD, fold_failures
from manifestlog.stages.pending import is_superseded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.stages.look import Between, Look

_INPUTS_MAX = 10_000
"""How many inputs the end of one run names; the next run names the rest."""


def obsolete_inputs(between: Between, look: Look) -> set[str]:
    """Return the inputs of failures that are over without a success, and keep in the look those that are not over."""
    if not look.failed:  # a snapshot checks the whole index, which takes 0.1 s for a million records
        return set()
    pending = _still_pending(between, look)
    gone = look.failed - pending
    if not gone or not between.outputs.has_history:
        return set()
    over: set[str] = set()
    left: set[str] = set()
    for inputs in _failing(between, gone):
        is_over = pending.isdisjoint(inputs) and len(over) + len(inputs) <= _INPUTS_MAX
        (over if is_over else left).update(inputs)
    look.failed = pending | left
    return over


def _failing(between: Between, inputs: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield the inputs of each failure that names one of these and has not ended."""
    events = between.outputs.history(checksums=inputs, kinds=TOLD)
    for failure in fold_failures(("", event) for event in events):
        if failure.inputs and failure.succeeded is None:
            yield failure.inputs


def _still_pending(between: Between, look: Look) -> set[str]:
    """Return the inputs of failures that the next run takes up."""
    now = between.upstream.snapshot()
    rows = ((checksum, now.encoded(checksum)) for checksum in look.failed if checksum in look.pending)
    return {checksum for checksum, raw in rows if raw is not None and not is_superseded(between.upstream, raw)}
