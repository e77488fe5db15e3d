"""Hashes and registers existing files, in several processes that share the manifest.

Invariants:

- A file that cannot be registered is reported, and does not stop the others. An error of the manifest ends the run.
- A registered batch is kept, whatever ends the run.

It does not know how a run is displayed.
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
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.verdict import Verdict
from manifestlog.options import ManifestOptions
from manifestlog.run import Run as EventsOfRun
from manifestlog.workers.batching import batches
from manifestlog.workers.events import Progress, WorkersStarted
from manifestlog.workers.main import Job, run_tasks
from manifestlog.workers.pool import usable_cpus

_BATCH_FILES_MAX = 32
"""Files whose records share one line and one sync. The number is low, so that a small tree keeps every process busy."""
_BATCH_BYTES_MAX = 16 << 20

OnEvent = Callable[[Event], None]


class EmptyFiles(StrEnum):
    """How to treat empty files, which a manifest cannot record."""

    SKIP = "skip"
    ERROR = "error"


def _nobody(_: Event) -> None:
    """Ignore an event."""


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
    """Hash files and register them in the manifest at this path. Creates the manifest if needed.

    `files` are files, and directories to add recursively; `listed` are files with metadata (`read_index`). The default
    `source_id` is each file's path below the given directory, and the default `dataset` the directory's name.
    `root_dir` becomes the manifest's root: files below it are recorded relative to it. `jobs` is the number of worker
    processes [default: CPU count]. With 1 job, or in a daemonic process (such as a worker of Celery), the work happens in
    this process, unless `asked_to_stop` is given.

    `on_event` is called in this process with every event. `asked_to_stop` is polled: from 1 on, the run registers what it
    has hashed and ends; from 2 on, it ends at once. Every worker process first calls `initializer`, for example to
    configure logging; it must be picklable if processes are not forked.

    The manifest must not be open in this process with other arguments. Raises `ManifestError` if the run cannot continue,
    and `ValueError` for a name that cannot be recorded and a manifest in memory. Earlier records are kept; the report of
    `Began` counts them.
    """
    path = os.fspath(manifest)
    if names.is_in_memory(path):
        raise ValueError(
            f"{path}: worker processes cannot use a manifest in memory; name a file or a database, or add the records with"
            " its manager (`add_many`)"
        )
    wanted, own = Naming(_recordable("source_id", source_id), _recordable("dataset", dataset)), names.files_of(path)
    root = None if root_dir is None else _recordable("root_dir", os.fspath(root_dir))
    target = prepare(path, options, _recordable("etl_version", etl_version), root)
    given, known = [os.fspath(file) for file in files], list(listed)
    report = IngestReport(created=target.created)
    current = _Run(
        report, lambda: chain(find(given, wanted, own), find_listed(known, wanted, own)), empty, on_event or _nobody
    )
    job = IngestJob(
        path if names.is_url(path) else str(Path(path).absolute()), target.metadata, target.version, options
    )
    (on_event or _nobody)(Began(path, report))
    with DownloadManifestManager(job.path, job.metadata, options=options) as opened, opened.run("add") as events:
        job = job._replace(run=events.id)
        current.register_files(Job(partial(answering, job), initializer), jobs or usable_cpus(), asked_to_stop)
        _sum_up(events, report)
    return report


def _sum_up(events: EventsOfRun, report: IngestReport) -> None:
    """Give the end of a run what leaves no event of its own."""
    for name, count in (("duplicate", report.verdicts[Verdict.DUPLICATE]), ("failed", len(report.failures))):
        if count:
            events.count(name, count)
    events.bytes = report.bytes
    if report.interrupted:
        events.outcome = "interrupted"


def _recordable(name: str, text: str | None) -> str | None:
    if text == "":
        raise ValueError(f"{name} must not be empty; leave it out for the default")
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be UTF-8 to be recorded") from None
    return text


class _Run:
    """One run over the files, which updates the report."""

    def __init__(
        self,
        report: IngestReport,
        find: Callable[[], Iterator[Found]],
        empty: EmptyFiles,
        on_event: OnEvent,
    ) -> None:
        self._report, self._find, self._empty = report, find, empty
        self._on_event = on_event

    def register_files(self, job: Job, jobs: int, asked_to_stop: Callable[[], int] | None) -> None:
        began = time.perf_counter()
        tasks = batches(
            self._to_hash(), items_max=_BATCH_FILES_MAX, bytes_max=_BATCH_BYTES_MAX, size_of=lambda task: task.size
        )
        try:
            run_tasks(
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

    # -- messages of the workers -------------------------------------------------------------------------------------

    def on_progress(self, news: int) -> None:
        self._on_event(Progress(news))

    def on_done(self, result: IngestCounts) -> None:
        for verdict, number in result.verdicts.items():
            self._report.verdicts[verdict] += number
        self._report.bytes += result.bytes
        for failure in result.failures:
            self._fail(failure)

    def on_worker_died(self, task: Batch, how: str) -> bool:
        """Report the files of a worker that died. Do not retry them, because they may have killed it."""
        for file in task:
            self._fail(Failure(file.path, f"not registered: its worker {how}; add it again"))
        return False
