"""Files that are here are hashed and registered, by several processes that share the manifest directly.

Invariants:

- A file that cannot be registered is in the report and stops no other; an error of the manifest itself ends the run.
- What a batch has registered is kept, whatever ends the run.

How a run is shown is not known here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path

from manifestlog import names
from manifestlog.ingest.index_file import ListedFile
from manifestlog.ingest.report import Began, Event, IngestReport
from manifestlog.ingest.target import prepare
from manifestlog.ingest.walk import Failure, FileTask, Found, Naming, Skipped, SkipReason, find, find_listed
from manifestlog.ingest.worker import Batch, IngestCounts, IngestJob, answering
from manifestlog.options import ManifestOptions
from manifestlog.workers.batching import batches
from manifestlog.workers.events import Progress, WorkersStarted
from manifestlog.workers.main import Job, see_through
from manifestlog.workers.pool import usable_cpus

_BATCH_FILES_MAX = 32
"""Files whose records share one line and one sync; few enough that a small tree still keeps every process busy."""
_BATCH_BYTES_MAX = 16 << 20

OnEvent = Callable[[Event], None]


class EmptyFiles(StrEnum):
    """What becomes of empty files, which no record can be of."""

    SKIP = "skip"
    ERROR = "error"


def _nobody(_: Event) -> None:
    """Nobody listens."""


def run(
    manifest: str | os.PathLike[str],
    files: Iterable[str | os.PathLike[str]] = (),
    *,
    listed: Iterable[ListedFile] = (),
    source_id: str | None = None,
    dataset: str | None = None,
    etl_version: str | None = None,
    root_dir: str | os.PathLike[str] | None = None,
    empty: EmptyFiles = EmptyFiles.SKIP,
    jobs: int | None = None,
    options: ManifestOptions | None = None,
    on_event: OnEvent | None = None,
    asked_to_stop: Callable[[], int] | None = None,
    initializer: Callable[[], None] | None = None,
) -> IngestReport:
    """Hash files and register them in the manifest at this path, which is made where it is missing.

    `files` are files, and folders with all that is in them; `listed` are files of which more is known (`read_index`). Without
    `source_id` each file's path below the folder given is its source, without `dataset` the folder's name its dataset.
    `root_dir` is stated as the manifest's root: files below it are recorded relative to it. `jobs` is the number of worker
    processes, one a CPU without it; with 1, and in a daemonic process (a worker of Celery, say), everything happens
    in this process, unless `asked_to_stop` is given.

    `on_event` is called in this process with every event. `asked_to_stop` is looked at often: from 1 on the run ends soon and
    registers what it has hashed, from 2 on at once. Every worker process calls `initializer` first, to set up its logging for
    instance; where processes are not forked it must be picklable.

    The manifest must not be open in this process in another way. Raises `ManifestError` when it cannot go on, and `ValueError`
    for a name that cannot be recorded; what landed before is kept, and in the report of the event `Began`.
    """
    path = Path(manifest)
    wanted, own = Naming(_recordable("source_id", source_id), _recordable("dataset", dataset)), names.resolve(path)
    root = None if root_dir is None else _recordable("root_dir", os.fspath(root_dir))
    target = prepare(path, options, _recordable("etl_version", etl_version), root)
    given, known = [os.fspath(file) for file in files], list(listed)
    report = IngestReport(created=target.created)
    found = _Run(
        report, lambda: chain(find(given, wanted, own), find_listed(known, wanted, own)), empty, on_event or _nobody
    )
    job = IngestJob(str(path.absolute()), target.metadata, target.version, options)
    (on_event or _nobody)(Began(str(path), report))
    found.see_through(Job(partial(answering, job), initializer), jobs or usable_cpus(), asked_to_stop)
    return report


def _recordable(name: str, text: str | None) -> str | None:
    if text == "":
        raise ValueError(f"{name} must not be empty; leave it out for the default")
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is not UTF-8, and could not be recorded") from None
    return text


class _Run:
    """One run over the files: what was found, and what came of it."""

    def __init__(
        self,
        report: IngestReport,
        find: Callable[[], Iterator[Found]],
        empty: EmptyFiles,
        on_event: OnEvent,
    ) -> None:
        self._report, self._find, self._empty = report, find, empty
        self._on_event = on_event

    def see_through(self, job: Job, jobs: int, asked_to_stop: Callable[[], int] | None) -> None:
        began = time.perf_counter()
        tasks = batches(
            self._to_hash(), items_max=_BATCH_FILES_MAX, bytes_max=_BATCH_BYTES_MAX, size_of=lambda task: task.size
        )
        try:
            see_through(
                job,
                tasks,
                self,
                jobs,
                name="manifestlog-add",
                on_start=lambda: self._on_event(WorkersStarted(self._total_bytes)),
                asked_to_stop=asked_to_stop,
            )
        finally:
            self._report.seconds = time.perf_counter() - began
            self._report.interrupted = asked_to_stop is not None and asked_to_stop() > 0

    def _total_bytes(self, enough: threading.Event) -> int:
        total = 0
        for found in self._find():
            if enough.is_set():
                break
            total += found.size if isinstance(found, FileTask) else 0
        return total

    def _to_hash(self) -> Iterator[FileTask]:
        for one in self._find():
            if isinstance(one, FileTask):
                yield one
            elif isinstance(one, Failure):
                self._fail(one)
            elif one.why is SkipReason.EMPTY and self._empty is EmptyFiles.ERROR:
                self._fail(Failure(one.path, "empty, not registered"))
            else:
                self._skip(one)

    def _skip(self, one: Skipped) -> None:
        self._report.skipped[one.why] += 1
        self._on_event(one)

    def _fail(self, failure: Failure) -> None:
        self._report.failures.append(failure)
        self._on_event(failure)

    # -- what the workers tell ---------------------------------------------------------------------------------------

    def on_progress(self, news: int) -> None:
        self._on_event(Progress(news))

    def on_done(self, result: IngestCounts) -> None:
        for verdict, number in result.verdicts.items():
            self._report.verdicts[verdict] += number
        self._report.bytes += result.bytes
        for failure in result.failures:
            self._fail(failure)

    def on_worker_died(self, task: Batch, how: str) -> bool:
        """Its files are told, and not given to another worker that might die of them, too."""
        for file in task:
            self._fail(Failure(file.path, f"not registered: the worker that had it {how}; add it again"))
        return False
