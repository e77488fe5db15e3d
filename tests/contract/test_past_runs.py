"""`runs` and `failures`: what a manifest says of its runs and of sources that fail."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, Event, EventKind, RunOutcome, Verdict, history

from .builders import QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.every_engine


def source(name: str = "bad") -> Any:
    return SimpleNamespace(source_id=name, dataset="set")


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


def test_a_run_shows_what_came_of_it(manifest: DownloadManifestManager) -> None:
    with manifest.run("nightly", "2") as run:
        manifest.add(record("a"))
        manifest.fail(source(), "gone")
        run.count("unchanged", 3)
    (found,) = manifest.runs()
    assert (found.run, found.name, found.outcome, found.counts, found.failed) == (
        run.id,
        "nightly",
        RunOutcome.OK,
        {"new": 1, "unchanged": 3},
        1,
    )


def test_a_run_that_goes_on_is_running(manifest: DownloadManifestManager) -> None:
    with manifest.run("nightly"):
        (found,) = manifest.runs()
    assert (found.outcome, found.pid) == (RunOutcome.RUNNING, os.getpid())


def test_a_run_on_another_host_is_unknown(manifest: DownloadManifestManager) -> None:
    manifest._engine.record_event(EventKind.BEGUN, {"run": "r", "host": "elsewhere", "pid": 1})
    assert [run.outcome for run in manifest.runs()] == [RunOutcome.UNKNOWN]


def test_a_run_whose_process_is_gone_died(path: Path, manifest: DownloadManifestManager) -> None:
    code = "import os, sys, manifestlog as m; m.DownloadManifestManager(sys.argv[1]).run('x').__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert [run.outcome for run in manifest.runs()] == [RunOutcome.DIED]


def test_the_latest_run_comes_first(manifest: DownloadManifestManager) -> None:
    for name in ("first", "second"):
        with manifest.run(name):
            pass
    assert [run.name for run in manifest.runs()] == ["second", "first"]


def test_a_run_that_ends_before_one_that_began_in_it_takes_no_later_write(manifest: DownloadManifestManager) -> None:
    first, second = manifest.run("first"), manifest.run("second")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    manifest.add(record("a"))
    assert next(manifest.history(reverse=True)).run is None


def test_a_run_goes_on_after_one_inside_it_has_ended(manifest: DownloadManifestManager) -> None:
    with manifest.run("outer") as outer:
        with manifest.run("inner"):
            pass
        manifest.add(record("a"))
        assert next(manifest.history(reverse=True)).run == outer.id


def test_a_manager_sent_to_its_own_process_stays_in_no_run(manifest: DownloadManifestManager) -> None:
    if not manifest.is_shared:
        pytest.skip("a manifest in memory cannot be sent")
    with manifest.run("nightly"):
        pickle.loads(pickle.dumps(manifest)).close()
    manifest.add(record("a"))
    assert next(manifest.history(reverse=True)).run is None


def test_runs_since_a_time_began_after_it(manifest: DownloadManifestManager) -> None:
    with manifest.run("early"):
        middle = datetime.now(UTC)
    with manifest.run("late"):
        pass
    assert [run.name for run in manifest.runs(since=middle)] == ["late"]


def runs_of(manifest: DownloadManifestManager, *names: str) -> None:
    for name in names:
        with manifest.run(name):
            manifest.add(record(name))


def test_a_limit_leaves_the_latest_runs(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "first", "second", "third")
    assert manifest.runs(limit=2) == manifest.runs()[:2]


def test_a_limit_above_the_number_of_runs_leaves_all(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "first", "second")
    assert [run.name for run in manifest.runs(limit=3)] == ["second", "first"]


def test_a_limit_of_0_leaves_none(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "first")
    assert manifest.runs(limit=0) == []


def test_a_run_that_began_before_the_limit_is_left_out_even_if_it_wrote_last(manifest: DownloadManifestManager) -> None:
    with manifest.run("long"):
        runs_of(manifest, "inside")
        manifest.add(record("last"))
    assert [run.name for run in manifest.runs(limit=1)] == ["inside"]


def test_a_run_without_a_begin_counts_with_its_latest_event(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "first", "second")
    with manifest.join_run("20260101T000000Z-00000000"):
        manifest.add(record("joined"))
    assert manifest.runs(limit=2) == manifest.runs()[:2]


def test_a_limit_holds_for_the_runs_since_a_time(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "early")
    middle = datetime.now(UTC)
    runs_of(manifest, "late", "latest")
    assert [run.name for run in manifest.runs(since=middle, limit=1)] == ["latest"]


def test_a_limit_ends_the_reading_before_earlier_events(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "first", "second", "third")
    asked: list[Event] = []

    class Watched:
        """The manifest, and what was read of it."""

        location, snapshot = manifest.location, manifest.snapshot

        def history(self, *, reverse: bool = False, **wanted: Any) -> Iterator[Event]:
            for event in manifest.history(reverse=reverse, **wanted):
                asked.append(event)
                yield event

    (latest,) = history.runs([Watched()], limit=1)
    assert {event.run for event in asked} == {latest.run}


def test_a_limit_holds_over_several_manifests(manifest: DownloadManifestManager, path: Path) -> None:
    other_path = path.with_name("b_parsed.manifest.json")
    with DownloadManifestManager(other_path, manifest.metadata, options=QUIET) as other:
        runs_of(manifest, "first")
        with manifest.run("both") as run, other.join_run(run.id):
            other.add(record("b"))
        runs_of(other, "third")
        assert history.runs([manifest, other], limit=2) == history.runs([manifest, other])[:2]


def test_runs_survive_a_compaction(manifest: DownloadManifestManager) -> None:
    with manifest.run("nightly"):
        manifest.add(record("a"))
    before = manifest.runs()
    manifest.compact()
    assert manifest.runs() == before


@pytest.mark.parametrize("kinds", [["changed"], [Verdict.CHANGED]])
def test_a_verdict_among_the_kinds_means_puts_with_it(manifest: DownloadManifestManager, kinds: list[str]) -> None:
    manifest.add_many([record("a"), record("b", 1), record("c", 2)])
    assert [event.checksum for event in manifest.history(kinds=kinds)] == [sha("b"), sha("c")]


def test_kinds_and_verdicts_may_be_mixed(manifest: DownloadManifestManager) -> None:
    runs_of(manifest, "first", "second")
    found = manifest.history(kinds=[EventKind.BEGUN, Verdict.NEW])
    assert [event.verdict or event.kind for event in found] == ["begun", "new", "begun"]


def test_an_unknown_kind_is_refused_with_the_list_of_all(manifest: DownloadManifestManager) -> None:
    with pytest.raises(ValueError, match=r"'lost' is no kind of event: expected put, .*, reverted$"):
        manifest.history(kinds=["lost"])


@pytest.mark.parametrize("merged", [False, True])
def test_the_events_of_several_contents_are_found_at_once(manifest: DownloadManifestManager, merged: bool) -> None:
    manifest.add_many([record("a"), record("b", 1), record("c", 2)])
    manifest.add(record("d", 3, derived_from=(sha("b"),)))
    if merged:
        manifest.compact()
    found = manifest.history(checksums=[sha("a"), sha("b"), sha("nowhere")])
    assert [event.checksum for event in found] == [sha("a"), sha("b"), sha("d")]


def test_of_no_contents_nothing_is_found(manifest: DownloadManifestManager) -> None:
    manifest.add(record("a"))
    assert list(manifest.history(checksums=[])) == []


def test_a_failing_source_is_named(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), ValueError("gone"), status=404)
    (found,) = manifest.failures()
    assert (found.source_id, found.error, found.status, found.attempts) == ("bad", "gone", 404, 1)


def test_a_source_that_has_recorded_something_since_is_not(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("src"), "gone")
    manifest.add(record("a"))
    assert manifest.failures() == []


def test_recovered_sources_are_shown_on_request(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("src"), "gone")
    manifest.add(record("a"))
    assert [one.succeeded is not None for one in manifest.failures(recovered=True)] == [True]


def test_many_failing_sources_are_read_at_once(manifest: DownloadManifestManager) -> None:
    for number in range(history._SOURCES_MAX + 1):
        manifest.fail(source(f"s{number}"), "gone")
    manifest.add(record("a", source="s0"))
    assert len(manifest.failures()) == history._SOURCES_MAX


def test_failures_since_a_time_keep_their_first_time(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), "gone")
    middle = datetime.now(UTC)
    manifest.fail(source(), "gone")
    manifest.fail(source("other"), "gone")
    (_, found) = manifest.failures(since=middle)
    assert found.attempts == 2


def test_failures_before_a_time_are_left_out(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), "gone")
    assert manifest.failures(since=soon()) == []


def test_failures_survive_a_compaction(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), "gone")
    before = manifest.failures()
    manifest.compact()
    assert manifest.failures() == before


def test_a_failed_input_is_named(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), "not JSON", inputs=[sha("in")])
    assert [one.inputs for one in manifest.failures()] == [(sha("in"),)]


def test_a_run_over_two_manifests_is_one(manifest: DownloadManifestManager, path: Path) -> None:
    other_path = path.with_name("b_parsed.manifest.json")
    with DownloadManifestManager(other_path, manifest.metadata, options=QUIET) as other, manifest.run("both") as run:
        with other.join_run(run.id):
            other.add(record("b"))
        found = history.runs([manifest, other])
    assert [(one.name, one.manifests) for one in found] == [("both", ("systems_download", "b_parsed"))]


def failing(manifest: DownloadManifestManager, days_from_now: float = 0) -> int:
    """What `status` counts, at this time."""
    return history.failing(manifest._engine, datetime.now(UTC) + timedelta(days=days_from_now))


def test_a_failing_source_is_counted(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("one"), "gone")
    manifest.fail(source("two"), "gone")
    manifest.fail(source("two"), "gone")
    assert failing(manifest) == 2


def test_a_source_that_has_recorded_something_since_is_not_counted(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("src"), "gone")
    manifest.add(record("a"))
    assert failing(manifest) == 0


def test_a_source_that_recorded_something_before_is_counted(manifest: DownloadManifestManager) -> None:
    manifest.add(record("a"))
    manifest.fail(source("src"), "gone")
    assert failing(manifest) == 1


def test_an_input_that_failed_is_counted_until_it_is_processed(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("src"), "gone", inputs=[sha("in")])
    manifest.add(record("a"))
    before = failing(manifest)
    manifest.add(record("b", 1, derived_from=(sha("in"),)))
    assert (before, failing(manifest)) == (1, 0)


def test_an_old_failure_is_not_counted(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), "gone")
    assert failing(manifest, history.FAILING_DAYS + 1) == 0


def test_a_later_failure_is_not_counted(manifest: DownloadManifestManager) -> None:
    manifest.fail(source(), "gone")
    assert failing(manifest, -1) == 0


def test_counting_stops_at_its_limit(manifest: DownloadManifestManager) -> None:
    for number in range(history.FAILING_MAX + 1):
        manifest.fail(source(f"s{number}"), "gone")
    assert failing(manifest) == history.FAILING_MAX


def recover(manifest: DownloadManifestManager, *names: str) -> None:
    """A run in which these sources answered that nothing has changed."""
    with manifest.run("nightly") as run:
        for name in names:
            run.unchanged(name, "set")


def test_a_source_that_is_unchanged_again_has_recovered(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("one"), "gone")
    manifest.fail(source("two"), "gone")
    recover(manifest, "one")
    assert ([one.source_id for one in manifest.failures()], failing(manifest)) == (["two"], 1)


def test_a_source_that_fails_after_it_recovered_is_failing(manifest: DownloadManifestManager) -> None:
    for name in ("one", "two"):
        manifest.fail(source(name), "gone")
    recover(manifest, "one", "two")
    manifest.fail(source("two"), "gone")
    assert ([one.source_id for one in manifest.failures()], failing(manifest)) == (["two"], 1)


def test_the_history_of_a_source_shows_the_run_in_which_it_recovered(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("one"), "gone")
    recover(manifest, "two", "one")
    found = manifest.history(source_id="one", dataset="set")
    assert [event.kind for event in found] == [EventKind.FAILED, EventKind.ENDED]


def test_many_sources_that_recover_at_once_are_told_from_those_that_do_not(manifest: DownloadManifestManager) -> None:
    names = [f"s{number}" for number in range(2 * history._SOURCES_MAX)]
    for name in [*names, "fetched", "again"]:
        manifest.fail(source(name), "gone")
    recover(manifest, *names[::2], "again")
    manifest.add(record("a", source="fetched"))
    manifest.fail(source("again"), "gone")
    expected = {*names[1::2], "again"}
    assert ({one.source_id for one in manifest.failures()}, failing(manifest)) == (expected, len(expected))


def test_only_a_source_that_was_failing_is_named(manifest: DownloadManifestManager) -> None:
    manifest.fail(source("one"), "gone")
    recover(manifest, "one", "two")
    recover(manifest, "one", "two")
    assert [event.recovered for event in manifest.history(kinds=["ended"])] == [(("one", "set"),), ()]


def test_a_run_counts_what_is_unchanged(manifest: DownloadManifestManager) -> None:
    recover(manifest, "one", "two")
    assert manifest.runs()[0].counts == {"unchanged": 2}
