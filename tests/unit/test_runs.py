"""The fold of events into runs."""

from __future__ import annotations

from typing import Any

from manifestlog import Event, EventKind, RunOutcome, RunSummary
from manifestlog.model.runs import fold_runs

ROW = {"checksum": "a" * 64, "source_id": "s", "dataset": "d", "file_path": "f", "file_size": 3, "version": "1"}
BEGIN: dict[str, Any] = {
    "name": "nightly",
    "version": "2",
    "host": "h",
    "pid": 7,
    "user": "u",
    "program": "manifestlog 1",
}


def at(second: int, kind: EventKind, row: dict[str, Any] | None = None, **details: Any) -> tuple[str, Event]:
    """An event of the run `r` in the manifest `a_download`."""
    ts = f"2026-01-01T00:00:{second:02}.000000Z"
    return "a_download", Event(str(second), ts, kind, None, row, {"run": "r", **details})


def one(*events: tuple[str, Event]) -> RunSummary:
    (found,) = fold_runs(events)
    return found


def test_a_run_shows_who_began_it() -> None:
    run = one(at(0, EventKind.BEGUN, **BEGIN))
    assert (run.name, run.version, run.host, run.pid, run.user) == ("nightly", "2", "h", 7, "u")


def test_a_run_shows_when_it_began_and_ended() -> None:
    run = one(at(0, EventKind.BEGUN), at(9, EventKind.ENDED, outcome="ok", seconds=9.1))
    assert (run.begun, run.ended, run.seconds) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:09.000000Z", 9.1)


def test_verdicts_come_from_events_and_the_rest_from_the_end() -> None:
    end = at(9, EventKind.ENDED, outcome="ok", counts={"unchanged": 4})
    run = one(at(1, EventKind.PUT, ROW), at(2, EventKind.PUT, ROW, verdict="changed"), at(3, EventKind.FORGET), end)
    assert run.counts == {"new": 1, "changed": 1, "forget": 1, "unchanged": 4}


def test_failed_attempts_have_a_count_of_their_own() -> None:
    run = one(at(1, EventKind.FAILED), at(2, EventKind.FAILED))
    assert (run.failed, run.counts) == (2, {})


def test_bytes_are_those_of_the_end() -> None:
    assert one(at(1, EventKind.PUT, ROW), at(9, EventKind.ENDED, outcome="ok", bytes=100)).bytes == 100


def test_bytes_without_an_end_are_those_of_the_events() -> None:
    assert one(at(1, EventKind.PUT, ROW), at(2, EventKind.FAILED, bytes=4), at(3, EventKind.UPDATE, ROW)).bytes == 7


def test_a_run_that_failed_says_why() -> None:
    run = one(at(9, EventKind.ENDED, outcome="failed", error="ValueError: x"))
    assert (run.outcome, run.error) == (RunOutcome.FAILED, "ValueError: x")


def test_a_run_without_an_end_is_unknown_to_the_fold() -> None:
    assert one(at(0, EventKind.BEGUN)).outcome is RunOutcome.UNKNOWN


def test_an_outcome_of_a_later_version_is_unknown() -> None:
    assert one(at(9, EventKind.ENDED, outcome="paused")).outcome is RunOutcome.UNKNOWN


def test_a_count_that_is_no_number_is_left_out() -> None:
    assert one(at(9, EventKind.ENDED, outcome="ok", counts={"a": "b", "c": 1})).counts == {"c": 1}


def test_a_run_over_two_manifests_is_one() -> None:
    _, other = at(2, EventKind.PUT, ROW)
    run = one(at(0, EventKind.BEGUN), at(1, EventKind.PUT, ROW), ("b_parsed", other))
    assert (run.manifests, run.counts) == (("a_download", "b_parsed"), {"new": 2})


def test_the_order_of_the_events_does_not_matter() -> None:
    events = [at(0, EventKind.BEGUN, **BEGIN), at(1, EventKind.PUT, ROW), at(9, EventKind.ENDED, outcome="ok")]
    assert one(*events) == one(*reversed(events))


def test_events_outside_of_any_run_make_none() -> None:
    assert fold_runs([("a_download", at(1, EventKind.PUT, ROW)[1]._replace(details={}))]) == []


def test_runs_come_in_the_order_in_which_they_began() -> None:
    later = at(5, EventKind.BEGUN, run="q")
    assert [run.run for run in fold_runs([later, at(0, EventKind.BEGUN)])] == ["r", "q"]
