"""When a run that watches tries failed items again."""

from __future__ import annotations

import pytest

from manifestlog.cli.stage_passes import RETRY_FIRST_S, RETRY_LAST_S, Retries


@pytest.fixture
def failed() -> Retries:
    """One item that has failed at second 100."""
    retries = Retries()
    retries.take(["a"], 100, 100)
    return retries


def test_a_failed_item_is_left_out_until_its_pause_is_over(failed: Retries) -> None:
    assert [failed.not_due(100 + RETRY_FIRST_S + late) for late in (-1, 0)] == [{"a"}, set()]


def test_the_end_of_a_pause_makes_a_pass_due(failed: Retries) -> None:
    assert [failed.is_due(100 + RETRY_FIRST_S + late) for late in (-1, 0)] == [False, True]


def test_nothing_is_due_when_nothing_has_failed() -> None:
    assert not Retries().is_due(1e9)


def test_a_pass_without_the_item_does_not_end_its_pause(failed: Retries) -> None:
    failed.take([], 101, 102)
    assert failed.not_due(103) == {"a"}


def test_a_success_ends_it(failed: Retries) -> None:
    failed.take([], 106, 107)
    assert failed.waiting == {}


def test_the_pause_doubles_up_to_its_limit(failed: Retries) -> None:
    pauses = []
    for _ in range(10):
        due, pause = failed.waiting["a"]
        pauses.append(pause)
        failed.take(["a"], due, due)
    assert pauses == [min(RETRY_FIRST_S * 2**n, RETRY_LAST_S) for n in range(10)]


def test_an_item_that_fails_again_later_begins_with_the_first_pause(failed: Retries) -> None:
    failed.take([], 200, 200)
    failed.take(["a"], 300, 300)
    assert failed.waiting["a"] == (300 + RETRY_FIRST_S, RETRY_FIRST_S)
