"""Whoever looks is told how far a long operation has come; nobody else notices."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ProcessedManifestManager, maintenance, progress
from manifestlog.engines.filelog.canonical import turn
from manifestlog.files import disk
from manifestlog.names import resolve
from manifestlog.progress import Step
from support.records import NAME

from .builders import META, QUIET, record

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 200


class EnoughError(Exception):
    """Somebody has seen enough."""


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small file be one of many blocks."""
    monkeypatch.setattr(disk, "BLOCK_BYTES", 4096)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A manifest with records in the canonical, in the log and in the history."""
    path = tmp_path / NAME
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add_many([record(f"p{n:03}", n) for n in range(COUNT)])
        manager.compact()
        manager.add(record("log", 999))
    return path


def opened(path: Path) -> None:
    DownloadManifestManager(path, options=QUIET, read_only=True).close()


def without_index(path: Path) -> None:
    Path(resolve(path).index).unlink()


def of_another_tool(path: Path) -> None:
    document = json.loads(path.read_bytes())
    for other in path.parent.glob("*.manifest.*"):
        other.unlink()
    path.write_text(json.dumps(document, indent=4))


def copied(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def steps_of(act: Callable[[], object]) -> list[Step]:
    steps: list[Step] = []
    with progress.shown(steps.append):
        act()
    return steps


def check_steps(steps: list[Step], path: Path) -> None:
    """Up to the last byte of this file, in many steps."""
    found = [step for step in steps if step.path == str(path)]
    assert (len(found) > 5, found[-1].ends) == (True, True)


@pytest.mark.parametrize("change", [without_index, of_another_tool, copied])
def test_opening_that_reads_everything_tells_how_far_it_is(path: Path, change: Callable[[Path], None]) -> None:
    change(path)
    check_steps(steps_of(lambda: opened(path)), path)


def test_opening_with_an_index_has_nothing_to_tell(path: Path) -> None:
    assert steps_of(lambda: opened(path)) == []


def test_check_tells_how_far_it_is(path: Path) -> None:
    check_steps(steps_of(lambda: maintenance.check(path)), path)


def test_check_tells_of_log_and_history_as_well(path: Path) -> None:
    told = {Path(step.path).name for step in steps_of(lambda: maintenance.check(path))}
    assert {Path(resolve(path).segment(number)).name for number in (1, 2)} <= told


def test_repair_tells_how_far_it_is(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"dataset":"', b'"dataset":"x', 1))
    assert [step for step in steps_of(lambda: maintenance.repair(path, dry_run=True)) if step.path == str(path)]


def test_reading_everything_tells_how_many_records_there_are(path: Path) -> None:
    with DownloadManifestManager(path, options=QUIET) as manager:
        steps = steps_of(lambda: list(manager.records.values()))
    assert (steps[-1].done, steps[-1].total) == (COUNT + 1, COUNT + 1)


def test_pending_tells_how_far_it_is(path: Path) -> None:
    outputs = path.with_name("x_clean.manifest.json")
    with (
        DownloadManifestManager(path, options=QUIET) as upstream,
        ProcessedManifestManager(outputs, META, options=QUIET) as made,
    ):
        made.add(record("out", 1))
        steps = steps_of(lambda: list(made.pending(upstream)))
    assert {step.path for step in steps} == {str(outputs), str(path)}


def test_the_innermost_one_is_told(path: Path) -> None:
    without_index(path)
    outer: list[Step] = []
    with progress.shown(outer.append), progress.shown(None):
        opened(path)
    assert outer == []


def test_nobody_is_told_what_another_thread_does(path: Path) -> None:
    without_index(path)

    def elsewhere() -> None:
        thread = threading.Thread(target=opened, args=(path,))
        thread.start()
        thread.join()

    assert steps_of(elsewhere) == []


def test_whoever_looks_may_end_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest can be opened again at once."""
    monkeypatch.setattr(turn, "BYTES_MIN", 1)
    without_index(path)

    def stop(step: Step) -> None:
        raise EnoughError(step.path)

    with progress.shown(stop), pytest.raises(EnoughError):
        DownloadManifestManager(path, options=QUIET)
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert len(manager) == COUNT + 1


def test_who_waits_for_another_process_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "BYTES_MIN", 1)
    without_index(path)
    paths = resolve(path)
    with turn.Turn(paths) as other:
        other.take(1 << 20)
        monkeypatch.setattr(time, "sleep", lambda _seconds: other.end())
        steps = steps_of(lambda: DownloadManifestManager(path, options=QUIET).close())
    assert (steps[0].what, steps[0].total) == ("waiting for another process that reads", 0)
