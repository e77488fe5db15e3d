"""Runs without worker processes: threads of the caller's process make the transfers, within the same limits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import children_of, finish, wait_until
from extract.builders import source
from extract.running import FAST, Here, pattern
from extract.test_connections import Counted, together, urls
from manifestlog import DownloadManifestManager, ManifestClosedError
from manifestlog.extract import Defaults, Finished, PipelineOrchestrator, Result
from support import answers
from support.records import QUICK, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.runs import Home
    from manifestlog.extract import Event
    from support.badserver import BadServer
    from support.children import Link, Start

BODY = pattern(1000)
MANY: dict[str, Any] = {"connections": 12}

STOPPED = """
import os, sys
from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata
from manifestlog.extract import Defaults, ETLSource, PipelineOrchestrator

metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=os.getcwd())
with DownloadManifestManager("systems_download.manifest.json", metadata) as manifest:
    sources = [ETLSource(source_id=url[-1], dataset="systems", url=url) for url in sys.argv[1:]]
    try:
        PipelineOrchestrator(manifest, data_dir="data", defaults=Defaults(jobs=1)).run(sources)
    except KeyboardInterrupt:
        print("interrupted")
"""


def sources_at(found: list[str]) -> list[Any]:
    return [source(url, source_id=url.rpartition("/")[2], dataset="systems") for url in found]


def run(here: Here, found: list[str], **defaults: Any) -> dict[str, int]:
    """Run the sources at these URLs; return the nonzero counts."""
    report = here.run(*sources_at(found), **MANY | defaults)
    return {str(result): count for result, count in report.counts.items() if count}


# -- many at once ------------------------------------------------------------------------------------------------------


def test_one_process_has_many_transfers_in_the_air(here: Here, bad: BadServer) -> None:
    assert run(here, urls(bad, 6, together(6))) == {"new": 6}


def test_it_starts_no_other_process(here: Here, bad: BadServer) -> None:
    before, seen = children_of(os.getpid()), []

    def look(exchange: Any) -> None:
        seen.append(children_of(os.getpid()))
        answers.whole(BODY)(exchange)

    run(here, urls(bad, 2, look))
    assert seen == [before, before]


def test_no_more_transfers_run_than_connections(here: Here, bad: BadServer) -> None:
    step = Counted()
    assert (run(here, urls(bad, 12, step), connections=3), step.most <= 3) == ({"new": 12}, True)


def test_no_more_transfers_run_to_one_host_than_it_may_have(here: Here, bad: BadServer) -> None:
    step = Counted()
    assert (run(here, urls(bad, 12, step), connections_per_host=2), step.most <= 2) == ({"new": 12}, True)


def test_a_source_that_waits_for_its_next_attempt_holds_up_no_other(here: Here, bad: BadServer) -> None:
    busy = bad.script("/busy", answers.status(500), answers.whole(BODY))
    others = urls(bad, 5, answers.whole(b"some"))
    assert sum(run(here, [busy, *others], connections=1, backoff_s=2.0).values()) == 6
    assert [request.path for request in bad.requests][:2] == ["/busy", "/a-0"]


def test_a_response_that_is_lost_holds_up_its_own_source_only(here: Here, bad: BadServer) -> None:
    """All others are through before it is asked for again, on a kept connection or on a new one."""
    lost = bad.script("/lost", answers.never_answers(), answers.whole(BODY))
    others = urls(bad, 30, answers.whole(b"some"))
    assert sum(run(here, [*others, lost], connections=2, timeout_read_s=2.0).values()) == 31
    assert ([request.path for request in bad.requests][-1], len(here.waits)) == ("/lost", 1)
    assert "no data within timeout_read_s" in here.waits[0].reason


def test_every_record_of_many_threads_arrives(here: Here, bad: BadServer) -> None:
    found = [bad.script(f"/{n}", answers.whole(pattern(1000, n))) for n in range(20)]
    assert run(here, found) == {"new": 20}
    assert len(here.manifest) == 20


def test_a_manifest_in_memory_has_many_transfers(tmp_path: Path, bad: BadServer) -> None:
    with DownloadManifestManager("memory:systems_download", metadata()) as manifest:
        here = Here(manifest, tmp_path / "data")
        assert run(here, urls(bad, 6, together(6)), jobs=2) == {"new": 6}
        here.check()


def _in_daemon(link: Link, path: Path, data_dir: Path, found: list[str]) -> dict[str, int]:
    multiprocessing.current_process()._config["daemon"] = True  # type: ignore[attr-defined]
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        return run(Here(manifest, data_dir), found, jobs=2)


def test_a_daemonic_process_has_many_transfers(path: Path, tmp_path: Path, bad: BadServer, start: Start) -> None:
    assert start(_in_daemon, path, tmp_path / "data", urls(bad, 6, together(6))).result() == {"new": 6}


# -- the caller --------------------------------------------------------------------------------------------------------


def test_events_come_in_the_callers_thread(manifest: DownloadManifestManager, tmp_path: Path, bad: BadServer) -> None:
    threads: set[int] = set()
    orchestrator = PipelineOrchestrator(
        manifest,
        data_dir=tmp_path / "data",
        defaults=Defaults(**FAST | MANY),
        on_event=lambda _: threads.add(threading.get_ident()),
    )
    orchestrator.run(sources_at(urls(bad, 4, answers.whole(BODY))))
    assert threads == {threading.get_ident()}


def test_an_error_of_the_caller_ends_the_run(manifest: DownloadManifestManager, tmp_path: Path, bad: BadServer) -> None:
    """What it raises comes out, and no thread goes on."""

    def fail(event: Event) -> None:
        if isinstance(event, Finished):
            raise RuntimeError("full")

    orchestrator = PipelineOrchestrator(
        manifest, data_dir=tmp_path / "data", defaults=Defaults(**FAST | MANY), on_event=fail
    )
    found = [bad.script("/quick", answers.whole(BODY)), *urls(bad, 3, answers.never_answers())]
    with pytest.raises(RuntimeError, match="full"):
        orchestrator.run(sources_at(found))
    assert transfers() == []


def test_a_manifest_that_fails_ends_the_run(manifest: DownloadManifestManager, tmp_path: Path, bad: BadServer) -> None:
    def close(exchange: Any) -> None:
        manifest.close()
        answers.whole(BODY)(exchange)

    found = [bad.script("/closes", close), *urls(bad, 3, answers.never_answers())]
    with pytest.raises(ManifestClosedError):
        run(Here(manifest, tmp_path / "data"), found)
    assert transfers() == []


def transfers() -> list[str]:
    """Return the threads of runs that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name == "transfer"]


def test_no_thread_is_left_after_a_run(here: Here, bad: BadServer) -> None:
    run(here, urls(bad, 6, together(6)))
    assert transfers() == []


# -- stops -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stoppable(tmp_path: Path, bad: BadServer) -> Iterator[PipelineOrchestrator]:
    """A run whose manifest cannot be shared with workers; its sources stall after 400 bytes the first time."""
    for name in "ab":
        stalls = answers.slow(BODY + name.encode(), 400, threading.Event(), '"e"')
        bad.script(f"/{name}", stalls, answers.whole(BODY + name.encode(), '"e"'))
    with DownloadManifestManager("memory:systems_download", metadata()) as manifest:
        yield PipelineOrchestrator(manifest, data_dir=tmp_path / "data", defaults=Defaults(**FAST | MANY))


def stopped(run: PipelineOrchestrator, tmp_path: Path, bad: BadServer) -> float:
    """Stop the run once both bodies stall; return how long it took to end."""
    began = 0.0

    def asked() -> int:
        nonlocal began
        if began or sum(path.stat().st_size for path in tmp_path.rglob("*.part")) < 800:
            return int(bool(began))
        began = time.monotonic()
        return 1

    report = run.run(sources_at([f"{bad.url}/a", f"{bad.url}/b"]), asked_to_stop=asked)
    assert (report.interrupted, report.outcomes) == (True, [])
    return time.monotonic() - began


def test_a_stop_ends_all_transfers_soon(stoppable: PipelineOrchestrator, tmp_path: Path, bad: BadServer) -> None:
    assert stopped(stoppable, tmp_path, bad) < 10
    assert transfers() == []


def test_the_next_run_of_a_stopped_orchestrator_resumes(
    stoppable: PipelineOrchestrator, tmp_path: Path, bad: BadServer
) -> None:
    stopped(stoppable, tmp_path, bad)
    report = stoppable.run(sources_at([f"{bad.url}/a", f"{bad.url}/b"]))
    assert [outcome.result for outcome in report.outcomes] == [Result.NEW, Result.NEW]
    assert report.bytes_fetched == 2 * (len(BODY) + 1 - 400)


def test_ctrl_c_ends_all_transfers_and_keeps_their_parts(home: Home, bad: BadServer) -> None:
    found = [bad.script(f"/{name}", answers.slow(BODY, 400, threading.Event(), '"e"')) for name in "ab"]
    process = home.start_python("-c", STOPPED, *found)
    wait_until(lambda: sum(path.stat().st_size for path in home.folder.rglob("*.part")) == 800)
    process.send_signal(signal.SIGINT)
    assert finish(process).out == "interrupted\n"
    assert sum(path.stat().st_size for path in home.folder.rglob("*.part")) == 800
