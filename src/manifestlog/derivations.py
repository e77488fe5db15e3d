"""Uses the history to decide whether an input is done, and which derivations of an output are still valid.

Invariants:

- A derivation does not count if it was undone, or if its output was forgotten later, whatever its record shows.
- The usual answer takes one lookup. A second lookup is needed only if the record has changed since the derivation.

It stores nothing. `pending` compares whole manifests.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING

from manifestlog.model.events import EventKind, Query
from manifestlog.model.lineage import MADE, Derivation, derivation_of, nothing_of
from manifestlog.model.rows import required_checksum
from manifestlog.model.standing import standing

if TYPE_CHECKING:
    from collections.abc import Collection

    from manifestlog.engines.protocol import Engine
    from manifestlog.model.events import Event

_UNDO = frozenset({EventKind.UNDO})


def latest(engine: Engine, text: str, stage: str | None, version: str | None) -> Derivation | None:
    """Return the latest derivation from this input that still stands; raises `ValueError` for text that is no checksum."""
    checksum = required_checksum(text)
    asked = Query(checksums=frozenset({checksum}), kinds=MADE, reverse=True)
    for event in engine.events(asked):
        found = derivation_of(engine.location.name, event) or nothing_of(engine.location.name, event)
        if found is None or checksum not in found.inputs:
            continue  # this content itself
        if stage in (None, found.stage) and version in (None, found.version) and stands(engine, event):
            return found
    return None


def stands(engine: Engine, event: Event) -> bool:
    """Return whether the derivation that this event tells of still counts."""
    output = event.checksum
    if output is None:  # nothing came of its inputs
        undos = engine.events(Query(kinds=_UNDO, since=event.ts))
        return event in standing([event, *undos], None)
    row = engine.get(output)
    if row is None or row == event.row:
        return row is not None
    return any(one.cursor == event.cursor for one in standing_of(engine, {output})[output])


def standing_of(engine: Engine, outputs: Collection[str]) -> dict[str, list[Event]]:
    """Return the events of each of these outputs that still stand, in order."""
    told: defaultdict[str, list[Event]] = defaultdict(list)
    for event in engine.events(Query(checksums=frozenset(outputs))):
        if event.checksum is not None and event.checksum in outputs:
            told[event.checksum].append(event)
    repeated = [event.ts for events in told.values() for event in events if event.kind is EventKind.DERIVED]
    # The undo of a run names only contents that it changed, and a repeated derivation has changed none.
    undos = list(engine.events(Query(kinds=_UNDO, since=min(repeated)))) if repeated else []
    return {output: standing(_with_undos(told[output], undos), output) for output in outputs}


def _with_undos(events: list[Event], undos: list[Event]) -> list[Event]:
    known = {event.cursor for event in events}
    others = [undo for undo in undos if undo.cursor not in known]
    return list(merge(events, others, key=attrgetter("ts"))) if others else events
