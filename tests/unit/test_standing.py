"""Which events of a content still stand."""

from __future__ import annotations

from typing import Any

import pytest

from manifestlog.model.events import Event, EventKind
from manifestlog.model.standing import standing

CONTENT, OTHER = "a" * 64, "b" * 64


def event(number: int, kind: EventKind = EventKind.PUT, checksum: str = CONTENT, **details: Any) -> Event:
    return Event(f"c{number}", f"2026-01-01T00:00:{number:02}.000000Z", kind, checksum, None, details)


def undo(number: int, undoes: str, checksum: str = CONTENT, **details: Any) -> Event:
    return event(number, EventKind.UNDO, checksum, undoes=undoes, **details)


def numbers(*events: Event) -> list[int]:
    return [int(one.cursor[1:]) for one in standing(events, CONTENT) if one.kind is not EventKind.UNDO]


ONE, TWO, THREE = (event(number, run=f"r{number}") for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("undoes", "left"),
    [
        ("run r2", [1, 3]),
        ("change c1", [2, 3]),
        ("to 2026-01-01T00:00:01Z", [1]),
        ("to 2026-01-01 00:00:02", [1, 2]),
        ("to 2026-01-01T02:00:02+02:00", [1, 2]),
        ("run another", [1, 2, 3]),
    ],
)
def test_an_undo_takes_back_what_it_says(undoes: str, left: list[int]) -> None:
    assert numbers(ONE, TWO, THREE, undo(4, undoes)) == left


@pytest.mark.parametrize("undoes", ["", "to yesterday", "what a newer program says"])
def test_an_undo_that_does_not_say_it_takes_back_everything_before_it(undoes: str) -> None:
    """To do work once more is better than not at all."""
    assert numbers(ONE, TWO, undo(3, undoes), event(4)) == [4]


def test_an_undo_of_another_content_takes_back_as_well() -> None:
    assert numbers(ONE, TWO, undo(4, "run r1", OTHER)) == [2]


def test_an_undo_that_was_taken_back_takes_nothing_back() -> None:
    assert numbers(ONE, undo(2, "run r1", run="u1"), undo(3, "run u1", run="u2")) == [1]


def test_the_third_undo_counts_again() -> None:
    undos = [undo(2, "run r1", run="u1"), undo(3, "run u1", run="u2"), undo(4, "run u2", run="u3")]
    assert numbers(ONE, *undos) == []


def test_what_came_before_a_forget_does_not_stand() -> None:
    assert numbers(ONE, event(2, EventKind.FORGET), THREE) == [2, 3]


def test_a_forget_that_was_undone_ends_nothing() -> None:
    assert numbers(ONE, event(2, EventKind.FORGET, run="r2"), undo(3, "run r2")) == [1]
