"""A body divided among connections: every byte is fetched once, and what has arrived is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from manifestlog.extract import ranges
from manifestlog.extract.ranges import Division, Range, Share, clipped, merged, prefix_of


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES_MIN", 10)


def spans(*shares: Share) -> list[tuple[int, int]]:
    return [(share.position, share.end) for share in shares]


def arrive(share: Share, size: int | None = None) -> None:
    share.position += share.remaining if size is None else size


def divided(length: int, count: int) -> tuple[Division, list[Share]]:
    """Divide a body of which nothing arrives among its first connection and so many others."""
    one = Division(length)
    first = one.take_from(0, 0.0)
    return one, [first, *one.take(100.0, count)]


# -- what is given out -------------------------------------------------------------------------------------------------


def test_the_first_connection_gets_everything() -> None:
    assert spans(Division(100).take_from(0, 0.0)) == [(0, 100)]


def test_connections_that_come_together_get_equal_parts() -> None:
    assert spans(*divided(100, 3)[1]) == [(0, 25), (25, 50), (50, 75), (75, 100)]


def test_one_that_comes_later_gets_half_of_the_largest_share() -> None:
    one, shares = divided(100, 1)
    arrive(shares[0], 20)
    assert spans(*one.take(200.0)) == [(75, 100)]


def test_what_has_arrived_is_not_divided() -> None:
    one = Division(100)
    first = one.take_from(0, 0.0)
    arrive(first, 40)
    assert spans(*one.take(100.0), first) == [(70, 100), (40, 70)]


def test_no_part_is_smaller_than_a_request_is_worth() -> None:
    _, shares = divided(35, 9)
    assert [share.remaining for share in shares] == [11, 12, 12]


def test_a_share_that_is_too_small_is_not_divided() -> None:
    one, _ = divided(19, 1)
    assert (one.has_work(100.0), one.take(100.0)) == (False, [])


def test_a_share_that_arrives_within_a_second_is_not_divided() -> None:
    one = Division(100)
    arrive(one.take_from(0, 0.0), 40)
    assert [one.has_work(now) for now in (0.1, 0.5, 0.8)] == [False, False, True]


def test_a_share_that_was_just_requested_is_not_divided() -> None:
    one = Division(100)
    one.take_from(0, 0.0)
    assert [one.has_work(now) for now in (0.5, 1.5)] == [False, True]


def test_a_gap_is_given_out_before_a_share_is_divided() -> None:
    one, (_, second) = divided(100, 1)
    arrive(second, 10)
    one.end(second)
    assert spans(*one.take(200.0)) == [(60, 100)]


def test_the_largest_gap_is_given_out_first() -> None:
    assert spans(*Division(100, [Range(10, 50)]).take(0.0, 2)) == [(50, 100), (0, 10)]


# -- going on behind a share -------------------------------------------------------------------------------------------


def test_a_share_goes_on_into_the_gap_behind_it() -> None:
    """If its response brings it anyway."""
    one, (first, second) = divided(100, 1)
    one.end(second)
    arrive(first)
    assert (one.extend(first, 100), spans(first)) == (True, [(50, 100)])


def test_a_share_does_not_go_on_into_another_one() -> None:
    one, (first, second) = divided(100, 1)
    arrive(first)
    arrive(second, 1)
    assert not one.extend(first, 100)


def test_a_share_goes_on_into_another_one_of_which_nothing_arrives() -> None:
    """That one has nothing to do then."""
    one, (first, second) = divided(100, 1)
    arrive(first)
    assert (one.extend(first, 100), spans(first), second.remaining) == (True, [(50, 100)], 0)


def test_a_share_does_not_go_on_into_a_part_of_another_one() -> None:
    """Its bytes would come to the wrong place: they were requested before."""
    one, (first, _) = divided(100, 1)
    arrive(first)
    assert not one.extend(first, 80)


def test_a_share_goes_on_no_further_than_its_response() -> None:
    one, (first, second, _, _) = divided(100, 3)
    one.end(second)
    arrive(first)
    assert (one.extend(first, 30), spans(first)) == (True, [(25, 30)])


# -- what has arrived --------------------------------------------------------------------------------------------------


def test_it_is_complete_when_all_bytes_have_arrived() -> None:
    one = Division(100, [Range(0, 60)])
    share = one.take_from(60, 0.0)
    arrive(share, 39)
    before = one.is_complete
    arrive(share)
    assert (before, one.is_complete) == (False, True)


def test_what_has_arrived_is_in_order_and_touches_nothing() -> None:
    one = Division(100, [Range(50, 60)])
    first, second = one.take(0.0, 2)
    arrive(first, 20)
    arrive(second, 5)
    assert one.arrived == [Range(0, 20), Range(50, 65)]


def test_ranges_that_touch_or_overlap_are_one() -> None:
    assert merged([Range(5, 9), Range(0, 3), Range(3, 4), Range(8, 12), Range(20, 20)]) == [Range(0, 4), Range(5, 12)]


def test_ranges_are_clipped_to_a_length() -> None:
    assert clipped([Range(0, 5), Range(8, 20), Range(30, 40)], 10) == [Range(0, 5), Range(8, 10)]


@pytest.mark.parametrize(
    ("given_ranges", "prefix"), [([], 0), ([Range(1, 9)], 0), ([Range(0, 4), Range(4, 6), Range(7, 9)], 6)]
)
def test_the_prefix_has_no_gap(given_ranges: list[Range], prefix: int) -> None:
    assert prefix_of(given_ranges) == prefix


@settings(max_examples=200, deadline=None)
@given(length=st.integers(20, 400), connections=st.integers(1, 9), seed=st.integers(0, 1 << 16))
def test_every_byte_is_fetched_exactly_once(length: int, connections: int, seed: int) -> None:
    """Whatever connections fail and in whatever order they read."""
    chance = random.Random(seed)
    one, fetched = Division(length), [0] * length
    running = [one.take_from(0, 0.0)]
    while not one.is_complete:
        running += one.take(100.0, max(0, connections - len(running)))
        share = chance.choice(running)
        size = chance.randint(0, share.remaining)
        for position in range(share.position, share.position + size):
            fetched[position] += 1
        arrive(share, size)
        if not share.remaining or chance.random() < 0.2:
            running.remove(share)
            one.end(share)
            running += [] if running else one.take(100.0)
    assert fetched == [1] * length
