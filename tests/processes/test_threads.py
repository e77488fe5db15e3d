"""Threads that share one manager."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from manifestlog import ManifestOptions, Verdict
from support.integrity import load_canonical
from support.records import QUICK, checksum, make_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog import DownloadManifestManager

THREADS = 8
ADDS = 300
SHIFT = 75
NUMBERS = {t * SHIFT + n for t in range(THREADS) for n in range(ADDS)}


def add_all(manifest: DownloadManifestManager) -> list[tuple[int, Verdict]]:
    """Add overlapping records from every thread."""
    together = threading.Barrier(THREADS)

    def add(thread: int) -> list[tuple[int, Verdict]]:
        numbers = list(range(thread * SHIFT, thread * SHIFT + ADDS))
        random.Random(thread).shuffle(numbers)
        together.wait()
        return [(n, manifest.add(make_record(n)).verdict) for n in numbers]

    with ThreadPoolExecutor(THREADS) as pool:
        return [answer for answers in pool.map(add, range(THREADS)) for answer in answers]


@pytest.fixture(params=[QUICK, ManifestOptions(compact_interval_s=0.2)], ids=["alone", "beside compactions"])
def shared(
    request: pytest.FixtureRequest, open_manifest: Callable[..., DownloadManifestManager]
) -> DownloadManifestManager:
    return open_manifest(request.param)


def test_every_checksum_has_one_winner_among_threads(shared: DownloadManifestManager) -> None:
    """One thread is told that a record is new; the others that it is not."""
    verdicts = add_all(shared)
    assert Counter(n for n, verdict in verdicts if verdict is Verdict.NEW) == Counter(NUMBERS)


def test_threads_lose_nothing(shared: DownloadManifestManager) -> None:
    """Everything that they added is there, and in the canonical after a save."""
    add_all(shared)
    shared.save()
    assert set(shared) == set(load_canonical(shared.path)["records"]) == {checksum(n) for n in NUMBERS}


def test_opening_at_once_from_many_threads_gives_one_manager(
    open_manifest: Callable[..., DownloadManifestManager],
) -> None:
    """There is one manager a file in a process, also when threads race to open it."""
    together = threading.Barrier(THREADS)

    def open_it(_: int) -> int:
        together.wait()
        return id(open_manifest())

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(open_it, range(THREADS)))) == 1
