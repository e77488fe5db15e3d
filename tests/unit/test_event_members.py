"""The JSON form of an event: `event_members`."""

from __future__ import annotations

from typing import Any

from manifestlog import Event, EventKind
from manifestlog.model.events import event_members

ROW = {"checksum": "a" * 64, "source_id": "s", "dataset": "d", "file_path": "f", "file_size": 3, "version": "1"}


def _event(kind: EventKind = EventKind.PUT, row: dict[str, Any] | None = None, **details: Any) -> Event:
    return Event("00000000.1.5", "2026-01-01T00:00:00.000000Z", kind, row["checksum"] if row else None, row, details)


def _members(kind: EventKind = EventKind.PUT, row: dict[str, Any] | None = None, **details: Any) -> dict[str, Any]:
    return event_members(_event(kind, row, **details), "a_download")


def test_every_event_has_the_same_first_members() -> None:
    assert list(_members(EventKind.META)) == list(_members(row=ROW, run="r", was={"etag": None}))


def test_a_put_without_details_shows_what_its_record_says() -> None:
    found = _members(row=ROW)
    assert (found["verdict"], found["source_id"], found["bytes"], found["manifest"]) == ("new", "s", 3, "a_download")


def test_an_event_without_a_record_shows_null() -> None:
    found = _members(EventKind.FAILED, error="E", source_id="s")
    assert (found["verdict"], found["record"], found["checksum"], found["error"]) == (None, None, None, "E")


def test_details_of_some_events_only_follow_the_others() -> None:
    found = _members(EventKind.ENDED, outcome="ok", counts={"unchanged": 2})
    assert list(found)[-2:] == ["outcome", "counts"]


def test_a_detail_from_a_later_version_never_replaces_a_known_member() -> None:
    assert _members(row=ROW, cursor="x", record=None)["cursor"] == "00000000.1.5"


def test_the_kind_of_a_change_is_the_events_own() -> None:
    event = _event(EventKind.UPDATE, ROW)._replace(details={"kind": "update"})
    assert event_members(event, "a_download")["kind"] == "update"
