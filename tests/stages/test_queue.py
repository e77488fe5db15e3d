"""The queue of a run: sizes of batches, repetitions with a pause, and what lost its worker."""

from __future__ import annotations

import math
from typing import Any

from manifestlog.stages import ItemOutcome, ItemRef, Result, Stage
from manifestlog.stages.items import ItemTask
from manifestlog.stages.queue import Queue
from manifestlog.stages.worker import Again, Batch, BatchDone

OUTCOME = ItemOutcome(ItemRef("k", "s", "d", (), ""), Result.FAILED)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue(count: int, clock: Clock | None = None, **settings: Any) -> Queue:
    tasks = (ItemTask(str(n), ()) for n in range(count))
    return Queue(tasks, count, Stage("a_b", "a_c", **settings), clock or Clock())


def answer(batch: Batch, seconds_each: float) -> BatchDone:
    return BatchDone((OUTCOME,) * len(batch.items), (), (), seconds_each * len(batch.items))


def sizes(found: Queue, seconds_each: float) -> list[int]:
    taken = []
    while (batch := found.take()) is not None:
        taken.append(len(batch.items))
        found.done(answer(batch, seconds_each))
    return taken


def test_batches_of_fast_items_grow_to_the_greatest_size() -> None:
    found = sizes(queue(100_000), 0.0001)
    assert found[:5] == [1, 4, 16, 64, 256]
    assert max(found) == 256


def test_slow_items_come_one_by_one() -> None:
    assert set(sizes(queue(20), 2.0)) == {1}


def test_no_worker_gets_more_than_its_share_of_what_is_left() -> None:
    found = queue(64, jobs=4)
    for _ in range(6):
        found.done(BatchDone((OUTCOME,) * 100, (), (), 0.001))
    batch = found.take()
    assert batch is not None
    assert len(batch.items) == 8


def test_every_item_is_handed_out_once() -> None:
    found = queue(1000)
    keys: list[str] = []
    while (batch := found.take()) is not None:
        keys += [task.key for task in batch.items]
        found.done(answer(batch, 0.001))
    assert sorted(keys, key=int) == [str(n) for n in range(1000)]


def test_a_failed_item_waits_twice_as_long_each_time() -> None:
    clock = Clock()
    found = queue(1, clock, retries=3, backoff_s=2.0)
    batch = found.take()
    pauses = []
    while batch is not None:
        pauses.append(found.again(Again(batch.items[0], OUTCOME, is_final=False)))
        clock.now += pauses[-1] or 0.0
        batch = found.take()
    assert pauses == [2.0, 4.0, 8.0, None]


def test_a_pause_has_an_upper_limit() -> None:
    found = queue(1, retries=100, backoff_s=1.0)
    assert found.again(Again(ItemTask("k", (), attempt=50), OUTCOME, is_final=False)) == 300.0


def test_an_item_that_waits_is_not_handed_out_before_its_time() -> None:
    clock = Clock()
    found = queue(1, clock, retries=1, backoff_s=5.0)
    batch = found.take()
    assert batch is not None
    found.again(Again(batch.items[0], OUTCOME, is_final=False))
    assert (found.take(), found.pause_s()) == (None, 5.0)


def test_a_final_failure_is_not_repeated() -> None:
    assert queue(1, retries=5).again(Again(ItemTask("k", ()), OUTCOME, is_final=True)) is None


def test_the_items_of_a_worker_that_died_run_alone_and_ask_the_history_first() -> None:
    found = queue(10)
    batch = Batch((ItemTask("a", ()), ItemTask("b", ())))
    assert found.lost(batch) == []
    alone = [found.take() for _ in range(2)]
    assert [[task.key for task in one.items] for one in alone if one is not None] == [["a"], ["b"]]
    assert all(task.is_doubtful for one in alone if one is not None for task in one.items)


def test_an_item_that_two_workers_died_of_alone_is_given_up() -> None:
    found = queue(0)
    one = Batch((ItemTask("a", ()),))
    assert found.lost(one) == []
    assert [task.key for task in found.lost(one)] == ["a"]


def test_it_says_when_nothing_more_will_come() -> None:
    found = queue(1)
    assert found.pause_s() == math.inf
    found.take()
    assert found.take() is None
    assert found.pause_s() is None
