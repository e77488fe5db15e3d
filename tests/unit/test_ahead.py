"""Items that are fetched ahead come as if they had not been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.postgres.ahead import Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_every_item_comes_once_and_in_order() -> None:
    ahead = Ahead("abc")
    ahead.fetch()
    first = ahead.take()
    ahead.fetch()
    ahead.fetch()
    assert [first, ahead.take(), ahead.take(), ahead.take()] == ["a", "b", "c", None]


def test_nothing_is_fetched_before_it_is_wanted() -> None:
    items = iter("ab")
    Ahead(items)
    assert list(items) == ["a", "b"]


def test_an_error_comes_in_the_place_of_its_item() -> None:
    def failing() -> Iterator[str]:
        yield "a"
        raise KeyError("b")

    ahead = Ahead(failing())
    assert ahead.take() == "a"
    ahead.fetch()
    with pytest.raises(KeyError, match="b"):
        ahead.take()
