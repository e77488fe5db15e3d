"""The first look at two manifests: it reads all of both, and the events that records do not show.

Invariants:

- Rows and history are read as of two cursors; what comes after them is left to `Look.renew`.
- A row counts only for what it shows; a derivation that only the history has counts as long as its output is there.
- An output is superseded if another version made others of the same inputs later. It is not pending.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from manifestlog.model import codec
from manifestlog.model.events import EventKind
from manifestlog.model.rows import sort_key
from manifestlog.stages.definition import Rerun
from manifestlog.stages.look import Between, Look, refuse_other_stage
from manifestlog.stages.rule import DERIVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.manager import AbstractManifest
    from manifestlog.model.rows import Row
    from manifestlog.reader import Snapshot
    from manifestlog.stages.rule import Rule

_HAS_INPUTS = b'"derived_from":['


def first_look(between: Between) -> Look:
    """Return what is pending now. Raises `StageError` if another stage writes the outputs' manifest."""
    for event in between.outputs.history(kinds=[EventKind.BEGUN]):
        refuse_other_stage(between, event.stage)
    # In this order: an input that comes upstream after its output is then known to be done.
    upstream_cursor, there = between.upstream.present()
    outputs_cursor, made = between.outputs.present()
    found = Look(upstream_cursor, outputs_cursor)
    _read_judgements(found, between, there)
    done = _done_in_rows(made, between.rule) | _done_in_history(between.outputs, made, between.rule)
    superseded = _superseded(there)
    for checksum, row in _parsed(there):
        if checksum in done:
            done.discard(checksum)
        elif checksum not in superseded and between.where.admits(row) and found.accepts(between.where, checksum):
            found.pending.add(checksum)
    found.away = done
    return found


def _parsed(snapshot: Snapshot) -> Iterator[tuple[str, Row]]:
    for some in snapshot.batches():
        yield from zip([checksum for checksum, _ in some], codec.loads_all(raw for _, raw in some), strict=True)


def _derived(snapshot: Snapshot) -> Iterator[Row]:
    """Yield the rows with inputs."""
    for some in snapshot.batches():
        yield from codec.loads_all(raw for _, raw in some if _HAS_INPUTS in raw)


# -- done --------------------------------------------------------------------------------------------------------------


def _done_in_rows(made: Snapshot, rule: Rule) -> set[str]:
    found: set[str] = set()
    if rule.rerun is not Rerun.CODE:
        for row in _derived(made):
            if rule.counts_row(row):
                found.update(row.get("derived_from", ()))
    return found


def _done_in_history(outputs: AbstractManifest, made: Snapshot, rule: Rule) -> set[str]:
    """Return the inputs of derivations whose output is there, or that had none. Rows show only the latest of an output."""
    found: set[str] = set()
    if outputs.has_history:
        for event in outputs.history(kinds=DERIVES, other_inputs=rule.rerun is not Rerun.CODE):
            if rule.counts(event) and (event.checksum is None or made.row(event.checksum) is not None):
                found.update(event.inputs)
            if event.was and event.checksum is not None and made.row(event.checksum) is not None:
                before = {**(event.row or {}), **event.was}
                if rule.counts_row(before):
                    found.update(before.get("derived_from") or ())
    return found


# -- judged ------------------------------------------------------------------------------------------------------------


def _read_judgements(found: Look, between: Between, there: Snapshot) -> None:
    """Read the latest judgement of each upstream record. Only a stage judges, so a manifest of downloads has none."""
    if between.where.judgement == "any":
        return
    judged: dict[str, str] = {}
    if any(True for _ in _derived(there)):
        for event in between.upstream.history(kinds=DERIVES):
            if event.judgement is not None and event.checksum is not None:
                judged[event.checksum] = event.judgement
    found.invalid = {checksum for checksum, word in judged.items() if word == "invalid"}
    if between.where.judgement == "valid":
        found.unjudged = {checksum for checksum in there.checksums() if checksum not in judged}


# -- superseded --------------------------------------------------------------------------------------------------------


def _superseded(there: Snapshot) -> set[str]:
    """Return the records that another version has made anew, from the same inputs."""
    versions = {row["version"] for row in _derived(there)}
    if len(versions) <= 1:
        return set()
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
