"""Which times the records get that a clock has stamped in the future."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from manifestlog.model.retiming import horizon, new_times, with_times

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, SECOND = "2036-01-01T00:00:00", "2036-01-02T00:00:00"
BEFORE = "2026-02-28T03:00:00"


def test_the_horizon_is_a_minute_from_now() -> None:
    assert horizon(NOW) == "2026-03-01T12:01:00"


def test_the_only_record_of_a_source_is_of_now() -> None:
    assert new_times([FIRST], None, NOW, keep_current=False) == ["2026-03-01T12:00:00Z"]


def test_a_record_with_later_believable_ones_goes_right_before_the_latest() -> None:
    assert new_times([FIRST], BEFORE, NOW, keep_current=False) == ["2026-02-28T02:59:59.999999Z"]


def test_the_order_among_them_is_kept() -> None:
    found = new_times([FIRST, SECOND], BEFORE, NOW, keep_current=False)
    assert found == ["2026-02-28T02:59:59.999998Z", "2026-02-28T02:59:59.999999Z"]


def test_a_record_that_live_downloads_followed_is_the_latest() -> None:
    followed = [FIRST, "2036-01-01T00:00:00.000001"]
    found = new_times(followed, BEFORE, NOW, keep_current=False)
    assert found == ["2026-03-01T11:59:59.999999Z", "2026-03-01T12:00:00Z"]


def test_keep_current_gives_the_current_record_the_present_time() -> None:
    assert new_times([FIRST], BEFORE, NOW, keep_current=True) == ["2026-03-01T12:00:00Z"]


def test_the_latest_stay_behind_a_believable_time_that_is_now() -> None:
    found = new_times([FIRST, SECOND], "2026-03-01T12:00:00.5", NOW, keep_current=True)
    assert found == ["2026-03-01T12:00:00.500001Z", "2026-03-01T12:00:00.500002Z"]


@pytest.fixture
def row() -> dict[str, object]:
    seen = {
        "source_id": "b",
        "dataset": "d",
        "file_path": "/b",
        "etag": None,
        "ts_downloaded": "2026-01-01T00:00:00Z",
        "version": "1",
    }
    return seen | {
        "source_id": "a",
        "checksum": "ab" * 32,
        "file_size": 1,
        "ts_downloaded": f"{FIRST}Z",
        "tie": 3,
        "also_seen": [seen],
    }


def test_an_observation_that_is_the_latest_no_more_leaves_the_front(row: dict[str, object]) -> None:
    assert with_times(row, {("a", "d"): "2025-01-01T00:00:00Z"})["source_id"] == "b"


def test_no_observation_is_lost(row: dict[str, object]) -> None:
    assert [seen["source_id"] for seen in with_times(row, {("a", "d"): "2025-01-01T00:00:00Z"})["also_seen"]] == ["a"]


def test_a_tie_goes_with_its_time(row: dict[str, object]) -> None:
    assert "tie" not in with_times(row, {("a", "d"): "2026-02-01T00:00:00Z"})


def test_other_members_stay(row: dict[str, object]) -> None:
    assert with_times(row | {"colour": "red"}, {("a", "d"): "2026-02-01T00:00:00Z"})["colour"] == "red"
