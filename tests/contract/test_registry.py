"""One manager for a file and process: who meets whom, and what may not differ."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestClosedError,
    ManifestInUseError,
    ManifestOptions,
    ProcessedManifestManager,
)
from manifestlog.open_managers import Entry, OpenManagers

from .builders import META, QUIET, meta, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.protocol import Engine

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


def test_the_same_arguments_give_the_same_object(opener: Opener) -> None:
    """Asking again for the same gives the same object."""
    assert opener() is opener()


def test_asking_without_options_or_metadata_gives_the_same_object(opener: Opener) -> None:
    """No options and no metadata mean whatever is open."""
    manager = opener()
    assert opener(None, options=None) is manager


def test_equal_options_give_the_same_object(opener: Opener) -> None:
    """Options are compared by value."""
    assert opener() is opener(options=replace(QUIET))


def test_equal_metadata_give_the_same_object(opener: Opener) -> None:
    """Metadata are compared by what they ask for, not by when they were made."""
    assert opener() is opener(META.model_copy(update={"ts_created": META.ts_created.replace(year=2024)}))


def test_a_path_with_dots_meets_the_open_manager(opener: Opener, path: Path) -> None:
    """`a/../b` is the same file."""
    (path.parent / "a").mkdir()
    manager = opener()
    assert opener(None, path=path.parent / "a" / ".." / path.name) is manager


def test_a_text_path_meets_the_open_manager(opener: Opener, path: Path) -> None:
    """A path may be text."""
    manager = opener()
    with DownloadManifestManager(str(path)) as again:
        assert again is manager


def test_a_relative_path_meets_the_open_manager(opener: Opener, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is the same file."""
    manager = opener()
    monkeypatch.chdir(path.parent)
    assert opener(None, path=Path(path.name)) is manager


def test_a_linked_directory_meets_the_open_manager(opener: Opener, path: Path, tmp_path: Path) -> None:
    """A symbolic link to the directory leads to the same file."""
    manager = opener()
    (tmp_path / "link").symlink_to(path.parent)
    assert opener(None, path=tmp_path / "link" / path.name) is manager


@pytest.mark.files_only
def test_a_linked_file_meets_the_open_manager(opener: Opener, tmp_path: Path) -> None:
    """A symbolic link to the file, of any name, leads to the same file."""
    manager = opener()
    link = tmp_path / "alias_download.manifest.json"
    link.symlink_to(manager.path)
    assert opener(None, path=link) is manager


def test_the_path_has_its_links_resolved(opener: Opener, path: Path, tmp_path: Path) -> None:
    """A manager opened through a link knows where its file really is."""
    (tmp_path / "link").symlink_to(path.parent)
    assert opener(path=tmp_path / "link" / path.name).path == Path(os.path.realpath(path))


def test_two_files_are_two_managers(opener: Opener, path: Path) -> None:
    """Two manifests in one directory have nothing to do with each other."""
    other = opener(path=path.with_name("bodies_download.manifest.json"))
    opener().add(record("a"))
    assert len(other) == 0


@pytest.mark.parametrize(
    ("ask", "word"),
    [
        (ProcessedManifestManager, "class"),
        (lambda path: DownloadManifestManager(path, options=ManifestOptions()), "options"),
        (lambda path: DownloadManifestManager(path, read_only=True), "read_only"),
        (lambda path: DownloadManifestManager(path, meta(etl_version="2.0.0")), "metadata"),
        (lambda path: DownloadManifestManager(path, meta(root_dir=Path("/other"))), "metadata"),
        (lambda path: DownloadManifestManager(path, meta(process=ETLProcess.LOADER)), "metadata"),
    ],
    ids=["class", "options", "read_only", "etl_version", "root_dir", "process"],
)
def test_other_arguments_are_an_error_that_names_the_difference(
    manifest: DownloadManifestManager, ask: Callable[[str], object], word: str
) -> None:
    """Another class, options, read_only or metadata is `ManifestInUseError` saying which."""
    with pytest.raises(ManifestInUseError, match=word):
        ask(manifest.location.display)


def test_other_arguments_do_not_affect_the_open_manager(manifest: DownloadManifestManager) -> None:
    """After a refusal, the open manager goes on."""
    with pytest.raises(ManifestInUseError):
        DownloadManifestManager(manifest.location.display, read_only=True)
    assert manifest.add(record("a")).record == record("a")


def test_a_subclass_is_another_class(manifest: DownloadManifestManager) -> None:
    """A subclass is not the class that is open."""

    class Mine(DownloadManifestManager):
        """One's own kind."""

    with pytest.raises(ManifestInUseError, match="class"):
        Mine(manifest.location.display)


def test_after_close_a_new_manager_is_created(opener: Opener) -> None:
    """A closed manager is not given out again."""
    first = opener()
    first.close()
    assert opener() is not first


@pytest.mark.files_only
def test_after_close_other_arguments_are_accepted(opener: Opener) -> None:
    """After a close, the file may be opened in another way."""
    opener().close()
    assert len(opener(None, read_only=True)) == 0


def test_close_may_be_called_again(manifest: DownloadManifestManager) -> None:
    """Closing a closed manager is no error."""
    manifest.close()
    manifest.close()


def test_closing_an_old_manager_leaves_the_new_one_alone(opener: Opener) -> None:
    """A second close of an old manager does not close its successor."""
    old = opener()
    old.close()
    new = opener()
    old.close()
    assert opener() is new


def test_one_holder_does_not_close_it_for_another(opener: Opener) -> None:
    """Who opened it goes on, whoever else has opened and closed it."""
    mine = opener()
    with opener():
        pass
    assert mine.add(record("a")).verdict == "new"


def test_the_last_holder_closes_it(opener: Opener) -> None:
    """As many closes as openings end it."""
    mine, other = opener(), opener()
    mine.close()
    other.close()
    with pytest.raises(ManifestClosedError):
        len(mine)


def _closed_in_child(manager: DownloadManifestManager, answers: Any) -> None:
    with manager:
        pass
    try:
        len(manager)
    except ManifestClosedError:
        answers.put("closed")
    else:
        answers.put("open")


def test_a_forked_child_holds_it_once(opener: Opener) -> None:
    """Those who hold it in the parent are not there to close it in the child."""
    manager, _ = opener(), opener()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_closed_in_child, args=(manager, answers))
    child.start()
    child.join()
    assert answers.get() == "closed"


def test_a_rejected_opening_is_not_a_holder(manifest: DownloadManifestManager) -> None:
    """Who did not get it has nothing to close."""
    with pytest.raises(ManifestInUseError):
        DownloadManifestManager(manifest.location.display, read_only=True)
    manifest.close()
    with pytest.raises(ManifestClosedError):
        len(manifest)


def test_a_context_closes(opener: Opener) -> None:
    """Leaving the `with` block closes."""
    with opener() as manager:
        pass
    with pytest.raises(ManifestClosedError):
        len(manager)


def test_a_context_closes_after_an_error(opener: Opener) -> None:
    """Leaving the `with` block by an error closes too, and the error goes on."""
    with pytest.raises(ZeroDivisionError), opener() as manager:
        raise ZeroDivisionError
    with pytest.raises(ManifestClosedError):
        len(manager)


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.add(record("a")),
        lambda m: m.add_many([record("a")]),
        lambda m: m.forget(sha("a")),
        lambda m: m.update(sha("a"), {"checksum": sha("a"), "etag": None, "file_path": "/x", "file_size": 1}),
        lambda m: m.get(sha("a")),
        lambda m: m.has_checksum(sha("a")),
        lambda m: m.has_many([sha("a")]),
        lambda m: m.get_record_by_source("src"),
        lambda m: m.refresh(),
        lambda m: m.compact(),
        lambda m: m.save(),
        lambda m: m.metadata,
        list,
        lambda m: list(m.records.items()),
        len,
    ],
)
def test_a_closed_manager_refuses(
    manifest: DownloadManifestManager, use: Callable[[DownloadManifestManager], object]
) -> None:
    """Whatever is asked of a closed manager, it says that it is closed."""
    manifest.close()
    with pytest.raises(Exception) as refused:  # noqa: PT011 -- add_many wraps it
        use(manifest)
    error = refused.value
    assert isinstance(getattr(error, "cause", error), ManifestClosedError)


def test_threads_that_open_at_once_get_one_object(path: Path) -> None:
    """Eight threads that open one new manifest at once meet in one manager."""
    found: list[DownloadManifestManager] = []
    gate = threading.Barrier(8)

    def open_it() -> None:
        gate.wait()
        found.append(DownloadManifestManager(path, META, options=QUIET))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for manager in found:
        manager.close()
    assert len({id(manager) for manager in found}) == 1


def test_threads_share_a_manager(manifest: DownloadManifestManager) -> None:
    """Four threads that add at once lose nothing."""

    def fill(name: str) -> None:
        for number in range(100):
            manifest.add(record(f"{name} {number}", number, source=name))

    threads = [threading.Thread(target=fill, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(manifest) == 400


def test_a_failed_opening_leaves_nothing_open(opener: Opener, path: Path) -> None:
    """A refused opening does not stand in the way of the next."""
    opener().close()
    with pytest.raises(Exception, match="process"):
        DownloadManifestManager(path, meta(process=ETLProcess.LOADER), options=QUIET)
    assert opener().metadata.process is ETLProcess.EXTRACTOR


class Unlucky:
    """An engine whose hook fails after a fork, and its manager."""

    def __init__(self) -> None:
        self.released = False

    def before_fork(self) -> None:
        """Nothing to halt."""

    def after_fork_in_parent(self) -> None:
        self.released = True
        raise RuntimeError("can't start new thread")

    def after_fork_in_child(self) -> None:
        """Nothing to drop."""

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def unlucky() -> list[Unlucky]:
    """Two of them, after a fork."""
    registry, managers = OpenManagers(), [Unlucky(), Unlucky()]
    registry._hooked = True
    for number, manager in enumerate(managers):
        registry.add(f"/nowhere/a_{number}", Entry(manager, cast("Engine", manager)))
    registry._before_fork()
    with pytest.raises(RuntimeError):
        registry._after_fork_in_parent()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(registry.lock.acquire, blocking=False).result()
    return managers


def test_a_manager_that_fails_after_a_fork_holds_up_no_other(unlucky: list[Unlucky]) -> None:
    """Each is let go again, and so is the registry."""
    assert [manager.released for manager in unlucky] == [True, True]
