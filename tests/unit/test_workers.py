"""The pieces that every worker is made of, without a process: batches, the link to whoever started it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from manifestlog.workers.batching import batches
from manifestlog.workers.link import WorkerLink
from manifestlog.workers.stop import Stop, StopAskedError


@pytest.mark.parametrize(
    ("sizes", "items_max", "bytes_max", "expected"),
    [
        ([], 3, 10, []),
        ([1, 1, 1, 1], 3, math.inf, [[1, 1, 1], [1]]),
        ([1, 1, 1], 3, math.inf, [[1, 1, 1]]),
        ([4, 6, 4], 9, 10, [[4, 6], [4]]),
        ([99, 1], 9, 10, [[99], [1]]),
        ([0, 0, 0], 1, 10, [[0], [0], [0]]),
    ],
)
def test_a_batch_ends_at_either_limit(
    sizes: list[int], items_max: int, bytes_max: float, expected: list[list[int]]
) -> None:
    assert list(batches(sizes, items_max=items_max, bytes_max=bytes_max, size_of=int)) == expected


def test_nothing_is_taken_before_it_is_needed() -> None:
    taken: list[int] = []

    def items() -> Any:
        for number in range(9):
            taken.append(number)
            yield number

    found = batches(items(), items_max=2, bytes_max=math.inf, size_of=lambda _: 0)
    assert (next(found), taken) == ([0, 1], [0, 1])


def test_progress_is_reported_once() -> None:
    told: list[int] = []
    link = WorkerLink(told.append)
    for _ in range(1000):
        link.advance(3)
    link.flush()
    link.flush()
    assert sum(told) == 3000
    assert len(told) < 1000


def test_a_worker_that_is_asked_to_stop_reads_no_further() -> None:
    stop = Stop()
    link = WorkerLink(lambda _: None, stop)
    link.advance(1)
    stop.ask()
    with pytest.raises(StopAskedError):
        link.advance(1)


def test_a_missing_parent_is_not_an_error() -> None:
    def send(_: int) -> None:
        raise BrokenPipeError

    link = WorkerLink(send)
    link.advance(1)
    link.flush()
