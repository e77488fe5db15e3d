"""Finds the contents that a step still has to process: those of one manifest from which no output in another was made.

Invariants:

- The first look reads all checksums of the one manifest, and the inputs of all outputs in the other. Later looks read
  only the events since then.
- If the events leave something uncertain (a forgotten output, an undo, a cut history), a first look is made again. The
  answer is never wrong.

It keeps the pending checksums, and the finished inputs that are not in the other manifest.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from manifestlog.derivations import standing_of
from manifestlog.engines.protocol import Capability
from manifestlog.errors import CursorError, DamagedManifestError, HistoryReachError
from manifestlog.model import codec
from manifestlog.model.events import EventKind, Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.protocol import Engine, Snapshot
    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row

_ONE_BY_ONE_SHARE = 16
"""A lookup takes ten times as long as a record in order."""
_ADDS_INPUTS = frozenset({EventKind.PUT, EventKind.DERIVED, EventKind.RELOCATE, EventKind.RETIME})
_TAKES_BACK = frozenset({EventKind.UNDO, EventKind.FORGET})
_ADDS_NOTHING = frozenset({EventKind.META, EventKind.BEGUN, EventKind.ENDED, EventKind.FAILED})


class _UncertainError(Exception):
    """The events do not say what is pending. A signal to look at everything; it reaches no caller."""


class Look:
    """What is pending as of two cursors. Not thread-safe: its owner hands it to one thread at a time."""

    def __init__(self, upstream: Engine, outputs: Engine) -> None:
        # In this order: an input that comes upstream after its output is then known to be done.
        self._upstream_cursor, found = upstream.present()
        self._outputs_cursor, made = outputs.present()
        self.pending, self._done = compared(found, _inputs(made) | _earlier_inputs(outputs))

    def renew(self, upstream: Engine, outputs: Engine) -> None:
        """Take in what has happened since. Raises an error if that is not certain; the look is then useless."""
        now = upstream.cursor()
        if now != self._upstream_cursor:
            for event in upstream.events_after(self._upstream_cursor):
                self._take_upstream(event)
                self._upstream_cursor = event.cursor
        now = outputs.cursor()
        if now != self._outputs_cursor:
            for event in outputs.events_after(self._outputs_cursor):
                self._take_output(event)
                self._outputs_cursor = event.cursor

    def _take_upstream(self, event: Event) -> None:
        checksum = event.checksum
        if checksum is None or not event.is_change:
            return
        if event.row is None:
            if checksum in self.pending:
                self.pending.discard(checksum)
            else:
                self._done.add(checksum)
        elif event.was is None and checksum not in self._done:
            self.pending.add(checksum)

    def _take_output(self, event: Event) -> None:
        if event.kind in _ADDS_INPUTS:
            self.pending.difference_update(event.inputs)
            self._done.update(event.inputs)
        elif event.kind not in _ADDS_NOTHING:
            raise _UncertainError


def compared(upstream: Snapshot, done: set[str]) -> tuple[set[str], set[str]]:
    """Return the checksums that are not done, and those that are done and not upstream; changes `done`."""
    pending = set()
    for checksum in upstream.checksums():
        if checksum in done:
            done.discard(checksum)
        else:
            pending.add(checksum)
    return pending, done


def _inputs(outputs: Snapshot) -> set[str]:
    found: set[str] = set()
    for some in outputs.batches():
        for _, raw in some:
            found.update(codec.inputs_of(raw))
    return found


def _earlier_inputs(outputs: Engine) -> set[str]:
    """Return the inputs of earlier derivations that still stand; the records of their outputs show the latest only."""
    told: defaultdict[str, set[str]] = defaultdict(set)
    repeated: set[str] = set()
    for event in outputs.events(Query(other_inputs=True)):
        if event.kind is not EventKind.FAILED and event.checksum is not None and outputs.has(event.checksum):
            told[event.checksum].update(_told_by(event))
            if event.kind is EventKind.DERIVED:
                repeated.add(event.checksum)
    if told:
        taken_back = outputs.events(Query(checksums=frozenset(told), kinds=_TAKES_BACK))
        doubtful = repeated | {one for event in taken_back if (one := event.checksum) is not None and one in told}
        for output, events in standing_of(outputs, doubtful).items() if doubtful else ():
            told[output] = {one for event in events if "inputs" in event.details for one in _told_by(event)}
    return set(chain.from_iterable(told.values()))


def _told_by(event: Event) -> Iterator[str]:
    yield from event.inputs
    yield from (event.was or {}).get("derived_from") or ()


def pending(upstream: Engine, outputs: Engine, looks: dict[str, Look]) -> Iterator[Row]:
    """Yield the rows of `upstream` that are pending. `looks` keeps what was found, by manifest."""
    if Capability.HISTORY not in upstream.capabilities:  # an earlier time
        found = upstream.snapshot()
        checksums, _ = compared(found, _inputs(outputs.snapshot()) | _earlier_inputs(outputs))
    else:
        key = upstream.location.key
        look = _renewed(looks.pop(key, None), upstream, outputs)
        checksums = set(look.pending)
        looks[key] = look
    return _rows(upstream, checksums)


def _renewed(look: Look | None, upstream: Engine, outputs: Engine) -> Look:
    if look is not None:
        try:
            look.renew(upstream, outputs)
            return look
        except (_UncertainError, HistoryReachError, CursorError, DamagedManifestError):
            pass  # a compaction may also have cut what was being read
    return Look(upstream, outputs)


def _rows(upstream: Engine, checksums: set[str]) -> Iterator[Row]:
    """Yield the rows with these checksums, sorted: one by one if they are few, or else as they come in a snapshot."""
    if not checksums:
        return
    if len(checksums) * _ONE_BY_ONE_SHARE < upstream.count():
        for checksum in sorted(checksums):
            row = upstream.get(checksum)
            if row is not None:  # not forgotten meanwhile
                yield row
    else:
        for some in upstream.snapshot().batches():
            yield from codec.loads_all(raw for checksum, raw in some if checksum in checksums)
