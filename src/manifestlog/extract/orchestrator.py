"""The pipeline orchestrator: a list of sources, one manifest, and as many worker processes as are wanted.

Invariants:

- Every source that was begun is in the report once; a source whose worker died is given to another one, once.
- Nothing is fetched by two at the same time, in whichever run (`claims`).

What is done with one source is in `download`; how a run is shown is not known here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from manifestlog.extract import freshness, names
from manifestlog.extract.claims import Claims
from manifestlog.extract.config import ADDRESS_REMEDY, Defaults
from manifestlog.extract.desk import Desk
from manifestlog.extract.download import extract
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetch import Fetcher
from manifestlog.extract.plan import plan
from manifestlog.extract.remote import RemoteFetcher
from manifestlog.extract.report import Event, Finished, Outcome, Plan, Result, RunReport, Waiting
from manifestlog.extract.secrets import Redactor, in_reach
from manifestlog.extract.source import ETLSource
from manifestlog.extract.worker import Job, work
from manifestlog.manager import DownloadManifestManager
from manifestlog.pool import Pool, is_daemonic

log = logging.getLogger(__name__)

OnEvent = Callable[[Event], None]


def _nobody(_: Event) -> None:
    """Nobody listens."""


def _nothing() -> None:
    """A worker begins."""


class PipelineOrchestrator:
    """Brings sources into a manifest: fetches what has changed, keeps every content once, registers what it brought."""

    def __init__(
        self,
        manifest: DownloadManifestManager,
        fetcher: Fetcher | None = None,
        *,
        data_dir: str | os.PathLike[str],
        defaults: Defaults | None = None,
        on_event: OnEvent | None = None,
        secrets: Iterable[str] = (),
        begin_worker: Callable[[], None] | None = None,
    ) -> None:
        """Work for an open manifest; files go to `<data_dir>/<dataset>/`.

        `fetcher` is by default one for http, https and all that fsspec opens. `defaults.jobs` is the number of worker
        processes; with 1 everything happens in this process. `on_event` is called in this process with every event.
        What is in `secrets` is in no error message, and is sent to no server that one of a source redirects to. `begin_worker` is called first in every worker process, to set up
        its logging for instance: a process that is not forked inherits none. It must be picklable there.
        """
        self._manifest = manifest
        self._defaults = defaults or Defaults(jobs=1)
        self._secrets = frozenset(secrets)
        self._fetcher = fetcher or RemoteFetcher(self._defaults, self._secrets)
        if names.is_address(os.fspath(data_dir)):
            raise ExtractError(f"data_dir: expected a folder on this machine, {ADDRESS_REMEDY}")
        self._data_dir = Path(os.path.abspath(data_dir))
        self._on_event = on_event or _nobody
        self._begin_worker = begin_worker or _nothing
        self.report = RunReport()
        """Of the last run; while one is under way, and after it was ended by an error, what has come of it."""

    def run(self, sources: Iterable[ETLSource], *, asked_to_stop: Callable[[], int] | None = None) -> RunReport:
        """Fetch and register what has changed; gives what came of every source.

        A source that cannot be fetched is in the report and stops nobody. What is reported is as durable as the
        manifest's options say. `asked_to_stop` is looked at often; from 1 on the run ends soon, from 2 on at once, and
        what has come of a file is kept for the next run. With it there are always worker processes, as a read that
        blocks can be ended in those; but for a daemonic process (a worker of Celery, say), which may have no children:
        there the sources are fetched one after the other in this process, with a warning, and a run ends between two of
        them. Raises `ManifestError` when the manifest itself cannot go on.
        """
        began = time.monotonic()
        waiting = self._longest_first(sources)
        self.report = report = RunReport()
        listener = _Listener(report, self._on_event)
        if is_daemonic() or (self._defaults.jobs == 1 and asked_to_stop is None):
            self._run_here(waiting, listener, asked_to_stop or int)
        else:
            job = Job(self._manifest, self._fetcher, self._data_dir, self._defaults, self._secrets, self._begin_worker)
            with Pool(work, job, iter(waiting), self._defaults.jobs, name="manifestlog-extract") as pool:
                pool.run(listener, asked_to_stop or int)
        report.stale = freshness.look(self._manifest, self._data_dir, self._defaults, waiting, report.outcomes)
        report.seconds = time.monotonic() - began
        report.interrupted = asked_to_stop is not None and asked_to_stop() > 0
        log.info("%s: %s", self._manifest.path, _sum(report))
        return report

    def _run_here(self, sources: list[ETLSource], listener: _Listener, asked_to_stop: Callable[[], int]) -> None:
        if self._defaults.jobs > 1:
            log.warning(
                "this process is daemonic and may have no worker processes: sources are fetched one after the other;"
                " run `manifestlog extract` as a program of its own for %d at a time",
                self._defaults.jobs,
            )
        with Claims(self._data_dir) as claims:
            desk = self._desk(claims, listener.heard)
            for source in sources:
                if asked_to_stop():
                    break
                listener.done(extract(desk, source))

    def _desk(self, claims: Claims, tell: OnEvent) -> Desk:
        return Desk(self._manifest, self._fetcher, self._data_dir, claims, self._defaults, self._secrets, tell)

    def _longest_first(self, sources: Iterable[ETLSource]) -> list[ETLSource]:
        """Unknown sizes first, as they may be anything; then the largest, so that no large one begins when all others end."""

        def size(source: ETLSource) -> float:
            record = self._manifest.get_record_by_source(source.source_id, source.dataset)
            return float("inf") if record is None else record.file_size

        return sorted(sources, key=size, reverse=True)


def plan_all(
    manifest: DownloadManifestManager | None,
    sources: Iterable[ETLSource],
    *,
    fetcher: Fetcher | None = None,
    defaults: Defaults | None = None,
    secrets: Iterable[str] = (),
) -> Iterator[Plan]:
    """What a run would do with each source and why, by asking for heads only; nothing is written.

    `manifest` may be open read-only, and None where there is none yet.
    """
    defaults = defaults or Defaults()
    fetcher = fetcher or RemoteFetcher(defaults)
    hidden = [*secrets, *in_reach(defaults)]
    for source in sources:
        yield plan(manifest, fetcher, source, Redactor.of(source, defaults.headers, hidden), defaults)


def _details(outcome: Outcome) -> str:
    said = outcome.error or outcome.warning
    fetched = f", {outcome.bytes_fetched} bytes in {outcome.seconds:.3f} s" if outcome.bytes_fetched else ""
    return f"{fetched}: {said}" if said else fetched


def _sum(report: RunReport) -> str:
    counts = ", ".join(f"{count} {result}" for result, count in report.counts.items() if count)
    end = "interrupted" if report.interrupted else "through"
    return f"{end} with {counts or 'no source'}; {report.bytes_fetched} bytes fetched in {report.seconds:.3f} s"


@dataclass(slots=True)
class _Listener:
    """Collects what workers tell, and logs it."""

    report: RunReport
    on_event: OnEvent
    lost_once: set[tuple[str, str]] = field(default_factory=set)

    def heard(self, news: Event) -> None:
        if isinstance(news, Waiting):
            log.info("%s/%s: %s; again in %.1f s", news.dataset, news.source_id, news.reason, news.pause_s)
        self.on_event(news)

    def done(self, result: Outcome) -> None:
        log.info("%s/%s: %s%s", result.dataset, result.source_id, result.result, _details(result))
        self.report.outcomes.append(result)
        self.on_event(Finished(result))

    def lost(self, task: ETLSource, how: str) -> bool:
        pair = task.source_id, task.dataset
        if pair not in self.lost_once:
            self.lost_once.add(pair)
            return True
        error = f"two workers that had it died, the last one {how}: run it again"
        self.done(Outcome(*pair, Result.FAILED, error=error))
        return False
