"""What a manager does beside its writer: compactions and syncs, neither of which waits for the other."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from cli.program import wait_until
from manifestlog import Durability, LockTimeoutError, ManifestOptions, Verdict
from manifestlog.engines.filelog.canonical import merge
from manifestlog.engines.filelog.compaction import background
from support.engines import engine_of
from support.integrity import active_segment, load_canonical
from support.records import checksum, make_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from manifestlog import DownloadManifestManager

INTERVAL = ManifestOptions(
    durability=Durability.INTERVAL, sync_interval_s=0.05, compact_log_bytes_min=1, compact_log_bytes_max=1
)
"""Each write is soon on the disk, and makes a compaction due."""


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes that were synced, in order."""
    seen: list[int] = []
    real = os.fdatasync

    def sync(fd: int) -> None:
        real(fd)
        seen.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fdatasync", sync)
    return seen


def add_and_wait_for_the_sync(manifest: DownloadManifestManager, number: int, synced: list[int]) -> None:
    """Add a record; returns when its segment has been synced after that."""
    before = len(synced)
    manifest.add(make_record(number))
    segment = active_segment(manifest.path).stat().st_ino
    wait_until(lambda: segment in synced[before:], 8)


def test_records_are_synced_while_a_compaction_continues(
    open_manifest: Callable[..., DownloadManifestManager], synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut may take does not grow with the canonical."""
    merging, enough, real = threading.Event(), threading.Event(), merge.write

    def write(*args: Any) -> Any:
        merging.set()
        enough.wait(20)
        return real(*args)

    monkeypatch.setattr(merge, "write", write)
    manifest = open_manifest(INTERVAL)
    manifest.add(make_record(0))
    assert merging.wait(20)
    try:
        add_and_wait_for_the_sync(manifest, 1, synced)
    finally:
        enough.set()


def test_records_are_synced_after_a_compaction_has_failed(
    open_manifest: Callable[..., DownloadManifestManager], synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again much later; a sync is not."""
    failed = threading.Event()

    def compact(_store: object) -> NoReturn:
        failed.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(background, "compact", compact)
    manifest = open_manifest(INTERVAL)
    manifest.add(make_record(0))
    assert failed.wait(20)
    add_and_wait_for_the_sync(manifest, 1, synced)


def rest_after(monkeypatch: pytest.MonkeyPatch, error: Exception, *, share: int) -> float:
    """How long nothing is done when an attempt has failed with this after three seconds."""
    now = [100.0]

    def fail() -> NoReturn:
        now[0] += 3
        raise error

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    loop = background._Loop("a_b.manifest.json", fail, lambda: 1.0, failed_s=15.0, share=share)
    assert loop._round()
    return loop._wait_s()


def test_a_compaction_that_fails_costs_no_more_than_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has failed after three seconds is not tried again for five minutes."""
    assert rest_after(monkeypatch, OSError(28, "No space left on device"), share=100) == 300


def test_a_compaction_that_only_waited_is_retried_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a lock costs nobody anything."""
    assert rest_after(monkeypatch, LockTimeoutError("a_b.manifest.lock", 3.0, None), share=100) == 15


def test_a_sync_that_fails_is_retried_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it has taken: what a power cut may take does not depend on that."""
    assert rest_after(monkeypatch, OSError(5, "Input/output error"), share=0) == 15


def test_failed_work_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is too long, and stays it: that is no reason."""
    loop = background._Loop("a_b.manifest.json", lambda: 1 / 0, lambda: 1.0, failed_s=15.0)
    loop._round()
    loop.wake()
    assert not loop._wake.is_set()


@pytest.mark.parametrize("interval_s", [1e11, float("inf")])
def test_a_huge_interval_does_not_end_the_thread(
    open_manifest: Callable[..., DownloadManifestManager], interval_s: float
) -> None:
    """It is how one says never; the log's limit still holds."""
    options = ManifestOptions(compact_interval_s=interval_s, compact_log_bytes_min=1, compact_log_bytes_max=1)
    manifest = open_manifest(options)
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in load_canonical(manifest.path)["records"])
    manifest.add_many([make_record(1)])
    wait_until(lambda: checksum(1) in load_canonical(manifest.path)["records"])


def test_an_interrupted_fork_ends_no_periodic_work(open_manifest: Callable[..., DownloadManifestManager]) -> None:
    """Ctrl-C in the hook before it: the system forks all the same, and calls no hook of ours after it."""
    manifest = open_manifest(ManifestOptions(compact_log_bytes_min=1, compact_log_bytes_max=1))
    manifest.add(make_record(0))
    interrupted = mock.patch.object(engine_of(manifest).session, "before_fork", side_effect=KeyboardInterrupt)
    with interrupted, pytest.raises(KeyboardInterrupt):
        engine_of(manifest).before_fork()
    manifest.add(make_record(1))
    wait_until(lambda: checksum(1) in load_canonical(manifest.path)["records"])


def test_no_failure_ends_the_thread(
    open_manifest: Callable[..., DownloadManifestManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a bug of ours."""
    calls: list[object] = []

    def compact(store: object) -> None:
        calls.append(store)
        if len(calls) == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(background, "compact", compact)
    manifest = open_manifest(
        ManifestOptions(
            compact_log_bytes_min=1, compact_log_bytes_max=1, compact_interval_s=0.2, compact_time_share=1.0
        )
    )
    manifest.add(make_record(0))
    wait_until(lambda: len(calls) > 1)


def refuse(_thread: object) -> NoReturn:
    """Stands in for `Thread.start` on a system that starts no more of them."""
    raise RuntimeError("can't start new thread")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_threads")
def test_a_record_is_added_where_no_thread_can_be_started(
    open_manifest: Callable[..., DownloadManifestManager],
) -> None:
    """It is in the log by then, whoever compacts that."""
    manifest = open_manifest(ManifestOptions())
    assert [manifest.add(make_record(n)).verdict for n in range(2)] == [Verdict.NEW] * 2


def test_the_thread_is_started_later(
    open_manifest: Callable[..., DownloadManifestManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write in a bad moment is not the end of it."""
    monkeypatch.setattr(background, "_NO_THREAD_S", 0.0)
    manifest = open_manifest(ManifestOptions(compact_log_bytes_min=1, compact_log_bytes_max=1))
    with monkeypatch.context() as bad_moment:
        bad_moment.setattr(threading.Thread, "start", refuse)
        manifest.add(make_record(0))
    manifest.add(make_record(1))
    wait_until(lambda: checksum(1) in load_canonical(manifest.path)["records"])
