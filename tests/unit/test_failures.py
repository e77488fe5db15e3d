"""The fold of events into failures."""

from __future__ import annotations

from typing import Any

import pytest

from manifestlog import Event, EventKind, Failure
from manifestlog.model.failures import fold_failures

A, B = "a" * 64, "b" * 64
FAILED, PUT, DERIVED = EventKind.FAILED, EventKind.PUT, EventKind.DERIVED


def ts(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}.000000Z"


def at(second: int, kind: EventKind, source: str = "s", **details: Any) -> tuple[str, Event]:
    """An event of a source in the manifest `a_download`."""
    members = {"source_id": source, "dataset": "d", **details}
    return "a_download", Event(str(second), ts(second), kind, None, None, members)


def one(*events: tuple[str, Event]) -> Failure:
    (found,) = fold_failures(events)
    return found


def test_a_failure_says_why() -> None:
    found = one(at(1, FAILED, error="old"), at(2, FAILED, error="new", url="https://h/", status=500, run="r"))
    assert (found.error, found.url, found.status, found.run) == ("new", "https://h/", 500, "r")


def test_a_failure_says_since_when_and_how_often() -> None:
    found = one(at(1, FAILED), at(2, FAILED), at(5, FAILED))
    assert (found.first, found.last, found.attempts) == (ts(1), ts(5), 3)


@pytest.mark.parametrize("kind", [PUT, DERIVED])
def test_a_later_content_of_the_source_is_a_success(kind: EventKind) -> None:
    assert one(at(1, FAILED), at(2, kind), at(3, kind)).succeeded == ts(2)


def test_an_earlier_content_is_none() -> None:
    assert one(at(1, PUT), at(2, FAILED)).succeeded is None


@pytest.mark.parametrize("kind", [EventKind.UPDATE, EventKind.RELOCATE, EventKind.FORGET, EventKind.BEGUN])
def test_a_change_by_hand_is_no_success(kind: EventKind) -> None:
    assert one(at(1, FAILED), at(2, kind)).succeeded is None


def test_another_source_is_none() -> None:
    assert one(at(1, FAILED), at(2, PUT, "other"), at(3, PUT, dataset="other")).succeeded is None


def test_after_a_success_it_counts_anew() -> None:
    found = one(at(1, FAILED), at(2, PUT), at(3, FAILED), at(4, FAILED))
    assert (found.first, found.attempts, found.succeeded) == (ts(3), 2, None)


def test_each_input_of_a_source_fails_for_itself() -> None:
    found = fold_failures([at(1, FAILED, inputs=[A]), at(2, FAILED, inputs=[B]), at(3, PUT, inputs=[A])])
    assert [(one.inputs, one.succeeded) for one in found] == [((B,), None), ((A,), ts(3))]


def test_inputs_succeed_together_only() -> None:
    assert one(at(1, FAILED, inputs=[A, B]), at(2, PUT, inputs=[A])).succeeded is None


def test_a_failure_without_inputs_ends_with_any_content_of_its_source() -> None:
    assert one(at(1, FAILED), at(2, PUT, inputs=[A])).succeeded == ts(2)


def test_the_same_source_of_two_manifests_fails_twice() -> None:
    _, event = at(1, FAILED)
    assert [one.manifest for one in fold_failures([("a_download", event), ("b_download", event)])] == [
        "a_download",
        "b_download",
    ]


def test_the_latest_failure_comes_first() -> None:
    found = fold_failures([at(1, FAILED, "first"), at(2, FAILED, "second")])
    assert [one.source_id for one in found] == ["second", "first"]


def ended(second: int, *sources: str) -> tuple[str, Event]:
    """The end of a run that names these sources as recovered."""
    recovered = [{"source_id": one, "dataset": "d"} for one in sources]
    return "a_download", Event(str(second), ts(second), EventKind.ENDED, None, None, {"recovered": recovered})


def test_a_run_that_names_the_source_as_recovered_is_a_success() -> None:
    assert one(at(1, FAILED), ended(2, "other", "s")).succeeded == ts(2)


def test_a_run_that_names_another_source_is_none() -> None:
    assert one(at(1, FAILED), ended(2, "other")).succeeded is None


def test_an_unchanged_source_has_processed_no_input() -> None:
    assert one(at(1, FAILED, inputs=[A]), ended(2, "s")).succeeded is None


def obsolete(second: int, *inputs: str) -> tuple[str, Event]:
    """The end of a run that names these inputs as obsolete."""
    return "a_download", Event(str(second), ts(second), EventKind.ENDED, None, None, {"inputs": list(inputs)})


def test_a_run_that_names_the_inputs_as_obsolete_ends_their_failure() -> None:
    assert one(at(1, FAILED, inputs=[A]), obsolete(2, A, B)).succeeded == ts(2)


def test_a_run_that_names_only_some_of_the_inputs_does_not() -> None:
    assert one(at(1, FAILED, inputs=[A, B]), obsolete(2, A)).succeeded is None


def test_another_failure_of_the_same_inputs_ends_nothing() -> None:
    found = one(at(1, FAILED, inputs=[A]), at(2, FAILED, inputs=[A]))
    assert (found.attempts, found.succeeded) == (2, None)
