"""Several files are made durable at once: all of them, and each error is that of its path."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from manifestlog.stages import syncing

if TYPE_CHECKING:
    from pathlib import Path

PATHS = [f"{number}" for number in range(40)]
counts = pytest.mark.parametrize("count", [0, 1, syncing.THREADS_FROM, len(PATHS)])


@counts
def test_every_path_is_synced_once(count: int) -> None:
    seen: list[str] = []
    syncing.sync_all(seen.append, PATHS[:count])
    assert sorted(seen) == sorted(PATHS[:count])


@counts
def test_an_error_is_that_of_its_path(count: int) -> None:
    def sync(path: str) -> None:
        if path in ("0", "17"):
            raise OSError(path)

    found = syncing.sync_all(sync, PATHS[:count])
    assert {path: str(error) for path, error in found.items()} == {
        one: one for one in ("0", "17") if one in PATHS[:count]
    }


def test_many_are_synced_at_the_same_time() -> None:
    together = threading.Barrier(4)
    assert syncing.sync_all(lambda _: bool(together.wait(10)), PATHS[:4]) == {}  # type: ignore[arg-type]


def test_few_need_no_thread() -> None:
    seen = set()
    syncing.sync_all(lambda _: seen.add(threading.current_thread()), PATHS[: syncing.THREADS_FROM - 1])
    assert seen == {threading.main_thread()}


def test_a_system_that_refuses_threads_syncs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    seen: set[str] = set()
    assert syncing.sync_all(seen.add, PATHS) == {}
    assert seen == set(PATHS)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    from manifestlog.files import disk

    assert list(syncing.sync_all(disk.sync_file, [str(tmp_path / "gone")])) == [str(tmp_path / "gone")]
