"""A worker process with several tasks at once: threads, the loss of a worker with all its tasks, stops, limits."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import wait_until
from manifestlog import ManifestError
from manifestlog.workers.main import Job, work
from manifestlog.workers.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.workers.link import WorkerLink


class Heard:
    """What the pool reports; a task that has lost a worker is retried once."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.lost: Counter[Any] = Counter()

    def on_progress(self, news: Any) -> None:
        """Nothing is told."""

    def on_done(self, result: Any) -> None:
        self.results.append(result)

    def on_worker_died(self, task: Any, how: str) -> bool:
        self.lost[task] += 1
        if self.lost[task] == 1:
            return True
        self.results.append(f"{task}: {how}")
        return False


@contextmanager
def answering(do: Callable[[Any, WorkerLink], Any], link: WorkerLink) -> Iterator[Callable[[Any], Any]]:
    yield lambda task: do(task, link)


def run(
    do: Callable[[Any, WorkerLink], Any], tasks: Any, jobs: int, capacity: int, asked: Callable[[], int] = int
) -> Heard:
    """Run tasks in a pool; `do` is called in the worker."""
    heard = Heard()
    with Pool(work, Job(partial(answering, do), None, capacity), iter(tasks), jobs, capacity=capacity) as pool:
        pool.run(heard, asked)
    return heard


def meet(task: int, barrier: threading.Barrier) -> tuple[int, int]:
    barrier.wait(20)
    return task, os.getpid()


def test_a_worker_does_as_many_tasks_at_once_as_it_has_room_for() -> None:
    """Four tasks that wait for each other end in one process."""
    barrier = threading.Barrier(4)
    heard = run(lambda task, _: meet(task, barrier), range(8), 1, 4)
    assert (sorted(task for task, _ in heard.results), len({pid for _, pid in heard.results})) == ([*range(8)], 1)


def test_every_worker_has_a_task_before_any_has_two(tmp_path: Path) -> None:
    def do(task: int, _: WorkerLink) -> int:
        (tmp_path / str(task)).touch()
        wait_until(lambda: len(os.listdir(tmp_path)) == 3)
        return os.getpid()

    assert len(set(run(do, range(3), 3, 8).results)) == 3


def test_a_lost_worker_gives_all_its_tasks_back(tmp_path: Path) -> None:
    def do(task: int, _: WorkerLink) -> int:
        (tmp_path / str(task)).touch()
        wait_until(lambda: len(os.listdir(tmp_path)) >= 4)
        if task == 0 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    assert sorted(run(do, range(4), 1, 4).results) == [0, 1, 2, 3]


def test_only_the_task_that_kills_its_workers_has_failed(tmp_path: Path) -> None:
    """Those beside it lose two workers as well, and are then done without it."""
    both = threading.Barrier(2)

    def do(task: str, _: WorkerLink) -> str:
        tries = len(list(tmp_path.glob(f"{task}-*")))
        (tmp_path / f"{task}-{tries}").touch()
        if tries < 2:
            both.wait(20)
        if task == "bad":
            time.sleep(0.1)  # the other one is waiting as well
            os.kill(os.getpid(), signal.SIGKILL)
        elif tries < 2:
            signal.pause() if threading.current_thread() is threading.main_thread() else time.sleep(20)
        return task

    assert sorted(run(do, ["bad", "good"], 1, 2).results) == ["bad: was killed by SIGKILL", "good"]


def test_a_stop_reaches_every_thread(tmp_path: Path) -> None:
    """Threads that pause end within moments, and the run with them."""

    def do(task: int, link: WorkerLink) -> None:
        (tmp_path / str(task)).touch()
        link.stop.sleep(300)

    began = time.monotonic()
    heard = run(do, range(6), 2, 3, lambda: int(len(os.listdir(tmp_path)) == 6))
    assert (heard.results, time.monotonic() - began < 60) == ([], True)


def test_a_stop_wakes_what_waits_for_a_server(tmp_path: Path) -> None:
    def do(task: int, link: WorkerLink) -> None:
        woken = threading.Event()
        link.interrupt = woken.set
        (tmp_path / "started").touch()
        woken.wait(300)
        (tmp_path / "woken").touch()

    run(do, [1], 1, 2, lambda: int((tmp_path / "started").exists()))
    assert (tmp_path / "woken").exists()


def test_a_stop_does_not_wait_for_a_thread_that_cannot_be_woken(tmp_path: Path) -> None:
    def do(task: int, link: WorkerLink) -> None:
        with link.stop.interruptible():
            (tmp_path / "started").touch()
            time.sleep(300)

    began = time.monotonic()
    run(do, [1], 1, 2, lambda: int((tmp_path / "started").exists()))
    assert time.monotonic() - began < 60


def test_an_error_of_a_thread_ends_the_run() -> None:
    def do(task: int, _: WorkerLink) -> int:
        raise ManifestError(f"task {task}")

    with pytest.raises(ManifestError, match="task 0"):
        run(do, [0], 1, 2)


def test_a_thread_that_finds_no_room_leaves_its_task_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Each thread but the first lacks descriptors; everything is done, and said once."""
    first: list[int] = []

    def do(task: int, _: WorkerLink) -> int:
        first.append(threading.get_ident())
        if threading.get_ident() != first[0]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        time.sleep(0.01)
        return task

    assert sorted(run(do, range(20), 1, 4).results) == [*range(20)]
    assert caplog.text.count("the system cannot run") == 1


def test_without_room_for_any_thread_the_run_ends() -> None:
    def do(task: int, _: WorkerLink) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(ManifestError, match="no worker process can run"):
        run(do, range(4), 1, 4)
