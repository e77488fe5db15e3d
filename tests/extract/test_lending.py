"""Connections that a download borrows: those that no source waits for, and given back when one does."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from extract.test_schedule import schedule, taken
from manifestlog.extract.lending import Granted, Lender, Lending, Wants
from manifestlog.extract.schedule import Limits, Schedule

SOURCE = ("a1", "systems")


def running(text: str, limits: Limits, starts: int = 1) -> tuple[Schedule[str], Lender]:
    """Start this many tasks."""
    one = schedule(text, limits)
    for _ in range(starts):
        assert one.take(0.0) is not None
    return one, Lender(one)


def ask(lender: Lender, held: int, wanted: int, *, host: str = "a", now: float = 0.0, name: str = "a1") -> int:
    return lender.answer(Wants(7, (name, "systems"), host, held, wanted), now).connections


# -- what is granted ---------------------------------------------------------------------------------------------------


def test_a_download_alone_gets_all_that_its_host_may_have() -> None:
    _, lender = running("a1", Limits(32, 8))
    assert ask(lender, 0, 15) == 7


def test_it_gets_no_more_than_it_wants() -> None:
    _, lender = running("a1", Limits(32, 8))
    assert ask(lender, 0, 3) == 3


def test_it_gets_no_more_than_all_connections() -> None:
    _, lender = running("a1", Limits(4, 8))
    assert ask(lender, 0, 7) == 3


def test_it_gets_none_that_a_source_of_its_host_waits_for() -> None:
    _, lender = running("a1 a2 a3 a4", Limits(32, 6))
    assert ask(lender, 0, 7) == 2


def test_it_gets_none_that_a_source_of_another_host_waits_for() -> None:
    _, lender = running("a1 b1 b2", Limits(5, 8))
    assert ask(lender, 0, 7) == 2


def test_what_another_download_holds_is_not_granted() -> None:
    _, lender = running("a1 a2", Limits(32, 8), 2)
    assert ask(lender, 0, 4) == 4
    assert ask(lender, 0, 7, name="a2") == 2


def test_what_is_granted_is_not_given_to_a_source() -> None:
    one, lender = running("a1", Limits(4, 4))
    ask(lender, 0, 3)
    one.postpone("a", "a2", 0.0, 0.0)  # as if it had run beside it
    one.take(0.0)
    assert taken(one, 0.0) == []


def test_a_host_that_asked_for_a_pause_gets_none() -> None:
    one, lender = running("a1 a2", Limits(32, 8), 2)
    one.postpone("a", "a2", 0.0, 60.0, is_held=True)
    assert (ask(lender, 0, 7), ask(lender, 0, 7, now=61.0)) == (0, 6)


def test_requests_of_a_download_are_apart_too() -> None:
    _, lender = running("a1", Limits(32, 8, request_pause_s=1.0))
    assert [ask(lender, 0, 7), ask(lender, 0, 7, now=1.0), ask(lender, 1, 7, now=1.0)] == [0, 1, 1]


# -- what is given back ------------------------------------------------------------------------------------------------


def waiting(one: Schedule[str], lender: Lender) -> None:
    """Lend everything, and let two sources come to their next attempt."""
    for task in ("a2", "a3"):
        one.postpone("a", task, 0.0, 5.0)
    assert ask(lender, 0, 7) == 7
    assert ask(lender, 7, 7) == 7


def test_a_source_that_waits_gets_connections_back() -> None:
    one, lender = running("a1 a2 a3", Limits(32, 8), 3)
    waiting(one, lender)
    assert ask(lender, 7, 7, now=5.0) == 5


def test_they_count_until_the_download_has_let_go_of_them() -> None:
    one, lender = running("a1 a2 a3", Limits(32, 8), 3)
    waiting(one, lender)
    ask(lender, 7, 7, now=5.0)
    before = taken(one, 5.0)
    ask(lender, 5, 7, now=5.0)
    assert (before, sorted(taken(one, 5.0))) == ([], ["a2", "a3"])


def test_the_end_of_a_download_gives_all_back() -> None:
    one, lender = running("a1", Limits(8, 8))
    ask(lender, 0, 7)
    lender.end(SOURCE, 0.0)
    one.done("a", 0.0)
    assert one.spare("a", 0.0) == 8


def test_a_source_without_a_loan_gives_nothing_back() -> None:
    one, lender = running("a1", Limits(8, 8))
    lender.end(SOURCE, 0.0)
    assert one.spare("a", 0.0) == 7


@settings(max_examples=200, deadline=None)
@given(
    hosts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    connections=st.integers(1, 10),
    per_host=st.integers(1, 6),
    seed=st.integers(0, 1 << 16),
)
def test_the_limits_hold_whatever_is_lent(hosts: list[int], connections: int, per_host: int, seed: int) -> None:
    """No task is lost either, and none waits for ever for what is lent."""
    chance = random.Random(seed)
    tasks = [(str(host), f"{host}-{n}") for host, number in enumerate(hosts) for n in range(number)]
    one = Schedule(tasks, Limits(connections, per_host))
    lender, held, now, ended = Lender(one), Counter[str](), 0.0, 0
    running: list[str] = []
    for _ in itertools.count():
        while (task := one.take(now)) is not None:
            running.append(task)
        used = Counter(task.split("-")[0] for task in running)
        for task, number in held.items():
            used[task.split("-")[0]] += number
        assert used.total() <= connections
        assert max(used.values(), default=0) <= per_host
        if not running:
            break
        task = chance.choice(running)
        name, now = task.split("-")[0], now + chance.random()
        if chance.random() < 0.7:
            granted = ask(lender, held[task], chance.randint(0, 8), host=name, now=now, name=task)
            held[task] = chance.randint(0, granted)
            continue
        running.remove(task)
        held[task] = 0
        lender.end((task, "systems"), now)
        one.done(name, now)
        ended += 1
    assert ended == len(tasks)


# -- the side of the download ------------------------------------------------------------------------------------------


@pytest.fixture
def sent() -> list[Any]:
    return []


@pytest.fixture
def lending(sent: list[Any]) -> Lending:
    return Lending(sent.append)


def test_what_has_not_changed_is_not_told_at_once(lending: Lending, sent: list[Any]) -> None:
    loan = lending.begin(SOURCE, "a")
    for _ in range(3):
        loan.ask(0, 7)
    loan.ask(1, 7)
    assert [(one.held, one.wanted) for one in sent] == [(0, 7), (1, 7)]


def test_an_answer_reaches_its_loan(lending: Lending, sent: list[Any]) -> None:
    first, second = lending.begin(SOURCE, "a"), lending.begin(("a2", "systems"), "a")
    second.ask(0, 7)
    lending.take(Granted(sent[0].number, 4))
    assert (first.granted, second.granted, second.changed.is_set()) == (0, 4, True)


def test_an_answer_that_comes_too_late_is_ignored(lending: Lending, sent: list[Any]) -> None:
    loan = lending.begin(SOURCE, "a")
    loan.ask(0, 7)
    lending.end(loan)
    again = lending.begin(SOURCE, "a")
    lending.take(Granted(sent[0].number, 4))
    assert again.granted == 0
