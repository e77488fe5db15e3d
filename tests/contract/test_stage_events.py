"""What stages say in the history: derivations without an output, judgements, what was run, and failures of inputs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import EventKind, ProcessedManifestManager, history

from .builders import META, QUIET, T0, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

NOTHING = {"source_id": "src", "dataset": "set", "version": "2", "inputs": [sha("raw")]}


@pytest.fixture
def stage(opener: Opener, location: str | Path) -> Iterator[ProcessedManifestManager]:
    with ProcessedManifestManager(location, META, options=QUIET) as manifest:
        yield manifest


def test_what_came_to_nothing_is_done_without_a_record(stage: ProcessedManifestManager) -> None:
    stage.add_derivations([{**NOTHING, "reason": "too short"}])
    found = stage.derived(sha("raw"), version="2")
    assert found is not None
    assert (found.output, found.inputs, len(stage)) == ("", (sha("raw"),), 0)


def test_several_derivations_keep_their_order_and_their_run(stage: ProcessedManifestManager) -> None:
    with stage.run("nightly", stage="clean", about={"command": "clean {input}", "host": "here"}) as run:
        stage.add_derivations([{**NOTHING, "inputs": [sha(name)]} for name in "abc"])
    found = [(event.inputs, event.run, event.stage) for event in stage.history(kinds=[EventKind.DERIVED])]
    assert found == [((sha(name),), run.id, "clean") for name in "abc"]
    assert {event.details["command"] for event in stage.history(run=run.id)} == {"clean {input}"}


def test_no_derivation_is_no_event(stage: ProcessedManifestManager) -> None:
    stage.add_derivations([])
    assert list(stage.history()) == []


@pytest.mark.parametrize("missing", ["source_id", "dataset", "version", "inputs"])
def test_a_derivation_without_a_needed_member_is_refused(stage: ProcessedManifestManager, missing: str) -> None:
    given = {name: value for name, value in NOTHING.items() if name != missing}
    with pytest.raises(ValueError, match=missing):
        stage.add_derivations([NOTHING, given])
    assert list(stage.history()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"judgement": "maybe"},
        {"started": "yesterday"},
        {"started": "2026-01-01T00:00:00+01:00"},
        {"rows": 1.5},
        {"exit_code": "1"},
        {"stderr": 3, "inputs": "x"},
        {"checksum": "short"},
        {"unheard": 1},
    ],
)
def test_a_member_that_no_reader_would_accept_is_refused(
    stage: ProcessedManifestManager, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"an event's|an attempt has no"):
        stage.add_derivations([{**NOTHING, **wrong}])


def test_the_last_lines_of_a_command_are_kept_as_lines_without_secrets(stage: ProcessedManifestManager) -> None:
    said = "\x1b[31mred\nhttps://u:secret@h/x\n" + "x" * 3000 + "\nlast"
    stage.fail(record("raw"), "it failed", inputs=[sha("raw")], version="2", exit_code=-9, stderr=said)
    (failure,) = stage.failures()
    assert (failure.version, failure.exit_code) == ("2", -9)
    assert failure.stderr is not None
    assert failure.stderr.endswith("\nlast")
    assert len(failure.stderr) <= 2000
    assert "secret" not in failure.stderr
    assert "\x1b" not in failure.stderr


def test_a_failure_of_an_input_ends_with_an_output_of_another_dataset(stage: ProcessedManifestManager) -> None:
    stage.fail(record("raw"), "it failed", inputs=[sha("raw")])
    stage.fail(record("other"), "it failed, too", inputs=[sha("other")])
    stage.add(record("out", dataset="parsed", derived_from=(sha("raw"),)))
    assert [one.inputs for one in stage.failures()] == [(sha("other"),)]
    assert history.failing(stage._engine, T0.now(T0.tzinfo) + timedelta(minutes=1)) == 1


def test_many_failures_of_inputs_are_told_apart_as_well(stage: ProcessedManifestManager) -> None:
    """From some number on, all events are read in one pass."""
    names = [f"raw {number}" for number in range(40)]
    for name in names:
        stage.fail(record(name), "it failed", inputs=[sha(name)])
    stage.add_derivations([{**NOTHING, "inputs": [sha(name)]} for name in names[:30]])
    assert {one.inputs[0] for one in stage.failures()} == {sha(name) for name in names[30:]}
    assert history.failing(stage._engine, T0.now(T0.tzinfo) + timedelta(minutes=1)) == 10


def test_a_failure_of_a_source_does_not_end_with_its_inputs(stage: ProcessedManifestManager) -> None:
    stage.fail(record("raw"), "no answer")
    stage.add(record("out", dataset="parsed", derived_from=(sha("raw"),)))
    assert len(stage.failures()) == 1


def test_a_feed_can_leave_out_the_events_of_one_run(stage: ProcessedManifestManager) -> None:
    with stage.run("mine") as mine:
        feed = stage.feed(stage.cursor, without_run=mine.id)
        stage.add_each([record("a"), record("b", source="other")])
        assert list(feed.new()) == []
    stage.add(record("c", source="third"))
    assert [event.checksum for event in feed.new()] == [sha("c")]
    assert list(feed.new()) == []
    assert feed.cursor == stage.cursor


def test_what_others_wrote_can_be_made_durable(stage: ProcessedManifestManager) -> None:
    stage.add(record("a"))
    stage.sync()
    assert stage.has_checksum(sha("a"))
