"""Rows: their normal form, their observations, their merging."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from typing import Any

import pytest

from manifestlog.model import codec, rows
from manifestlog.model.rows import (
    FIELDS,
    Row,
    as_seen_by,
    merge,
    normalise,
    observations,
    sort_key,
    source_key,
    utc_text,
)

from .builders import row, sha

SEEN: Row = {
    "source_id": "other",
    "dataset": "set",
    "file_path": "/o",
    "etag": "x",
    "ts_downloaded": "2023-01-01T11:00:00Z",
    "version": "1",
}


def _normal(given: Row) -> Row:
    return normalise(given, given["checksum"])[0]


def test_a_normal_row_stays_as_it_is() -> None:
    """Normal form is a fixed point, byte for byte."""
    given = row(also_seen=[SEEN], derived_from=[sha("i")], last_modified="m", tie=3)
    assert codec.dumps(_normal(_normal(given))) == codec.dumps(_normal(given))


def test_a_normal_row_is_not_changed_in_place() -> None:
    """The given row stays the caller's."""
    given = row(checksum=sha("a").upper(), also_seen=[])
    before = codec.dumps(given)
    _normal(given)
    assert codec.dumps(given) == before


def test_members_come_in_order() -> None:
    """Whatever order they came in."""
    given = row(last_modified="m", also_seen=[SEEN], derived_from=[sha("i")], tie=1)
    assert list(_normal(dict(reversed(given.items())))) == [name for name in FIELDS if name in given]


@pytest.mark.parametrize(
    "empty", [{"last_modified": None}, {"also_seen": []}, {"also_seen": None}, {"derived_from": []}, {"tie": 0}]
)
def test_empty_optional_members_go(empty: dict[str, Any]) -> None:
    """What says nothing is left out."""
    assert _normal(row(**empty)) == row()


def test_a_missing_etag_becomes_null() -> None:
    """`etag` is always there."""
    given = row()
    del given["etag"]
    assert _normal(given) == row()


def test_a_missing_etag_of_another_source_becomes_null() -> None:
    """Where the latest observation is another source's, its ETag moves into the record's own fields."""
    later = {k: v for k, v in SEEN.items() if k != "etag"} | {"ts_downloaded": "2024-01-01T00:00:00Z"}
    found = _normal(row(also_seen=[later]))
    assert codec.dumps(_normal(found)) == codec.dumps(found)


def test_checksums_become_lower_case() -> None:
    """In the row and in its inputs."""
    found = _normal(row(checksum=sha("a").upper(), derived_from=[sha("i").upper()]))
    assert (found["checksum"], found["derived_from"]) == (sha("a"), [sha("i")])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2023-01-01T12:00:00Z", "2023-01-01T12:00:00Z"),
        ("2023-01-01T12:00:00+00:00", "2023-01-01T12:00:00Z"),
        ("2023-01-01T14:00:00+02:00", "2023-01-01T12:00:00Z"),
        ("2023-01-01T12:00:00.5Z", "2023-01-01T12:00:00.500000Z"),
        ("2023-01-01T12:00:00.000000Z", "2023-01-01T12:00:00Z"),
        ("2023-01-01 12:00:00Z", "2023-01-01T12:00:00Z"),
        ("2023-01-01T12:00:00", "2023-01-01T12:00:00Z"),
        ("2023-01-01", "2023-01-01T00:00:00Z"),
    ],
)
def test_times_become_utc(given: str, expected: str) -> None:
    """Every way to write a moment becomes one."""
    assert _normal(row(ts_downloaded=given))["ts_downloaded"] == expected


@pytest.mark.parametrize(("given", "naive"), [("2023-01-01T12:00:00", True), ("2023-01-01T12:00:00Z", False)])
def test_naive_times_are_reported(given: str, *, naive: bool) -> None:
    """The second answer says whether a time had no zone."""
    assert normalise(row(ts_downloaded=given), sha("a"))[1] is naive


def test_naive_times_of_other_observations_are_reported() -> None:
    """Also when only an observation had none."""
    assert normalise(row(also_seen=[SEEN | {"ts_downloaded": "2023-01-01T11:00:00"}]), sha("a"))[1] is True


def test_unknown_members_are_carried_along() -> None:
    """Behind the known ones, in their order."""
    found = _normal({"zebra": {"b": 1, "a": [None]}} | row() | {"apple": 0})
    assert list(found.items())[-2:] == [("zebra", {"b": 1, "a": [None]}), ("apple", 0)]


def test_a_later_observation_comes_to_the_front() -> None:
    """A row's own fields hold its latest observation, even if another tool wrote it otherwise."""
    found = _normal(row(also_seen=[SEEN | {"ts_downloaded": "2023-01-01T13:00:00Z"}]))
    assert (found["source_id"], found["also_seen"][0]["source_id"]) == ("other", "src")


def test_two_observations_of_one_pair_become_one() -> None:
    """A pair has one observation of a content: that in the row's own fields wins."""
    found = _normal(row(also_seen=[SEEN | {"source_id": "src"}]))
    assert "also_seen" not in found


WRONG: list[tuple[str, Any, str]] = [
    ("not an object", [], "not a JSON object"),
    ("no text", row(source_id=1), "source_id"),
    ("no path", row(file_path=None), "file_path"),
    ("no ETag", row(etag=1), "etag"),
    ("no size", row(file_size="2"), "file_size"),
    ("truth", row(file_size=True), "file_size"),
    ("zero", row(file_size=0), "file_size"),
    ("no time", row(ts_downloaded=None), "ts_downloaded"),
    ("bad time", row(ts_downloaded="soon"), "ts_downloaded"),
    ("time overflow", row(ts_downloaded="0001-01-01T00:00:00+01:00"), "ts_downloaded"),
    ("no list", row(also_seen={"a": 1}), "also_seen"),
    ("no input list", row(derived_from="x"), "derived_from"),
    ("bad input", row(derived_from=["x"]), "checksum"),
    ("text seen", row(also_seen=["x"]), "also_seen"),
    ("half seen", row(also_seen=[{"source_id": "x"}]), "dataset"),
    ("bad tie", row(tie="x"), "tie"),
    ("bad checksum", row(checksum="x"), "checksum"),
    ("no checksum", row(checksum=None), "checksum"),
]


@pytest.mark.parametrize(("given", "word"), [pytest.param(g, w, id=i) for i, g, w in WRONG])
def test_an_invalid_member_is_named(given: Any, word: str) -> None:
    """A row that cannot be understood is a `ValueError` naming the member."""
    with pytest.raises(ValueError, match=word):
        normalise(given, sha("a"))


def test_another_key_is_wrong() -> None:
    """The key is the record's checksum."""
    with pytest.raises(ValueError, match="key"):
        normalise(row("a"), sha("b"))


def test_an_upper_case_key_is_fine() -> None:
    """The key's case says nothing."""
    assert normalise(row("a"), sha("a").upper())[0] == row("a")


@pytest.mark.parametrize("name", [name for name in rows.REQUIRED if name != "etag"])
def test_a_missing_member_is_named(name: str) -> None:
    """Each required member."""
    given = row()
    del given[name]
    with pytest.raises(ValueError, match=name):
        normalise(given, sha("a"))


# -- observations ------------------------------------------------------------------------------------------------------


def test_merging_keeps_both_observations() -> None:
    """Two sources of one content are both there."""
    merged = merge(row("a", 1), row("a", 2, source="other"))
    assert [source_key(seen) for seen in observations(merged)] == [("other", "set"), ("src", "set")]


def test_merging_replaces_the_same_pairs_observation() -> None:
    """What a pair says now stands for what it said before."""
    assert merge(row("a", 1, etag="old"), row("a", 2, etag="new")) == row("a", 2, etag="new")


def test_merging_keeps_unknown_members_of_the_known_row() -> None:
    """An event knows nothing of them."""
    assert merge(row("a", 1, colour="red"), row("a", 2, source="other"))["colour"] == "red"


def test_merging_keeps_the_inputs_of_the_latest_derivation_sorted() -> None:
    """No run made the output from the inputs of two runs."""
    merged = merge(row(derived_from=[sha("x"), sha("y")]), row(derived_from=[sha("z"), sha("y"), sha("z")]))
    assert merged["derived_from"] == sorted(map(sha, "yz"))


def test_merging_an_older_derivation_keeps_the_inputs_that_are_shown() -> None:
    """The record shows the latest derivation, whatever is reported last."""
    merged = merge(row("a", 2, derived_from=[sha("x")]), row("a", 1, source="other", derived_from=[sha("y")]))
    assert merged["derived_from"] == [sha("x")]


def test_merging_with_itself_changes_nothing() -> None:
    """A line that is applied twice says nothing more."""
    once = merge(row("a", 1), row("a", 2, source="other"))
    assert merge(once, once) == once


def test_merging_forgets_no_source() -> None:
    """However many came before."""
    merged = row("a", 0, source="s0")
    for number in range(1, 10):
        merged = merge(merged, row("a", number, source=f"s{number}"))
    assert {seen["source_id"] for seen in observations(merged)} == {f"s{n}" for n in range(10)}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_merging_does_not_show(order: tuple[int, ...]) -> None:
    """Four sources of one content give the same bytes in every order."""
    events = [row("a", n % 3, source=f"s{n}", derived_from=[sha(f"i{n}")]) for n in range(4)]
    merged = events[order[0]]
    for number in order[1:]:
        merged = merge(merged, events[number])
    expected = events[0]
    for event in events[1:]:
        expected = merge(expected, event)
    assert codec.dumps(merged) == codec.dumps(expected)


def test_a_view_has_the_pairs_own_observation_in_front() -> None:
    """A source sees its own path, ETag and time."""
    merged = merge(row("a", 1, etag="mine"), row("a", 2, source="other", etag="other"))
    seen = as_seen_by(merged, ("src", "set"))
    assert (seen["etag"], seen["also_seen"][0]["etag"]) == ("mine", "other")


def test_a_view_for_an_unknown_source_is_the_row() -> None:
    """Who never had the content sees it as it is."""
    assert as_seen_by(row(), ("stranger", "set")) == row()


def test_a_view_loses_no_observation() -> None:
    """Everybody else is in `also_seen`."""
    merged = row("a", 0, source="s0")
    for number in range(1, 5):
        merged = merge(merged, row("a", number, source=f"s{number}"))
    seen = as_seen_by(merged, ("s2", "set"))
    assert {o["source_id"] for o in observations(seen)} == {f"s{n}" for n in range(5)}


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2023-01-01T12:00:00Z", "2023-01-01T12:00:00.000001Z"),
        ("2023-01-01T12:00:00.5Z", "2023-01-01T12:00:00.500001Z"),
        ("2023-01-01T12:00:00.999999Z", "2023-01-01T12:00:01Z"),
        ("0999-12-31T23:59:59Z", "1000-01-01T00:00:00Z"),
        ("2023-01-01T12:00:00+02:00", "2023-01-01T12:00:00Z"),
    ],
)
def test_observations_are_ordered_by_time(earlier: str, later: str) -> None:
    """With or without fractions, in whatever zone they were given."""
    assert sort_key(_normal(row(ts_downloaded=earlier))) < sort_key(_normal(row(ts_downloaded=later)))


def test_a_tie_orders_what_time_does_not() -> None:
    """The later in the log is the later."""
    assert sort_key(row()) < sort_key(row(tie=1)) < sort_key(row(tie=2))


def test_time_goes_before_tie() -> None:
    """A tie says nothing between different times."""
    assert sort_key(row("a", 1, tie=9)) < sort_key(row("a", 2))


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-9, minutes=-30))])
def test_text_of_a_moment(zone: timezone) -> None:
    """One moment has one text, whatever its zone."""
    moment = datetime(2023, 1, 1, 12, tzinfo=UTC).astimezone(zone)
    assert utc_text(moment) == "2023-01-01T12:00:00Z"


@pytest.mark.parametrize(
    "text", [None, 7, "", "ab", "AB" * 32, "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "０" * 64]
)
def test_values_that_are_not_checksums(text: object) -> None:
    """Only 64 lower-case hexadecimal digits are one."""
    assert not rows.is_checksum(text)


@pytest.mark.parametrize(
    "text",
    [
        *(None, 7, b"0" * 64, "", "ab", "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "０" * 64, "\ud800" * 64),
        *("00 " * 21 + "0", "00 " * 21 + "00", "00" * 31 + "  ", "\t\n" + "00" * 31, " " * 64),
    ],
)
def test_values_that_are_not_checksums_in_any_spelling(text: object) -> None:
    """Blanks are not taken for digits, wherever they stand."""
    assert rows.normal_checksum(text) is None


def test_the_normal_spelling_of_a_checksum() -> None:
    """Lower case, whatever the case of each digit."""
    assert rows.normal_checksum("aB" * 32) == "ab" * 32


def test_what_is_a_checksum() -> None:
    """Any 64 lower-case hexadecimal digits."""
    assert rows.is_checksum("0123456789abcdef" * 4)
