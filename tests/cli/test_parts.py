"""The pieces that `add` and others are made of, called directly."""

from __future__ import annotations

import hashlib
import multiprocessing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cli.program import records_of
from manifestlog.cli import durations
from manifestlog.cli.ui import output
from manifestlog.ingest.hashing import ChangedError, digest
from manifestlog.ingest.walk import FileTask
from manifestlog.ingest.worker import Batch, IngestCounts, IngestJob, answering
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.verdict import Verdict
from manifestlog.workers.interrupts import Interrupts
from manifestlog.workers.main import Job, work
from manifestlog.workers.pool import Pool

if TYPE_CHECKING:
    from pathlib import Path


class Ear:
    def __init__(self) -> None:
        self.bytes = 0
        self.tallies: list[IngestCounts] = []

    def on_progress(self, news: int) -> None:
        self.bytes += news

    def on_done(self, result: IngestCounts) -> None:
        self.tallies.append(result)

    def on_worker_died(self, task: Batch, how: str) -> bool:
        raise AssertionError(f"{how}: {task}")


def job_of(path: Path) -> Job:
    return Job(partial(answering, IngestJob(str(path), None, "1.0.0", None)))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_start_in_every_way(filled: Path, tree: Path, method: str) -> None:
    (tree / "new.txt").write_bytes(b"new")
    batches = [[FileTask(str(r.file_path), r.source_id, r.dataset, r.file_size)] for r in records_of(tree)]
    ear = Ear()
    with (
        Interrupts() as interrupts,
        Pool(work, job_of(filled), iter(batches), 2, multiprocessing.get_context(method)) as pool,
    ):
        pool.run(ear, interrupts.asked)
    assert sum(tally.verdicts[Verdict.NEW] for tally in ear.tallies) == 1
    assert sum(sum(tally.verdicts.values()) for tally in ear.tallies) == 4
    assert ear.bytes == 9
    with DownloadManifestManager(filled, read_only=True) as manifest:
        assert len(manifest) == 4


def test_the_digest_is_that_of_the_file(tree: Path) -> None:
    heard: list[int] = []
    assert digest(str(tree / "sub" / "b.txt"), heard.append) == (hashlib.sha256(b"bb").hexdigest(), 2)
    assert sum(heard) == 2


def test_a_file_that_changes_while_it_is_read_is_rejected(tree: Path) -> None:
    path = tree / "a.txt"

    def grow(_: int) -> None:
        path.write_bytes(b"longer")

    with pytest.raises(ChangedError, match="changed"):
        digest(str(path), grow)


def test_a_file_that_is_replaced_or_removed_is_rejected(tree: Path) -> None:
    def replace(_: int) -> None:
        if (tree / ".hidden").exists():
            (tree / ".hidden").replace(tree / "a.txt")

    with pytest.raises(ChangedError):
        digest(str(tree / "a.txt"), replace)
    with pytest.raises(FileNotFoundError):
        digest(str(tree / "a.txt"), lambda _: (tree / "a.txt").unlink(missing_ok=True))
    with pytest.raises(ChangedError, match="no longer a regular file"):
        digest("/dev/null", lambda _: None)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1.5m", 90), ("2h", 7200), ("7d", 604800), ("1w", 604800)])
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert durations.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 h", "1y", "1h30m"])
def test_invalid_durations_are_rejected(text: str) -> None:
    assert durations.seconds(text) is None


def test_sizes_and_times_are_formatted() -> None:
    assert [output.human_bytes(n) for n in (0, 999, 1000, 1_234_567, 5e18)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 MB",
        "5000.0 PB",
    ]
    assert [output.human_seconds(s) for s in (0.0032, 41)] == ["3.2 ms", "41.0 s"]
    assert output.clean("a\nb\x1b\udcffé") == "a\\nb\\x1b\\udcffé"
