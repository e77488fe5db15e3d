"""Threads that do the same thing at the same time: one does it for all, and nobody waits for a timer."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from manifestlog.workers.grouping import Grouping

PATIENCE_S = 20.0


class Leader:
    """Does groups; the first one only when it may."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def act(self, group: list[int]) -> None:
        self.groups.append(group)
        self.began.set()
        assert self.may_go_on.wait(PATIENCE_S)


def waiting(grouping: Grouping[int], number: int) -> None:
    """Wait until this many members wait for the next group."""
    deadline = threading.Event()
    while len(grouping._waiting) < number:
        assert not deadline.wait(0.001)


def members(grouping: Grouping[int], leader: Leader, *items: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=grouping.join, args=(item, leader.act)) for item in items]
    for thread in threads:
        thread.start()
    return threads


def test_who_is_alone_does_it_at_once() -> None:
    groups: list[list[int]] = []
    Grouping[int]().join(1, groups.append)
    assert groups == [[1]]


def test_who_comes_meanwhile_is_in_the_next_group() -> None:
    grouping, leader = Grouping[int](), Leader()
    first = members(grouping, leader, 1)
    assert leader.began.wait(PATIENCE_S)
    others = members(grouping, leader, 2, 3, 4)
    waiting(grouping, 3)
    leader.may_go_on.set()
    for thread in first + others:
        thread.join(PATIENCE_S)
    assert [sorted(group) for group in leader.groups] == [[1], [2, 3, 4]]


def test_a_leader_that_fails_wakes_its_group_and_the_next_one() -> None:
    grouping, leader = Grouping[int](), Leader()

    def fail(group: list[int]) -> None:
        leader.act(group)
        raise KeyError(group)

    def first() -> None:
        with pytest.raises(KeyError):
            grouping.join(1, fail)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert leader.began.wait(PATIENCE_S)
    threads += members(grouping, leader, 2)
    waiting(grouping, 1)
    leader.may_go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (leader.groups, [thread.is_alive() for thread in threads]) == ([[1], [2]], [False, False])


def test_every_item_is_done_once_and_before_its_member_goes_on() -> None:
    grouping, done, early = Grouping[int](), Counter[int](), []

    def act(group: list[int]) -> None:
        done.update(group)

    def member(start: int) -> None:
        for item in range(start, start + 200):
            grouping.join(item, act)
            if not done[item]:
                early.append(item)

    threads = [threading.Thread(target=member, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (early, len(done), set(done.values())) == ([], 1600, {1})
