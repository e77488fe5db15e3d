"""Tasks cut into batches: as many that a worker is busy for a while, as few that all workers are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], *, items_max: int, bytes_max: float, size_of: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """The items in order, in lists; one ends with the item that brings it to either limit."""
    batch: list[Item] = []
    waiting = 0
    for item in items:
        batch.append(item)
        waiting += size_of(item)
        if len(batch) >= items_max or waiting >= bytes_max:
            yield batch
            batch, waiting = [], 0
    if batch:
        yield batch
