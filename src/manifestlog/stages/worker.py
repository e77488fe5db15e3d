"""Processes a batch of items in a worker of a stage: claim, check, work, land, report.

::

    claim each item ─► finish what a dead worker left of it ─► is it done meanwhile? ─► work
                                          ─► land what is done, a few times a second ─► let go of the claims

Invariants:

- An item is processed only under its claim, and only if it is not done.
- Every item of a batch gets an answer: finished, to be tried again, or left because of a stop request.
- A failed attempt is an event of the manifest before it is reported.

`queue` decides which items are tried again; `workers.main` handles signals and the death of the parent.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.error_texts import explained
from manifestlog.model.rows import moment_text
from manifestlog.server_errors import ClaimLostError
from manifestlog.stages import leftovers
from manifestlog.stages.arrival import Arrival
from manifestlog.stages.attempt import attempt
from manifestlog.stages.claiming import ITEM
from manifestlog.stages.items import Item
from manifestlog.stages.landing import land
from manifestlog.stages.outcome import Failed, Judgement, Loaded, Nothing
from manifestlog.stages.report import ItemOutcome, Result, Started
from manifestlog.workers.stop import StopAskedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.stages.arrival import Landing
    from manifestlog.stages.claiming import DoneByOthers, StageClaims
    from manifestlog.stages.inputs import Inputs
    from manifestlog.stages.items import ItemTask, Naming
    from manifestlog.stages.outcome import Outcome
    from manifestlog.stages.report import ItemRef
    from manifestlog.stages.rule import Rule
    from manifestlog.workers.stop import Stop

log = logging.getLogger(__name__)

_GUARD_S = 2.0
LAND_EVERY_S = 0.25
"""What is done is recorded this often, so that a crash costs little work, and a sync serves many items."""


class Batch(NamedTuple):
    """Items for one worker."""

    items: tuple[ItemTask, ...]


class Again(NamedTuple):
    """A failed attempt at an item, which may be tried again."""

    task: ItemTask
    outcome: ItemOutcome
    is_final: bool


class BatchDone(NamedTuple):
    """The answer to a batch."""

    finished: tuple[ItemOutcome, ...]
    failed: tuple[Again, ...]
    left: tuple[ItemTask, ...]
    """Items that were not begun because of a stop request."""
    seconds: float
    has_found_left: bool = False
    """Whether a killed run had left some of these items, so that the history has records that no outcome here names."""


@dataclass(slots=True)
class Worker:
    """What a worker has open; one for each worker process, or thread of one."""

    naming: Naming
    rule: Rule
    landing: Landing
    claims: StageClaims
    others: DoneByOthers
    perform: Callable[[Item], Outcome]
    inputs: Inputs
    stop: Stop
    checks_input: bool = False
    emit: Callable[[object], None] | None = None
    """Receives `Started`; None if nobody asks."""
    land: Callable[[Landing, list[Arrival]], None] = land
    """Lands what is done; replaced where threads land together."""


@dataclass(slots=True)
class _Progress:
    """The items of a batch by what has happened to them so far."""

    finished: list[ItemOutcome] = field(default_factory=list)
    failed: list[Again] = field(default_factory=list)
    left: list[ItemTask] = field(default_factory=list)
    waiting: list[Arrival] = field(default_factory=list)
    """Done, and not landed."""
    landed_at: float = 0.0
    is_lost: bool = False
    """Whether another host has taken over what this worker had."""


def work_on(worker: Worker, batch: Batch) -> BatchDone:
    """Do a batch. Raises `ManifestError` if the manifest fails; what is recorded stays recorded."""
    began = time.monotonic()
    progress = _Progress(landed_at=began)
    with ExitStack() as held:
        mine = _claimed(worker, batch, held, progress)
        left = leftovers.finish_claimed(worker.landing, worker.naming, {item.digest for item in mine}, worker.land)
        worker.others.renew()
        for place, item in enumerate(mine):
            if progress.is_lost:
                progress.finished += map(_claimed_by_others, mine[place:])
                break
            if worker.stop.asked:
                progress.left += [one.task for one in mine[place:]]
                break
            if worker.others.has_done(item, asks_history=item.digest in left):
                progress.finished.append(_claimed_by_others(item))
            else:
                _work_on_one(worker, item, progress)
        _land(worker, progress)
    seconds = time.monotonic() - began
    return BatchDone(tuple(progress.finished), tuple(progress.failed), tuple(progress.left), seconds, bool(left))


def _claimed(worker: Worker, batch: Batch, held: ExitStack, progress: _Progress) -> list[Item]:
    """Return the items of a batch that could be claimed, until `held` ends."""
    items = [Item(task, worker.naming, worker.landing.workspace) for task in batch.items]
    # The command of a worker that died holds its claims until its guard has killed it.
    wait_s = _GUARD_S if any(task.was_lost for task in batch.items) else 0.0
    ours = held.enter_context(worker.claims.claim_many(ITEM, [item.digest for item in items], wait_s=wait_s))
    for item in items:
        if item.digest not in ours:
            progress.finished.append(_claimed_by_others(item))
    return [item for item in items if item.digest in ours]


def _claimed_by_others(item: Item) -> ItemOutcome:
    return ItemOutcome(item.ref, Result.CLAIMED, attempts=item.attempt - 1)


def _work_on_one(worker: Worker, item: Item, progress: _Progress) -> None:
    if worker.emit is not None:
        worker.emit(Started(worker.rule.stage, item.ref))
    started, began = moment_text(datetime.now(UTC)), time.monotonic()
    try:
        outcome = attempt(worker.perform, item, worker.inputs, checks_input=worker.checks_input)
    except StopAskedError:
        progress.left.append(item.task)
        worker.landing.workspace.clear(item)
        return
    seconds = round(time.monotonic() - began, 6)
    arrival = Arrival(item, outcome, worker.rule.version, worker.rule.code, started, seconds)
    if isinstance(outcome, Failed):
        _fail(worker, arrival, outcome, progress)
    else:
        progress.waiting.append(arrival)
    if time.monotonic() - progress.landed_at >= LAND_EVERY_S:
        _land(worker, progress)


def _land(worker: Worker, progress: _Progress) -> None:
    waiting, progress.waiting = progress.waiting, []
    if waiting:
        worker.land(worker.landing, waiting)
    for one in waiting:
        if one.error is None:
            progress.finished.append(_finished(one))
        elif isinstance(one.error, ClaimLostError):
            _lose(worker, one, one.error, progress)
        else:
            _fail(worker, one, Failed(explained(one.error)), progress)
    progress.landed_at = time.monotonic()


def _lose(worker: Worker, one: Arrival, error: ClaimLostError, progress: _Progress) -> None:
    """Give up an item that another host has taken over; nothing of it was recorded here."""
    log.warning("%s: %s: %s", worker.rule.stage, one.item.ref.file_path, error)
    worker.landing.workspace.clear(one.item)
    progress.finished.append(_claimed_by_others(one.item))
    progress.is_lost = True


def _fail(worker: Worker, one: Arrival, outcome: Failed, progress: _Progress) -> None:
    """Record a failed attempt, unless another host has the item by now: then that is why it failed."""
    try:
        record_failure(worker, one, outcome)
    except ClaimLostError as error:
        _lose(worker, one, error, progress)
        return
    worker.landing.workspace.clear(one.item)
    found = ItemOutcome(
        one.item.ref,
        Result.FAILED,
        attempts=one.item.attempt,
        seconds=one.seconds,
        error=outcome.error,
        exit_code=outcome.exit_code,
        stderr=outcome.stderr,
    )
    log.info("%s: %s: attempt %d: %s", worker.rule.stage, one.item.ref.file_path, one.item.attempt, outcome.error)
    progress.failed.append(Again(one.item.task, found, outcome.is_final))


def record_failure(worker: Worker, one: Arrival, outcome: Failed) -> None:
    """Write the event of a failed attempt, durably. Raises `ClaimLostError`."""
    with worker.claims.fence():
        worker.landing.manifest.fail(
            one.item,
            outcome.error,
            inputs=[found.checksum for found in one.item.inputs],
            version=one.version,
            code=one.code,
            started=one.started,
            seconds=one.seconds,
            exit_code=outcome.exit_code,
            stderr=outcome.stderr,
        )


def _finished(one: Arrival) -> ItemOutcome:
    outcome = one.outcome
    return ItemOutcome(
        one.item.ref,
        result_of(outcome),
        one.made,
        one.item.attempt,
        one.seconds,
        why=outcome.why if isinstance(outcome, Nothing | Judgement) else None,
        rows=outcome.rows if isinstance(outcome, Loaded) else None,
    )


def result_of(outcome: Outcome) -> Result:
    """Return the word for an outcome."""
    match outcome:
        case Nothing():
            return Result.NOTHING
        case Judgement():
            return Result.VALID if outcome.is_valid else Result.INVALID
        case Loaded():
            return Result.LOADED
        case Failed():
            return Result.FAILED
    return Result.MADE


def lost_twice(task: ItemTask, ref: ItemRef, how: str) -> ItemOutcome:
    """Return the outcome of an item that two workers have died of."""
    error = f"two workers died of this item (the last {how}); often out of memory: retry with fewer --jobs"
    return ItemOutcome(ref, Result.FAILED, attempts=task.attempt, error=error)
