"""Managers and records in other processes: handed over by pickle, opened there for themselves."""

from __future__ import annotations

import multiprocessing
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from manifestlog import AddResult, DownloadManifestManager, ManifestOptions, ManifestRecord, Verdict
from support.engines import engine_of

from .builders import QUIET, at, meta, record, sha

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from .conftest import Opener


def _add_there(manager: DownloadManifestManager, each: ManifestRecord, answers: SimpleQueue[object]) -> None:
    with manager:
        answers.put((manager.add(each), engine_of(manager).options))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_adds_through_a_manager_it_was_handed(manifest: DownloadManifestManager, method: str) -> None:
    """A manager handed to a fresh process writes to the same manifest, and the parent sees it."""
    context = multiprocessing.get_context(method)
    answers: SimpleQueue[object] = context.SimpleQueue()
    child = context.Process(target=_add_there, args=(manifest, record("a"), answers))  # type: ignore[attr-defined]
    child.start()
    child.join(30)
    answer = None if answers.empty() else answers.get()
    assert (answer, sha("a") in manifest) == ((AddResult(Verdict.NEW, record("a")), QUIET), True)


def test_in_the_same_process_it_is_the_same_object(manifest: DownloadManifestManager) -> None:
    """Unpickled where it is open, a manager is the one that is open."""
    with pickle.loads(pickle.dumps(manifest)) as again:
        assert again is manifest


def test_a_manager_remembers_its_options(manifest: DownloadManifestManager) -> None:
    """Unpickled where it is not open, a manager has the same options."""
    data = pickle.dumps(manifest)
    manifest.close()
    with pickle.loads(data) as again:
        assert engine_of(again).options == QUIET


def test_a_manager_remembers_being_read_only(opener: Opener) -> None:
    """A read-only manager is read-only where it is unpickled."""
    opener().close()
    manager = opener(None, read_only=True)
    data = pickle.dumps(manager)
    manager.close()
    with pickle.loads(data) as again, pytest.raises(Exception, match="read-only"):
        again.add(record("a"))


def test_a_manager_stamps_its_version_where_it_is_unpickled(opener: Opener) -> None:
    """The version of an opener with an older `etl_version` goes along, so that its children stamp it too."""
    opener(meta(etl_version="2.0.0")).close()
    manager = opener(meta(etl_version="1.5.0"))
    data = pickle.dumps(manager)
    manager.close()
    source = SimpleNamespace(source_id="src", dataset="set")
    event = SimpleNamespace(
        sha256=sha("a"), file_path="/raw/a", file_size_bytes=2, etag=None, ts_download_completed=at(0)
    )
    with pickle.loads(data) as again:
        assert again.add_from_event(source, event).record.version == "1.5.0"


def test_records_and_answers_are_picklable() -> None:
    """What goes in and comes out can cross a process pool."""
    answer = AddResult(Verdict.NEW, record("a"))
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_options_are_picklable() -> None:
    """Options can cross a process pool."""
    options = ManifestOptions(lock_timeout_s=1.5)
    assert pickle.loads(pickle.dumps(options)) == options


def test_a_fork_works_in_the_child(manifest: DownloadManifestManager) -> None:
    """A forked child uses the manager that it inherited, and the parent sees it."""
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_add_and_stay, args=(manifest,))
    child.start()
    child.join(30)
    manifest.add(record("b", 1))
    assert (child.exitcode, sorted(manifest)) == (0, sorted([sha("a"), sha("b")]))


def _add_and_stay(manager: DownloadManifestManager) -> None:
    manager.add(record("a"))
