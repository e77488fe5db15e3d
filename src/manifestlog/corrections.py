"""Corrects many records at once: paths after a move, and times from a clock that was ahead.

Invariants:

- Each batch is one transaction. Running an interrupted correction again completes it.
- A dry run reads a snapshot and writes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.codec import encode_row
from manifestlog.model.events import EventKind
from manifestlog.model.relocation import Move, Relocation
from manifestlog.model.writes import Rewritten, Rules, future_observations, plan_moves, plan_new_times, retimed_records
from manifestlog.root import root_of

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Engine
    from manifestlog.model.events import Details
    from manifestlog.model.retiming import Retimed
    from manifestlog.model.writes import TimeLookup


def relocate(engine: Engine, old: str, new: str, *, dry_run: bool, details: Details | None = None) -> Relocation:
    """Change every path below the directory `old` to `new`, and then the root if it lies there."""
    move = Move(engine.location.directory, str(engine.metadata()["root_dir"]), old, new)
    rules = _rules(engine)
    batches, paths = _to_move(engine, move)
    for checksums in [] if dry_run else batches:
        plan = partial(_moved, move, checksums, rules)
        engine.rewrite(plan, EventKind.RELOCATE, details=details)
    if move.root_dir is not None and not dry_run:
        engine.set_metadata({"root_dir": move.root_dir}, details=details)
    return Relocation(sum(map(len, batches)), paths, move.root_dir, len(batches))


def _moved(move: Move, checksums: list[str], rules: Rules, known: TimeLookup) -> Rewritten:
    return Rewritten(plan_moves(known, move, checksums, rules))


def _to_move(engine: Engine, move: Move) -> tuple[list[list[str]], int]:
    """Return the checksums of rows that a move changes, in batches that fit a segment, and the number of paths."""
    options = engine.options
    batches: list[list[str]] = []
    waiting, paths = options.segment_bytes_max, 0
    for row in engine.snapshot().rows():
        moved, changed = move.row(row)
        if not changed:
            continue
        length = len(encode_row(moved, options.record_bytes_max))  # raises before the first write
        if waiting + length > options.segment_bytes_max:
            batches.append([])
            waiting = 0
        batches[-1].append(row["checksum"])
        waiting += length
        paths += changed
    return batches, paths


class Ahead(NamedTuple):
    """Which observations with a time in the future to correct; None means every source or every dataset."""

    source_id: str | None
    dataset: str | None
    keep_current: bool


def retime(engine: Engine, wanted: Ahead, *, dry_run: bool, details: Details | None = None) -> list[Retimed]:
    """Correct observations with a time in the future."""
    now = datetime.now(UTC)
    rules = _rules(engine)
    changes: list[Retimed] = []

    def plan(known: TimeLookup) -> Rewritten:
        changes[:] = plan_new_times(known, wanted.source_id, wanted.dataset, now, keep_current=wanted.keep_current)
        return Rewritten(retimed_records(known, changes, rules))

    if dry_run:
        plan(engine.snapshot())
    else:
        engine.rewrite(plan, EventKind.RETIME, details=details)
    return changes


def from_the_future(engine: Engine, now: datetime | None = None) -> list[tuple[str, str, str, str]]:
    """Return (source_id, dataset, checksum, time) of every observation in the future, by source and in order of time."""
    return future_observations(engine.snapshot(), now or datetime.now(UTC))


def _rules(engine: Engine) -> Rules:
    return Rules(root_of(engine), engine.options.record_bytes_max)
