"""The pipeline orchestrator: distributes sources to worker processes and collects the outcomes in a report.

Invariants:

- Each started source is in the report once. If its worker dies, another one retries it.
- No two workers, and no two threads of one, fetch the same source at the same time, even across runs (`claims`).
- A source that waits for its next attempt waits in the schedule, and occupies no worker.

`download` handles one source, `schedule` decides which one is next. The orchestrator does not know how a run is displayed.
"""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from manifestlog import safe_names
from manifestlog.extract import freshness
from manifestlog.extract.attempts import Ended, Postponed, Task
from manifestlog.extract.claims import Claims, may_be_lost
from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.redaction import Redactor, secrets_in_options
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.download import extract
from manifestlog.extract.dry_run import plan
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.dispatch import RemoteFetcher
from manifestlog.extract.fetchers.protocol import Fetcher
from manifestlog.extract.known_sizes import known_sizes
from manifestlog.extract.lending import Granted, Lender, Wants
from manifestlog.extract.places.opening import place_of
from manifestlog.extract.report import Event, Finished, Outcome, Plan, Result, RunReport, Waiting
from manifestlog.extract.schedule import Limits, Schedule
from manifestlog.extract.worker import ExtractJob, answering, transferring
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.url_paths import UrlPath
from manifestlog.objects import locations
from manifestlog.run import Run
from manifestlog.workers.in_process import InProcess
from manifestlog.workers.main import Job, work
from manifestlog.workers.pool import Pool, is_daemonic

log = logging.getLogger(__name__)

OnEvent = Callable[[Event], None]


def _ignore(_: Event) -> None:
    """Ignore the event."""


class PipelineOrchestrator:
    """Fetches the sources that have changed, stores each content once, and registers it in a manifest."""

    def __init__(
        self,
        manifest: DownloadManifestManager,
        fetcher: Fetcher | None = None,
        *,
        data_dir: str | os.PathLike[str],
        defaults: Defaults | None = None,
        on_event: OnEvent | None = None,
        shows_progress: bool = True,
        secrets: Iterable[str] = (),
        initializer: Callable[[], None] | None = None,
        begin_worker: Callable[[], None] | None = None,
    ) -> None:
        """Prepare runs for an open manifest; files go to `<data_dir>/<dataset>/`, in a directory or an object store.

        `fetcher` is by default a `RemoteFetcher`: http, https and every protocol of fsspec. `defaults.jobs` is the
        number of worker processes, which share `defaults.connections` transfers at once; with 1, threads of this process
        make them. A fetcher of your own that is not `thread_safe` makes one transfer at a time in each process.
        The thread that calls `run` calls `on_event` with each event. `shows_progress=False` omits `Started` and
        `Progress`, which cost time in a run of many small sources. `secrets` never appear in an error message, and are
        never sent to another server after a redirect.
        Each worker process calls `initializer` first, for example to set up logging, which only a forked process
        inherits. It must be picklable unless processes are forked. `begin_worker` is its deprecated former name.
        """
        if begin_worker is not None:
            warnings.warn("begin_worker is deprecated: use initializer", DeprecationWarning, stacklevel=2)
        self._manifest = manifest
        self._defaults = defaults or Defaults(jobs=1)
        self._secrets = frozenset(secrets)
        self._fetcher = fetcher or RemoteFetcher(self._defaults, self._secrets)
        self._data_dir = _data_directory(data_dir)
        self._place = place_of(self._data_dir, is_shared=may_be_lost(manifest))
        self._on_event = on_event or _ignore
        self._shows_progress = shows_progress and on_event is not None
        self._initializer = initializer or begin_worker
        self.report = RunReport()
        """The report of the current or last run. After an error it has the outcomes so far."""

    def run(self, sources: Iterable[ETLSource], *, asked_to_stop: Callable[[], int] | None = None) -> RunReport:
        """Fetch and register what has changed; return the outcome of every source.

        A failed source is part of the report and does not stop the others. Outcomes are as durable as the manifest's
        options promise. `asked_to_stop` is polled: at 1 the run ends soon, from 2 on at once; partial downloads are
        kept for the next run. With `asked_to_stop` there are always worker processes, which a stop can kill. In two cases
        threads of this process make the transfers instead, with a warning if `defaults.jobs` is more than 1: a daemonic
        process, such as a Celery worker, may not have children, and a manifest in memory (`memory:`) cannot be shared
        with them. Raises `ManifestError` if the manifest fails.
        """
        began = time.monotonic()
        self.report = report = RunReport()
        try:
            self._run(self._longest_first(sources), report, asked_to_stop)
        finally:
            report.seconds = time.monotonic() - began
        log.info("%s: %s", self._manifest.location.display, _sum(report))
        return report

    def _run(self, waiting: list[ETLSource], report: RunReport, asked_to_stop: Callable[[], int] | None) -> None:
        listener = _Listener(report, self._on_event, self._manifest)
        self._place.prepare(self._manifest)
        with self._manifest.run("extract") as run:
            self._fetch(waiting, listener, asked_to_stop)
            report.interrupted = asked_to_stop is not None and asked_to_stop() > 0
            _sum_up(run, report)
        report.stale = freshness.update(self._manifest, self._place, self._defaults, waiting, report.outcomes)

    def _fetch(self, waiting: list[ETLSource], listener: _Listener, asked_to_stop: Callable[[], int] | None) -> None:
        job = ExtractJob(
            self._manifest,
            self._fetcher,
            self._data_dir,
            self._defaults,
            self._secrets,
            tuple(waiting),
            self._shows_progress,
        )
        queue, asked = _Queue(waiting, self._defaults), asked_to_stop or int
        if not self._works_here(asked_to_stop):
            self._run_in_workers(job, queue, listener, asked)
        elif job.is_threaded:
            job = job._replace(threads=self._defaults.connections)
            threads = Job(partial(transferring, job), capacity=self._defaults.connections)
            InProcess(threads, queue).run(_PoolListener(listener, queue), asked)
        else:
            self._run_in_turn(waiting, listener, asked)

    def _works_here(self, asked_to_stop: Callable[[], int] | None) -> bool:
        """Return whether this process does all the work; warn if it should not."""
        if self._defaults.jobs == 1 and asked_to_stop is None:
            return True
        if is_daemonic():
            why = "this process is daemonic and may not start worker processes"
            remedy = "run `manifestlog extract` as a separate program"
        elif not self._manifest.is_shared:
            why = f"{self._manifest.location.display} lives in this process, and worker processes cannot use it"
            remedy = "keep the manifest in a file"
        else:
            return False
        if self._defaults.jobs > 1:
            log.warning(
                "%s: it does the work of %d workers itself; to use workers, %s", why, self._defaults.jobs, remedy
            )
        return True

    def _run_in_workers(self, job: ExtractJob, queue: _Queue, listener: _Listener, asked: Callable[[], int]) -> None:
        jobs = min(self._defaults.jobs, self._defaults.connections)
        capacity = math.ceil(self._defaults.connections / jobs) if job.is_threaded else 1
        if job.is_threaded and queue.divides:
            capacity = max(2, capacity)  # only a worker with threads reads what it is granted
        work_of_each = Job(partial(answering, job._replace(threads=capacity)), self._initializer, capacity)
        context = self._place.context
        with Pool(work, work_of_each, queue, jobs, context, capacity=capacity, name="manifestlog-extract") as pool:
            pool.run(_PoolListener(listener, queue), asked)

    def _run_in_turn(self, sources: list[ETLSource], listener: _Listener, asked: Callable[[], int]) -> None:
        """Fetch one source after the other: nothing says that threads may share the fetcher."""
        with Claims(self._manifest, self._data_dir) as claims:
            context = self._context(claims, listener.on_progress)
            for source in sources:
                if asked():
                    break
                listener.on_done(extract(context, source))

    def _context(self, claims: Claims, emit: OnEvent) -> WorkerContext:
        return WorkerContext(
            self._manifest,
            self._fetcher,
            self._place,
            claims,
            self._defaults,
            self._secrets,
            emit,
            shows_progress=self._shows_progress,
        )

    def _longest_first(self, sources: Iterable[ETLSource]) -> list[ETLSource]:
        """Sort unknown sizes first, then the largest, so that no long download starts when all others end."""
        given = list(sources)
        known = known_sizes(self._manifest, given)
        return sorted(given, key=lambda one: known.get((one.source_id, one.dataset), math.inf), reverse=True)


def _data_directory(data_dir: str | os.PathLike[str]) -> Path:
    """Return the absolute path of the data files, or their URL."""
    text = os.fspath(data_dir)
    if not safe_names.is_address(text):
        return Path(os.path.abspath(text))
    if reason := locations.problem(text):
        raise ExtractError(f"data_dir: {reason}")
    return UrlPath(text)


def plan_all(
    manifest: DownloadManifestManager | None,
    sources: Iterable[ETLSource],
    *,
    fetcher: Fetcher | None = None,
    defaults: Defaults | None = None,
    secrets: Iterable[str] = (),
) -> Iterator[Plan]:
    """Yield what a run would do with each source and why, from response heads only; nothing is written.

    `manifest` may be read-only, or None if there is no manifest yet.
    """
    defaults = defaults or Defaults()
    fetcher = fetcher or RemoteFetcher(defaults)
    hidden = [*secrets, *secrets_in_options(defaults)]
    for source in sources:
        yield plan(manifest, fetcher, source, Redactor.of(source, defaults.headers, hidden), defaults)


def _details(outcome: Outcome) -> str:
    said = outcome.error or outcome.warning
    fetched = f", {outcome.bytes_fetched} bytes in {outcome.seconds:.3f} s" if outcome.bytes_fetched else ""
    return f"{fetched}: {said}" if said else fetched


def _sum(report: RunReport) -> str:
    counts = ", ".join(f"{count} {result}" for result, count in report.counts.items() if count)
    end = "interrupted" if report.interrupted else "done"
    return f"{end}: {counts or 'no sources'}; {report.bytes_fetched} bytes fetched in {report.seconds:.3f} s"


def _sum_up(run: Run, report: RunReport) -> None:
    """Give the end of a run what leaves no event of its own: what was unchanged, and the bytes."""
    for one in report.outcomes:
        if one.result is Result.UNCHANGED:
            run.unchanged(one.source_id, one.dataset)
        elif one.result is Result.CLAIMED:
            run.count(one.result.value)
    run.bytes = report.bytes_fetched
    if report.interrupted:
        run.outcome = "interrupted"


@dataclass(slots=True)
class _Listener:
    """Logs the workers' events and collects their outcomes."""

    report: RunReport
    on_event: OnEvent
    manifest: DownloadManifestManager

    def on_progress(self, news: Event) -> None:
        if isinstance(news, Waiting):
            log.info("%s/%s: %s; retrying in %.1f s", news.dataset, news.source_id, news.reason, news.pause_s)
        self.on_event(news)

    def on_done(self, result: Outcome) -> None:
        log.info("%s/%s: %s%s", result.dataset, result.source_id, result.result, _details(result))
        self.report.outcomes.append(result)
        self.on_event(Finished(result))

    def on_lost_twice(self, source: ETLSource, how: str) -> None:
        error = f"two workers crashed on this source (the last {how}); often out of memory: retry with fewer --jobs"
        self.manifest.fail(source, error)
        self.on_done(Outcome(source.source_id, source.dataset, Result.FAILED, error=error))


class _Queue:
    """The sources of a run for its workers, in the order of their schedule."""

    def __init__(self, sources: list[ETLSource], defaults: Defaults) -> None:
        limits = Limits(defaults.connections, defaults.connections_per_host, defaults.request_pause_s)
        self.sources = sources
        tasks = (Task.of(number, source) for number, source in enumerate(sources))
        self.schedule = Schedule(((task.host, task) for task in tasks), limits)
        self.divides = any((source.segments or defaults.segments) > 1 for source in sources)

    def take(self) -> Task | None:
        return self.schedule.take(time.monotonic())

    def pause_s(self) -> float | None:
        return self.schedule.pause_s(time.monotonic())


class _PoolListener:
    """Tells the schedule how each turn of a source has ended, and the listener of the run what came of it."""

    def __init__(self, listener: _Listener, queue: _Queue) -> None:
        self._listener, self._schedule, self._sources = listener, queue.schedule, queue.sources
        self._lender = Lender(queue.schedule)
        self._lost_once: set[tuple[str, str]] = set()

    def on_progress(self, news: Event | Wants) -> Granted | None:
        if isinstance(news, Wants):
            return self._lender.answer(news, time.monotonic())
        self._listener.on_progress(news)
        return None

    def on_done(self, result: Ended | Postponed) -> None:
        now = time.monotonic()
        ended = self._sources[result.task.number] if isinstance(result, Postponed) else result.outcome
        self._lender.end((ended.source_id, ended.dataset), now)
        if isinstance(result, Postponed):
            task = result.task
            self._schedule.postpone(
                task.host, task, now, result.pause_s, answered=result.answered, is_held=result.is_held
            )
        else:
            self._schedule.done(result.host, now, answered=result.answered)
            self._listener.on_done(result.outcome)

    def on_worker_died(self, task: Task, how: str) -> bool:
        source = self._sources[task.number]
        pair = source.source_id, source.dataset
        self._lender.end(pair, time.monotonic())
        if pair not in self._lost_once:
            self._lost_once.add(pair)
            return True
        self._schedule.done(task.host, time.monotonic(), answered=None)
        self._listener.on_lost_twice(source, how)
        return False
