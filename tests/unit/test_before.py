"""What an event says of the row before it: how a list is given, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from manifestlog.model.before import check_before, difference, expanded, undone
from manifestlog.model.codec import dumps

from .builders import row, sha


def seen(number: int) -> dict[str, Any]:
    """The observation of another source."""
    return {
        "source_id": f"s{number}",
        "dataset": "set",
        "file_path": "/raw/a",
        "etag": None,
        "ts_downloaded": f"2023-01-01T12:00:{number:02d}Z",
        "version": "1",
    }


def shared(*numbers: int) -> dict[str, Any]:
    """A row of a content with these other sources."""
    return row(also_seen=[seen(number) for number in numbers])


def also_seen(before: dict[str, Any], after: dict[str, Any]) -> object:
    return difference(before, after)["also_seen"]


def test_an_added_source_is_a_place_in_the_record() -> None:
    assert also_seen(shared(1, 2), shared(1, 2, 3)) == {"remove": [2]}


def test_a_source_that_is_gone_comes_with_its_place() -> None:
    assert also_seen(shared(1, 2, 3), shared(1, 3)) == {"insert": [[1, seen(2)]]}


def test_a_source_that_moved_is_both() -> None:
    before, after = shared(1, 2, 3), shared(2, 3, 4)
    assert also_seen(before, after) == {"remove": [2], "insert": [[0, seen(1)]]}


def test_a_list_that_was_not_there_is_null() -> None:
    assert also_seen(row(), shared(1)) is None


def test_a_list_that_is_not_there_any_more_is_in_full() -> None:
    assert also_seen(shared(1), row()) == [seen(1)]


def test_a_list_of_which_nothing_is_left_is_in_full() -> None:
    assert also_seen(shared(1, 2), shared(3, 4)) == [seen(1), seen(2)]


def test_a_list_in_another_order_is_in_full() -> None:
    assert also_seen(shared(2, 1), shared(1, 2)) == [seen(2), seen(1)]


def test_an_entry_that_is_there_twice_comes_back_twice() -> None:
    before, after = shared(1, 1, 2), shared(1, 2, 3)
    assert undone(after, difference(before, after)) == before


def test_entries_that_are_equal_but_for_the_order_of_their_members_are_different() -> None:
    before, after = shared(1, 2), shared(1, 2, 3)
    after["also_seen"][0] = dict(reversed(seen(1).items()))
    assert dumps(undone(after, difference(before, after))) == dumps(before)


def test_inputs_are_given_in_the_same_way() -> None:
    before, after = row(derived_from=["a" * 64, "b" * 64]), row(derived_from=["a" * 64, "b" * 64, "c" * 64])
    assert difference(before, after) == {"derived_from": {"remove": [2]}}


def test_an_unknown_member_that_looks_like_a_difference_is_none() -> None:
    before, after = row(shade={"remove": [0]}), row(shade=["red"])
    assert undone(after, difference(before, after)) == before


def test_an_unknown_member_that_looks_like_a_difference_is_valid() -> None:
    check_before({"shade": {"insert": 5}}, row(shade=["red"]), sha("a"))


def test_was_in_full_is_left_as_it_is() -> None:
    was = {"also_seen": [seen(1)], "etag": None}
    assert expanded(was, shared(2)) is was


MALFORMED: dict[str, object] = {
    "empty": {},
    "nothing removed": {"remove": []},
    "another member": {"remove": [0], "move": [[0, 1]]},
    "remove is a number": {"remove": 1},
    "a place that is text": {"remove": ["0"]},
    "a place that is a truth": {"remove": [True]},
    "a place that is a fraction": {"remove": [0.0]},
    "a place before the first": {"remove": [-1]},
    "a place after the last": {"remove": [3]},
    "a place twice": {"remove": [1, 1]},
    "places that descend": {"remove": [1, 0]},
    "insert is an object": {"insert": {"0": seen(9)}},
    "no pairs": {"insert": [seen(9)]},
    "three in a pair": {"insert": [[0, seen(9), 1]]},
    "an entry before the first": {"insert": [[-1, seen(9)]]},
    "an entry after the end": {"insert": [[4, seen(9)]]},
    "two entries at one place": {"insert": [[0, seen(8)], [0, seen(9)]]},
    "an entry after what is left": {"remove": [0], "insert": [[3, seen(9)]]},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_difference_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"difference|insert|remove"):
        expanded({"also_seen": MALFORMED[name]}, shared(1, 2, 3))


def test_a_difference_to_a_list_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no such list"):
        expanded({"also_seen": {"remove": [0]}}, row())


def test_a_difference_in_a_forget_is_refused() -> None:
    with pytest.raises(ValueError, match="no such list"):
        check_before(shared(1) | {"also_seen": {"remove": [0]}}, None, sha("a"))


def test_an_entry_that_is_no_observation_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        check_before({"also_seen": {"insert": [[0, 5]]}}, shared(1), sha("a"))
