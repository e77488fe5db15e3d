"""Threads that add at the same time: one works for those that wait or come back, and an interrupt leaves nobody waiting."""

from __future__ import annotations

import signal
import threading

import pytest

from manifestlog.engines.postgres import grouping
from manifestlog.engines.postgres.grouping import Group

PATIENCE_S = 20.0


class Work:
    """What the threads ask for; the first group waits until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def do(self, some: list[int]) -> list[int | Exception]:
        self.groups.append(some)
        self.began.set()
        assert self.may_go_on.wait(PATIENCE_S)
        return [KeyError(one) if one < 0 else 10 * one for one in some]


class Asking(threading.Thread):
    """One thread that asks for one thing."""

    def __init__(self, group: Group[int, int], what: int) -> None:
        super().__init__()
        self.group, self.what = group, what
        self.heard: object = None
        self.start()

    def run(self) -> None:
        try:
            self.heard = self.group.do(self.what)
        except KeyError as error:
            self.heard = error.args[0]


def begun(at_once_max: int = 64) -> tuple[Work, Group[int, int], Asking]:
    """A group whose first thread works."""
    work = Work()
    group: Group[int, int] = Group(work.do, at_once_max)
    first = Asking(group, 1)
    assert work.began.wait(PATIENCE_S)
    return work, group, first


def queued(group: Group[int, int], *what: int) -> list[Asking]:
    """Threads that wait, in this order."""
    found = []
    for one in what:
        before = len(group._waiting)
        found.append(Asking(group, one))
        while len(group._waiting) == before:
            assert found[-1].is_alive()
    return found


def end(work: Work, threads: list[Asking]) -> list[object]:
    work.may_go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    return [thread.heard for thread in threads]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> tuple[Work, Group[int, int]]:
    """A group whose last work was for two threads. From now on, whoever awaits others does so for long."""
    work, group, first = begun()
    end(work, [first, *queued(group, 2, 3)])
    monkeypatch.setattr(grouping, "_PATIENCE", 1e9)
    monkeypatch.setattr(grouping, "_PATIENCE_S_MAX", PATIENCE_S)
    return work, group


def test_those_that_come_meanwhile_are_worked_on_together() -> None:
    work, group, first = begun()
    assert end(work, [first, *queued(group, 2, 3, 4)]) == [10, 20, 30, 40]
    assert work.groups == [[1], [2, 3, 4]]


def test_no_more_than_so_many_at_once() -> None:
    work, group, first = begun(at_once_max=2)
    assert end(work, [first, *queued(group, 2, 3, 4)]) == [10, 20, 30, 40]
    assert work.groups == [[1], [2, 3], [4]]


def test_one_that_is_refused_does_not_concern_the_others() -> None:
    work, group, first = begun()
    assert end(work, [first, *queued(group, 2, -3, 4)]) == [10, 20, -3, 40]


def test_a_thread_that_asks_inside_its_work_waits_for_nobody() -> None:
    def do(some: list[int]) -> list[int | Exception]:
        return [group.do(one - 1) + 1 if one else 0 for one in some]

    group: Group[int, int] = Group(do, 64)
    assert group.do(5) == 5


def test_who_works_next_waits_for_those_that_were_just_answered(patient: tuple[Work, Group[int, int]]) -> None:
    work, group = patient
    both = [Asking(group, 4)]
    while not group._wanted:
        assert both[0].is_alive()
    both.append(Asking(group, 5))
    assert (end(work, both), work.groups[2:]) == ([40, 50], [[4, 5]])


def test_those_that_do_not_come_back_are_awaited_once() -> None:
    work, group, first = begun()
    end(work, [first, *queued(group, 2, 3)])
    assert [group.do(4), group._expected, work.groups[2:]] == [40, 1, [[4]]]


def test_who_is_alone_awaits_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    group: Group[int, int] = Group(list, 64)
    monkeypatch.delattr(group, "_come")
    assert [group.do(1), group.do(2)] == [1, 2]


def test_an_interrupt_while_others_are_awaited_leaves_nobody_waiting(patient: tuple[Work, Group[int, int]]) -> None:
    work, group = patient
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        while not group._wanted:
            pass
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        group.do(9)
    group._expected = 1
    assert (end(work, [Asking(group, 7)]), group._worker) == ([70], None)


@pytest.mark.parametrize("place", [0, 1], ids=["the next worker", "one behind it"])
def test_an_interrupt_leaves_nobody_waiting(place: int) -> None:
    work, group, first = begun()
    others = queued(group, *range(2, 2 + place))
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        while len(group._waiting) == place:
            pass
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        group.do(9)
    others += queued(group, 7)
    end(work, [first, *others])
    assert sorted(one for some in work.groups for one in some) == [1, *range(2, 2 + place), 7]
    assert group._worker is None
