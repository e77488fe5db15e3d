"""The first look at two manifests: it reads both completely, and the events that records do not show.

Invariants:

- Rows and history are read as of two cursors; `Look.renew` reads later events.
- A row counts only for what it shows. A derivation that only the history shows counts as long as its output exists.
- An output is superseded if another version has later made others from the same inputs. It is not pending.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from manifestlog.model import codec
from manifestlog.model.events import EventKind
from manifestlog.model.rows import sort_key
from manifestlog.stages.definition import Rerun
from manifestlog.stages.digests import Digests
from manifestlog.stages.look import Between, Look, refuse_other_stage
from manifestlog.stages.rule import DERIVES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from manifestlog.manager import AbstractManifest
    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row
    from manifestlog.reader import Snapshot
    from manifestlog.stages.rule import Rule
    from manifestlog.stages.where import Where

_HAS_INPUTS = b'"derived_from":['
_TAKES_BACK = (EventKind.UNDO, EventKind.FORGET)


def first_look(between: Between) -> Look:
    """Return what is pending now. Raises `StageError` if another stage writes the outputs' manifest."""
    # In this order: an input that comes upstream after its output is then known to be done.
    upstream_cursor, there = between.upstream.present()
    outputs_cursor, made = between.outputs.present()
    found = Look(upstream_cursor, outputs_cursor, pending=Digests(), unjudged=Digests())
    # One query for each kind: the history knows where each is.
    for event in between.outputs.history(kinds=[EventKind.BEGUN]):
        refuse_other_stage(between, event.stage)
    for event in between.outputs.history(kinds=[EventKind.FAILED]):
        found.failed.update(event.inputs)
    versions = {row["version"] for row in _derived(there)}
    _read_judgements(found, between, there, is_made=bool(versions))
    superseded = _superseded(there) if len(versions) > 1 else set()
    done = Digests()
    done.update(_done_in_rows(made, between.rule))
    done.update(_done_in_history(between.outputs, made, between.rule))
    for checksum, is_admitted in _upstream(there, between.where):
        if done.take(checksum):
            continue
        if is_admitted and checksum not in superseded and found.accepts(between.where, checksum):
            found.pending.add(checksum)
    found.away.update(done)
    return found


def _upstream(there: Snapshot, where: Where) -> Iterator[tuple[str, bool]]:
    """Yield each upstream checksum, and whether the condition admits its record."""
    if where.admits_all:
        yield from ((checksum, True) for checksum in there.checksums())
        return
    for some in there.batches():
        rows = codec.loads_all(raw for _, raw in some)
        yield from ((checksum, where.admits(row)) for (checksum, _), row in zip(some, rows, strict=True))


def _derived(snapshot: Snapshot) -> Iterator[Row]:
    """Yield the rows with inputs."""
    for some in snapshot.batches():
        yield from codec.loads_all(raw for _, raw in some if _HAS_INPUTS in raw)


# -- done --------------------------------------------------------------------------------------------------------------


def _done_in_rows(made: Snapshot, rule: Rule) -> Iterator[str]:
    if rule.rerun is not Rerun.CODE:
        for row in _derived(made):
            if rule.counts_row(row):
                yield from row.get("derived_from", ())


def _done_in_history(outputs: AbstractManifest, made: Snapshot, rule: Rule) -> Iterator[str]:
    """Yield the inputs of derivations that still stand. Rows show only the latest of an output."""
    if not outputs.has_history:
        return
    has_undos: bool | None = None
    told: defaultdict[str, set[str]] = defaultdict(set)
    repeated: set[str] = set()
    everything = rule.rerun is Rerun.CODE
    in_doubt = _in_doubt(outputs) if everything else None
    for event in outputs.history(kinds=DERIVES, other_inputs=not everything):
        if event.checksum is None:
            if has_undos is None:  # a search through all events since
                has_undos = any(True for _ in outputs.history(kinds=[EventKind.UNDO], since=event.ts))
            if not has_undos or outputs.stands(event):
                yield from _told_by(event, rule)
        elif made.row(event.checksum) is None:
            continue
        elif in_doubt is not None and event.checksum not in in_doubt:
            yield from _told_by(event, rule)
        else:
            told[event.checksum].update(_told_by(event, rule))
            if event.kind is EventKind.DERIVED:
                repeated.add(event.checksum)
    doubtful = _doubtful(outputs, told, repeated) if in_doubt is None else set(told)
    for output, events in outputs.standing(doubtful).items():
        told[output] = {
            one for event in events if everything or "inputs" in event.details for one in _told_by(event, rule)
        }
    for inputs in told.values():
        yield from inputs


def _in_doubt(outputs: AbstractManifest) -> set[str] | None:
    """Return the outputs of which a derivation may have been taken back; None if these may be any.

    So that those of all others need not be kept until the end: for a million outputs, these would be 0.9 GB.
    """
    found: set[str] = set()
    for event in outputs.history(kinds=_TAKES_BACK):
        if event.kind is EventKind.UNDO:  # it names only contents that it changed
            return None
        if event.checksum is not None:
            found.add(event.checksum)
    return found


def _told_by(event: Event, rule: Rule) -> Iterator[str]:
    """Yield the inputs that are done according to an event, also by the derivation that its record showed before."""
    if rule.counts(event):
        yield from event.inputs
    if event.was and event.row is not None:
        before = {**event.row, **event.was}
        if rule.counts_row(before):
            yield from before.get("derived_from") or ()


def _doubtful(outputs: AbstractManifest, told: Collection[str], repeated: set[str]) -> set[str]:
    """Return the outputs of which a derivation may have been taken back."""
    if not told:
        return set()
    taken_back = outputs.history(checksums=told, kinds=_TAKES_BACK)
    return repeated | {one for event in taken_back if (one := event.checksum) is not None and one in told}


# -- judged ------------------------------------------------------------------------------------------------------------


def _read_judgements(found: Look, between: Between, there: Snapshot, *, is_made: bool) -> None:
    """Read the latest judgement of each upstream record. Only a stage judges: a manifest of downloads is not asked."""
    asked = between.where.judgement
    judged = Digests()
    for event in between.upstream.history(kinds=DERIVES) if is_made and asked != "any" else ():
        if event.judgement is not None and event.checksum is not None:
            (found.invalid.add if event.judgement == "invalid" else found.invalid.discard)(event.checksum)
            if asked == "valid":
                judged.update((event.checksum,))
    if asked == "valid":
        found.unjudged = Digests(checksum for checksum in there.checksums() if not judged.take(checksum))


# -- superseded --------------------------------------------------------------------------------------------------------


def _superseded(there: Snapshot) -> set[str]:
    """Return the records that another version has made anew, from the same inputs."""
    newest = str(there.metadata["etl_version"])
    latest: dict[bytes, tuple[tuple[str, int], bool, str]] = {}
    for row in _derived(there):
        mark, rank = _mark(row), _rank(row, newest)
        latest[mark] = max(rank, latest.get(mark, rank))
    return {row["checksum"] for row in _derived(there) if latest[_mark(row)][2] != row["version"]}


def _rank(row: Row, newest: str) -> tuple[tuple[str, int], bool, str]:
    return sort_key(row), row["version"] == newest, row["version"]


def _mark(row: Row) -> bytes:
    """Return what stands for the inputs of a row: a digest, since there may be a million rows."""
    return hashlib.sha256("".join(row["derived_from"]).encode()).digest()[:16]
