"""The fold that goes back in time: which events it takes back, and what is left."""

from __future__ import annotations

from typing import Any

import pytest

from manifestlog.model.before import difference
from manifestlog.model.earlier import earlier
from manifestlog.model.events import Event, EventKind

from .builders import row, sha

NOW = {
    "root_dir": "/now",
    "ts_created": "2023-01-01T00:00:00Z",
    "ts_updated": "2024-01-01T00:00:00Z",
    "total_records": 3,
}


def event(second: int, kind: EventKind = EventKind.PUT, **more: Any) -> Event:
    members: dict[str, Any] = {"checksum": None, "row": None, "details": {}} | more
    return Event(str(second), f"2023-01-01T12:00:{second:02d}.000000Z", kind, **members)


def put(second: int, after: dict[str, Any], before: dict[str, Any] | None = None) -> Event:
    details = {} if before is None else {"was": difference(before, after)}
    return event(second, checksum=after["checksum"], row=after, details=details)


def at(second: float) -> str:
    return f"2023-01-01T12:00:{second:09.6f}Z"


OLD, NEW = row("a"), row("a", 5, etag='"n"')
FORGET = event(3, EventKind.FORGET, checksum=sha("a"), details={"was": NEW})
EVENTS = [FORGET, put(2, NEW, OLD), put(1, OLD)]


@pytest.mark.parametrize(
    ("second", "rows"),
    [(3, {}), (2.5, {sha("a"): NEW}), (2, {sha("a"): NEW}), (1, {sha("a"): OLD}), (0.5, {sha("a"): None})],
)
def test_each_later_event_is_taken_back(second: float, rows: object) -> None:
    assert earlier(EVENTS, at(second)).rows == rows


def test_the_last_change_before_is_found() -> None:
    assert earlier(EVENTS, at(2.5)).last_ts == at(2)


def test_an_event_that_changes_nothing_is_no_last_change() -> None:
    events = [FORGET, event(2, EventKind.FAILED), put(1, OLD)]
    assert earlier(events, at(2)).last_ts == at(1)


def test_without_an_event_before_it_says_where_they_begin() -> None:
    found = earlier(EVENTS, at(0))
    assert (found.ran_out, found.begins_at, found.last_ts) == (True, at(1), None)


def test_no_events_leave_everything_as_it_is() -> None:
    assert earlier([], at(0)) == ({}, {}, None, None, True)


def test_a_derivation_changes_no_row() -> None:
    assert earlier([event(2, EventKind.DERIVED, checksum=sha("a"))], at(1)).rows == {}


def test_a_clock_that_was_set_back_ends_the_walk_at_the_first_earlier_event() -> None:
    events = [put(5, row("c")), put(1, row("b")), put(9, row("a"))]
    assert earlier(events, at(3)).rows == {sha("c"): None}


def test_metadata_go_back() -> None:
    found = earlier([event(2, EventKind.META, details={"was": {"root_dir": "/then"}}), put(1, OLD)], at(1))
    then = found.metadata_then(NOW, 1)
    assert (then["root_dir"], then["total_records"], then["ts_updated"]) == ("/then", 1, "2023-01-01T12:00:01Z")


def test_metadata_that_were_not_there_go_away() -> None:
    found = earlier([event(2, EventKind.META, details={"was": {"note": None}})], at(1))
    assert "note" not in found.metadata_then(NOW | {"note": "later"}, 0)


def test_a_member_that_this_version_does_not_know_goes_away_if_it_was_not_there() -> None:
    later = row("a", shade="red")
    assert earlier([put(2, later, OLD)], at(1)).rows == {sha("a"): OLD}


def test_a_member_that_this_version_does_not_know_comes_back() -> None:
    was = row("a", shade="red")
    assert earlier([put(2, OLD, was)], at(1)).rows == {sha("a"): was}
