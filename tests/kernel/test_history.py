"""The checker of histories: it accepts what can be, and finds what cannot."""

from __future__ import annotations

import pytest

from kernel.history import Op, contradiction


def won(start: int, end: int) -> Op:
    return Op(start, end, saw=False, left=True, sure=True, who="an add that was told `new`")


def lost(start: int, end: int) -> Op:
    return Op(start, end, saw=True, left=True, sure=True, who="an add that was told `duplicate`")


def begun(start: int, end: int) -> Op:
    return Op(start, end, saw=None, left=True, sure=False, who="an add of a killed process")


def forgot(start: int, end: int, *, was_there: bool = True) -> Op:
    return Op(start, end, saw=was_there, left=False, sure=True, who="a forget")


def read(start: int, end: int, *, there: bool) -> Op:
    return Op(start, end, saw=there, left=None, sure=True, who="a look")


CAN_BE = {
    "nothing": [],
    "one winner": [won(0, 2), lost(1, 3), read(4, 5, there=True)],
    "the later call wins": [lost(0, 5), won(1, 2)],
    "absent, then added": [read(0, 1, there=False), won(2, 3)],
    "a look during the add": [won(0, 10), read(1, 2, there=False), read(3, 4, there=True)],
    "a killed add that happened": [begun(0, 5), lost(6, 7)],
    "a killed add that did not happen": [begun(0, 5), won(6, 7)],
    "two winners with a forget between": [won(0, 1), forgot(2, 3), won(4, 5)],
    "two winners around a forget that overlaps": [won(0, 1), forgot(0, 9), won(4, 5)],
    "a forget of nothing": [forgot(0, 1, was_there=False), won(2, 3)],
}
CANNOT_BE = {
    "two winners": [won(0, 5), won(1, 6)],
    "an acknowledged add is missing": [won(0, 1), read(2, 3, there=False)],
    "a duplicate of nothing": [lost(0, 1)],
    "a reader goes back": [won(0, 10), read(1, 2, there=True), read(3, 4, there=False)],
    "two readers disagree": [begun(0, 10), read(1, 2, there=True), read(3, 4, there=False)],
    "forgotten, and back": [won(0, 1), forgot(2, 3), read(4, 5, there=True)],
    "a forget of what was never there": [forgot(0, 1)],
    "added by the dead": [begun(0, 5), read(6, 7, there=False), read(8, 9, there=True)],
    "a killed add that happened and is won again": [begun(0, 5), read(6, 7, there=True), won(8, 9)],
}


@pytest.mark.parametrize("name", CAN_BE)
def test_a_history_that_can_be_is_accepted(name: str) -> None:
    """There is an order that explains every answer."""
    assert contradiction(CAN_BE[name]) is None


@pytest.mark.parametrize("name", CANNOT_BE)
def test_a_history_that_cannot_be_is_found(name: str) -> None:
    """No order explains it."""
    assert contradiction(CANNOT_BE[name]) is not None
