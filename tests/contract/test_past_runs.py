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

from manifestlog import DownloadManifestManager, EventKind, RunOutcome, history

from .builders import QUIET, record, sha

if TYPE_CHECKING:
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


def test_runs_survive_a_compaction(manifest: DownloadManifestManager) -> None:
    with manifest.run("nightly"):
        manifest.add(record("a"))
    before = manifest.runs()
    manifest.compact()
    assert manifest.runs() == before


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
