"""Verifies data files against the manifest, in several processes.

Invariants:

- A run writes only the verification journal, which affects only the order of the next run.
- A worker that dies loses only its own files, and only for this run.

It does not know how a run is displayed.
"""

from __future__ import annotations

import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile

from manifestlog import names
from manifestlog.audit.journal import VerificationJournal
from manifestlog.audit.journal_file import journal_of
from manifestlog.audit.ledger import LedgerFiles, opened
from manifestlog.audit.listing import Listing
from manifestlog.audit.plan import Expected, FileState, Level, VerifyPlan
from manifestlog.audit.report import AuditReport, Began, Event, VerifyOptions, sample_size
from manifestlog.audit.untracked import Known, unregistered
from manifestlog.audit.worker import AuditCounts, AuditJob, Batch, FileFinding, answering
from manifestlog.error_texts import reason
from manifestlog.ingest.walk import Failure
from manifestlog.manager import AbstractManifest
from manifestlog.options import ManifestOptions
from manifestlog.workers.batching import batches
from manifestlog.workers.events import Progress, WorkersStarted
from manifestlog.workers.main import Job, run_tasks
from manifestlog.workers.pool import usable_cpus

_BATCH_FILES_MAX = 256
_BATCH_BYTES_MAX = 16 << 20
_BATCHES_A_WORKER = 8
"""With fewer, some workers would finish long before the others."""
_SEED_BITS = 32
_UNREGISTERED = "unregistered"

OnEvent = Callable[[Event], None]


def _nobody(_: Event) -> None:
    """Ignore an event."""


def run(
    manifest: AbstractManifest | str | os.PathLike[str],
    wanted: VerifyOptions | None = None,
    *,
    jobs: int | None = None,
    options: ManifestOptions | None = None,
    keep_findings: bool = True,
    on_event: OnEvent | None = None,
    asked_to_stop: Callable[[], int] | None = None,
    initializer: Callable[[], None] | None = None,
) -> AuditReport:
    """Verify data files against a manifest. Writes nothing to the manifest.

    `manifest` is an open manifest, or the path of one to open read-only with `options`. Files that were never verified come
    first, then those verified longest ago. `jobs` is the number of worker processes [default: CPU count]. With 1 job, or in
    a daemonic process (such as a worker of Celery), the work happens in this process, unless `asked_to_stop` is given.

    `on_event` is called in this process with every event, including each finding. Without `keep_findings` the report has no
    findings, to save memory. `asked_to_stop` is polled: from 1 on, the run ends soon, and the next run continues with the
    remaining files; from 2 on, it ends at once. Every worker process first calls `initializer`, for example to configure
    logging; it must be picklable if processes are not forked. Raises `ManifestError` if the manifest cannot be read.
    """
    wanted, on_event, jobs = wanted or VerifyOptions(), on_event or _nobody, jobs or usable_cpus()
    deadline_s = time.monotonic() + (wanted.max_duration_s or math.inf)
    with opened(manifest, options) as found:
        location = found.location.display
        file = journal_of(found, _text(wanted.journal), os.environ)
        with VerificationJournal(file) as journal:
            ledger = LedgerFiles(found, _text(wanted.root), _text(wanted.former))
            plan = ledger.plan(wanted.level, journal)
            report = AuditReport(wanted.level, len(plan), superseded=plan.superseded)
            report.journal = None if file is None else file.path
            _draw(plan, wanted, report)
            listing = Listing(plan.stores)
            current = _Run(report, plan, listing, journal, on_event, keep_findings=keep_findings)
            began = time.perf_counter()
            try:
                on_event(Began(location, report))
                job = Job(partial(answering, AuditJob(wanted.level, deadline_s)), initializer)
                current.verify_files(job, jobs, deadline_s, asked_to_stop)
                if wanted.untracked and not report.interrupted:
                    folders = [os.fspath(one) for one in wanted.untracked]
                    current.look_for_untracked(folders, ledger.paths(), names.files_of(location), asked_to_stop or int)
            finally:
                report.seconds = time.perf_counter() - began
        if journal.write_error is not None:
            report.journal_error = f"{report.journal}: {reason(journal.write_error)}"
    return report


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _draw(plan: VerifyPlan, wanted: VerifyOptions, report: AuditReport) -> None:
    """Reduce the plan to the sample, if requested."""
    if wanted.sample is not None:
        report.seed = secrets.randbits(_SEED_BITS) if wanted.seed is None else wanted.seed
        plan.sample(sample_size(wanted.sample, len(plan)), report.seed)
    report.planned = len(plan)


class _Run:
    """One run over the planned files, which updates the report."""

    def __init__(
        self,
        report: AuditReport,
        plan: VerifyPlan,
        listing: Listing,
        journal: VerificationJournal,
        on_event: OnEvent,
        *,
        keep_findings: bool,
    ) -> None:
        self._report, self._plan, self._listing, self._journal = report, plan, listing, journal
        self._on_event, self._keep_findings = on_event, keep_findings

    def verify_files(self, job: Job, jobs: int, deadline_s: float, asked_to_stop: Callable[[], int] | None) -> None:
        tasks = batches(
            self._in_time(deadline_s),
            items_max=max(1, min(_BATCH_FILES_MAX, len(self._plan) // (jobs * _BATCHES_A_WORKER))),
            bytes_max=_BATCH_BYTES_MAX if self._report.level is Level.FULL else math.inf,
            size_of=lambda expected: expected.size,
        )
        try:
            run_tasks(
                job,
                tasks,
                self,
                jobs,
                name="manifestlog-verify",
                on_start=lambda: self._on_event(WorkersStarted(self._total_bytes)),
                asked_to_stop=asked_to_stop,
                context=self._listing.context,
            )
        finally:
            self._report.interrupted = asked_to_stop is not None and asked_to_stop() > 0

    def _in_time(self, deadline_s: float) -> Iterator[Expected]:
        for expected in self._plan:
            if time.monotonic() >= deadline_s:
                return
            yield self._listing.completed(expected)

    def _total_bytes(self, _enough: threading.Event) -> int:
        return self._plan.total_bytes

    def look_for_untracked(
        self, folders: Sequence[str], paths: Iterator[str], own: names.ManifestPaths, asked: Callable[[], int]
    ) -> None:
        """Report the files that no record names."""
        self._report.unregistered = 0
        known = Known(
            takewhile(lambda _: not asked(), paths)
        )  # once asked to stop, nothing is compared with it any more
        for one in unregistered(folders, known, own, asked):
            if isinstance(one, Failure):
                self._report.folders_unreadable += 1
                self._found(FileFinding(FileState.UNREADABLE.value, one.path, None, one.reason))
            else:
                self._report.unregistered += 1
                self._found(FileFinding(_UNREGISTERED, one, None, "no record names this file"))
        self._report.interrupted = asked() > 0

    def _found(self, finding: FileFinding) -> None:
        if self._keep_findings:
            self._report.findings.append(finding)
        self._on_event(finding)

    # -- messages of the workers -------------------------------------------------------------------------------------

    def on_progress(self, news: int) -> None:
        self._on_event(Progress(news))

    def on_done(self, result: AuditCounts) -> None:
        """Add the result of a batch, which a deadline or a stop request may have cut short."""
        self._journal.keep(result.lines)
        self._report.bytes += result.bytes
        for state, number in result.states.items():
            self._report.states[state] += number
        for finding in result.findings:
            self._found(finding)

    def on_worker_died(self, task: Batch, how: str) -> bool:
        """Report the files of a worker that died. Do not retry them, because they may have killed it."""
        self._report.states[FileState.UNREADABLE] += len(task)
        for file in task:
            why = f"not verified: its worker {how}; run verify again"
            self._found(FileFinding(FileState.UNREADABLE.value, file.path, file.checksum, why))
        return False
