"""A run that the manifest ends: what was registered before is kept, and reported with the time that it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from extract.builders import source
from extract.runs import entry
from manifestlog import DownloadManifestManager, LockTimeoutError, ManifestOptions
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.extract import Defaults, PipelineOrchestrator
from manifestlog.names import resolve
from support import answers
from support.records import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.runs import Home
    from support.badserver import BadServer, Exchange

IMPATIENT_S = 0.3


@pytest.fixture
def lock(home: Home) -> Iterator[FileLock]:
    """The append lock of the manifest, as another process would hold it."""
    with DownloadManifestManager(home.manifest, metadata()):
        pass
    found = FileLock(resolve(home.manifest).append_lock, 0)
    yield found
    found.close()


@pytest.fixture
def configured(home: Home, lock: FileLock, bad: BadServer) -> Home:
    """Two sources, one after the other. Once the second one is asked for, somebody holds the lock."""

    def hold(exchange: Exchange) -> None:
        assert lock.try_acquire()
        answers.whole(b"second")(exchange)

    first = entry(bad.script("/1", answers.whole(b"first")))
    home.configure(first, entry(bad.script("/2", hold)), jobs=1, connections=1)
    return home


def test_the_table_has_the_time_that_the_run_took(configured: Home) -> None:
    found = Program(configured.folder).here("extract", "etl.config.json", "--lock-timeout", IMPATIENT_S)
    assert (found.code, "in 0.0 ms" in found.out) == (LockTimeoutError.exit_code, False)
    assert "new              1" in found.out


def test_the_report_has_the_time_that_the_run_took(configured: Home) -> None:
    found = Program(configured.folder).here("extract", "etl.config.json", "--json", "--lock-timeout", IMPATIENT_S)
    assert (found.code, found.json["new"], found.json["seconds"] >= IMPATIENT_S) == (11, 1, True)


def test_a_run_that_cannot_begin_has_no_outcomes_of_the_one_before(
    home: Home, lock: FileLock, bad: BadServer, tmp_path: Path
) -> None:
    url = bad.script("/1", answers.whole(b"first", '"v"'))
    options = ManifestOptions(lock_timeout_s=IMPATIENT_S)
    with DownloadManifestManager(home.manifest, options=options) as manifest:
        orchestrator = PipelineOrchestrator(manifest, data_dir=tmp_path / "data", defaults=Defaults(jobs=1))
        orchestrator.run([source(url=url)])
        assert lock.try_acquire()
        with pytest.raises(LockTimeoutError):
            orchestrator.run([source(url=url)])
        lock.release()
    assert (orchestrator.report.outcomes, orchestrator.report.seconds >= IMPATIENT_S) == ([], True)
