"""Which source starts next: turns of hosts, limits, pauses, hosts that are held or do not answer."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from manifestlog.extract.schedule import Limits, Schedule

WIDE = Limits(connections=100, connections_per_host=100)


def schedule(text: str, limits: Limits = WIDE) -> Schedule[str]:
    """Plan tasks such as `a1`: the letter is the host."""
    return Schedule(((task[0], task) for task in text.split()), limits)


def taken(one: Schedule[str], now: float = 0.0) -> list[str]:
    """Take all tasks that may start."""
    found = []
    while (task := one.take(now)) is not None:
        found.append(task)
    return found


# -- order -------------------------------------------------------------------------------------------------------------


def test_the_tasks_of_a_host_start_in_their_order() -> None:
    assert taken(schedule("a1 a2 a3")) == ["a1", "a2", "a3"]


def test_hosts_take_turns() -> None:
    assert taken(schedule("a1 a2 a3 b1 b2 c1")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_without_tasks_nothing_starts() -> None:
    assert schedule("").take(0.0) is None


def test_without_tasks_there_is_nothing_to_wait_for() -> None:
    assert schedule("").pause_s(0.0) is None


# -- limits ------------------------------------------------------------------------------------------------------------


def test_no_more_run_than_all_connections() -> None:
    assert taken(schedule("a1 b1 c1 d1", Limits(3, 3))) == ["a1", "b1", "c1"]


def test_no_more_run_than_the_connections_of_a_host() -> None:
    assert taken(schedule("a1 a2 a3 b1", Limits(9, 2))) == ["a1", "b1", "a2"]


def test_the_end_of_a_task_lets_the_next_one_start() -> None:
    one = schedule("a1 a2 b1", Limits(9, 1))
    taken(one)
    one.done("a", 1.0)
    assert taken(one, 1.0) == ["a2"]


def test_a_host_at_its_limit_does_not_keep_others_waiting() -> None:
    one = schedule("a1 a2 a3 b1 b2", Limits(2, 1))
    taken(one)
    one.done("b", 1.0)
    assert taken(one, 1.0) == ["b2"]


def test_only_the_end_of_a_task_helps_a_host_at_its_limit() -> None:
    one = schedule("a1 a2", Limits(9, 1))
    taken(one)
    assert one.pause_s(0.0) == math.inf


# -- pauses ------------------------------------------------------------------------------------------------------------


def test_starts_on_one_host_are_apart() -> None:
    one = schedule("a1 a2 b1", Limits(9, 9, request_pause_s=2.0))
    assert (taken(one, 0.0), taken(one, 1.9), taken(one, 2.0)) == (["a1", "b1"], [], ["a2"])


def test_the_pause_is_told() -> None:
    one = schedule("a1 a2", Limits(9, 9, request_pause_s=2.0))
    taken(one)
    assert one.pause_s(0.5) == 1.5


def test_a_postponed_task_starts_after_its_pause() -> None:
    one = schedule("a1")
    taken(one)
    one.postpone("a", "a1", 0.0, 3.0)
    assert (taken(one, 2.9), one.pause_s(1.0), taken(one, 3.0)) == ([], 2.0, ["a1"])


def test_a_postponed_task_goes_before_new_ones() -> None:
    one = schedule("a1 a2 a3", Limits(9, 1))
    one.take(0.0)
    one.postpone("a", "a1", 0.0, 1.0)
    assert one.take(0.5) == "a2"
    one.done("a", 1.5)
    assert one.take(1.5) == "a1"


def test_a_postponed_task_does_not_hold_up_its_host() -> None:
    one = schedule("a1 a2")
    one.take(0.0)
    one.postpone("a", "a1", 0.0, 9.0)
    assert one.take(0.0) == "a2"


def test_a_held_host_starts_nothing() -> None:
    """One 429 slows all requests to that host."""
    one = schedule("a1 a2 a3 b1")
    one.take(0.0)
    one.postpone("a", "a1", 0.0, 9.0, is_held=True)
    assert (taken(one, 8.9), taken(one, 9.0)) == (["b1"], ["a1", "a2", "a3"])


def test_a_longer_hold_wins() -> None:
    one = schedule("a1 a2 a3")
    one.take(0.0)
    one.take(0.0)
    one.postpone("a", "a1", 0.0, 9.0, is_held=True)
    one.postpone("a", "a2", 1.0, 2.0, is_held=True)
    assert (taken(one, 8.9), taken(one, 9.0)) == ([], ["a2", "a1", "a3"])


# -- hosts that do not answer ------------------------------------------------------------------------------------------


def test_a_host_that_does_not_answer_goes_last() -> None:
    one = schedule("a1 a2 b1 b2 c1", Limits(2, 1))
    taken(one)
    one.done("a", 1.0, answered=False)
    one.done("b", 1.0)
    assert taken(one, 1.0) == ["c1", "b2"]


def test_a_host_that_does_not_answer_has_what_others_leave() -> None:
    one = schedule("a1 a2 b1", Limits(2, 1))
    taken(one)
    one.done("a", 1.0, answered=False)
    assert taken(one, 1.0) == ["a2"]


def test_a_host_that_answers_again_takes_its_turn_again() -> None:
    one = schedule("a1 a2 a3 b1 b2", Limits(1, 1))
    one.take(0.0)
    one.done("a", 0.0, answered=False)
    assert one.take(0.0) == "b1"
    one.done("b", 0.0)
    assert one.take(0.0) == "b2"
    one.done("b", 0.0)
    assert one.take(0.0) == "a2"
    one.done("a", 0.0)
    assert one.take(0.0) == "a3"


def test_silent_hosts_leave_half_of_all_connections() -> None:
    """Whatever comes later finds room."""
    one = schedule("a1 b1 " + " ".join(f"a{n} b{n}" for n in range(2, 20)), Limits(8, 8))
    for _ in range(2):
        one.take(0.0)
    one.done("a", 0.0, answered=False)
    one.done("b", 0.0, answered=False)
    assert len(taken(one)) == 4


def test_hosts_that_have_not_answered_yet_leave_room_for_others() -> None:
    """Mute hosts cannot use all connections until their first time limit: one each, and half of all for the rest."""
    mute = " ".join(f"{host}{n}" for n in range(9) for host in "abcd")
    found = taken(schedule(f"{mute} z1", Limits(16, 8)))
    assert ("z1" in found, len(found)) == (True, 5 + 8)


def test_one_host_alone_has_all_its_connections() -> None:
    one = schedule(" ".join(f"a{n}" for n in range(20)), Limits(32, 8))
    assert len(taken(one)) == 8


def test_many_hosts_have_all_connections_before_any_answer() -> None:
    one = Schedule(((str(n), str(n)) for n in range(50)), Limits(32, 8))
    assert len(taken(one)) == 32


def test_a_source_that_was_not_asked_says_nothing_of_its_host() -> None:
    one = schedule("a1 a2 b1 b2", Limits(1, 1))
    one.take(0.0)
    one.done("a", 0.0, answered=False)
    for task in ("b1", "b2", "a2"):
        assert one.take(0.0) == task
        one.done(task[0], 0.0, answered=None)


# -- everything at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_s", [0.0, 1.0])
@settings(max_examples=200, deadline=None)
@given(
    hosts=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    connections=st.integers(1, 8),
    per_host=st.integers(1, 4),
    seed=st.integers(0, 1 << 16),
)
def test_every_task_runs_once_within_the_limits(
    pause_s: float, hosts: list[int], connections: int, per_host: int, seed: int
) -> None:
    """Whatever tasks do, the limits hold, none is lost, and while any waits, time or the end of another starts it."""
    chance = random.Random(seed)
    tasks = [(str(host), f"{host}-{n}") for host, number in enumerate(hosts) for n in range(number)]
    one = Schedule(tasks, Limits(connections, per_host, pause_s))
    now, ended = 0.0, Counter[str]()
    running: list[str] = []
    while running or one.pause_s(now) is not None:
        while (task := one.take(now)) is not None:
            running.append(task)
        assert len(running) <= connections
        assert max(Counter(task.split("-")[0] for task in running).values(), default=0) <= per_host
        if not running:
            pause = one.pause_s(now)
            assert pause is not None
            assert pause < math.inf
            now += pause + 1e-9  # more than rounding takes
            continue
        task = running.pop(chance.randrange(len(running)))
        name, now = task.split("-")[0], now + chance.random()
        match chance.randrange(6):
            case 0:
                one.postpone(name, task, now, chance.random() * 3, is_held=chance.random() < 0.5)
            case 1:
                one.postpone(name, task, now, chance.random(), answered=False)
            case _:
                one.done(name, now, answered=chance.choice([True, False, None]))
                ended[task] += 1
    assert ended == Counter(task for _, task in tasks)
