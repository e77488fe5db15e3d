"""Groups tasks into batches: large enough to keep a worker busy, small enough to share the work evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], *, items_max: int, bytes_max: float, size_of: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Yield the items in order, in lists. A list ends with the item that reaches one of the limits."""
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
