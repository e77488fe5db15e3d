"""Fetches the next item of an iterable while other work runs.

Invariants:

- An item is fetched once. If fetching it raised an error, taking it raises that error, as if it had been fetched then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class Ahead(Generic[T]):
    """The items of an iterable, one after the other."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._is_fetched = False
        self._next: T | None = None
        self._error: Exception | None = None

    def fetch(self) -> None:
        """Fetch the next item, unless that has been done."""
        if self._is_fetched:
            return
        self._is_fetched = True
        try:
            self._next = next(self._items, None)
        except Exception as error:  # noqa: BLE001 -- raised by `take`
            self._error = error

    def take(self) -> T | None:
        """Return the next item, or None after the last one. Raises what the iterable raised."""
        self.fetch()
        self._is_fetched = False
        if self._error is not None:
            raise self._error
        return self._next
