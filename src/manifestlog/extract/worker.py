"""Opens what each worker of a run needs, and turns a source into an outcome.

Invariants:

- A worker process closes its manifest: its own copy after a fork, otherwise the one it opened.
- Its threads share the manifest. Each has its own claims, so no two of them work on the same source.

`workers.main` handles signals, logging and the death of the parent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from manifestlog.extract.attempts import Ended, Postponed, Task
from manifestlog.extract.claims import Claims, may_be_lost
from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.download import advance
from manifestlog.extract.fetchers.dispatch import RemoteFetcher
from manifestlog.extract.fetchers.protocol import Fetcher, interrupt
from manifestlog.extract.landing import Arrival
from manifestlog.extract.lending import Lending
from manifestlog.extract.places.opening import place_of
from manifestlog.extract.places.protocol import Place
from manifestlog.managers import DownloadManifestManager
from manifestlog.workers.grouping import Grouping
from manifestlog.workers.link import WorkerLink


class ExtractJob(NamedTuple):
    """What every worker of a run receives."""

    manifest: DownloadManifestManager
    fetcher: Fetcher
    data_dir: Path
    defaults: Defaults
    secrets: frozenset[str]
    sources: tuple[ETLSource, ...]
    """All sources of the run; a task names one by its number."""
    shows_progress: bool = True
    """Whether `Started` and `Progress` are sent: each costs a message."""
    threads: int = 1
    """The number of transfers at once in each worker."""

    @property
    def is_threaded(self) -> bool:
        """Whether several threads may use the fetcher: it says so itself."""
        return bool(getattr(self.fetcher, "thread_safe", False))


Answer = Callable[[Task], Ended | Postponed]


@contextmanager
def answering(job: ExtractJob, link: WorkerLink) -> Iterator[Answer]:
    """Open what a worker process needs; yield the function that fetches and registers one source, for every thread."""
    with job.manifest, transferring(job, link) as answer:
        yield answer


@contextmanager
def transferring(job: ExtractJob, link: WorkerLink) -> Iterator[Answer]:
    """Like `answering`, with a manifest that stays open afterwards: it belongs to the run's own process."""
    if isinstance(job.fetcher, RemoteFetcher):
        job = job._replace(fetcher=job.fetcher.of_this_process())
    link.interrupt = partial(interrupt, job.fetcher)
    lending = None
    if job.is_threaded:
        lending = Lending(link.send)
        link.on_told = lending.take
    with ExitStack() as opened:
        own = threading.local()
        place = place_of(job.data_dir, connections=job.threads, is_shared=may_be_lost(job.manifest))
        landing = Grouping[Arrival]()

        def answer(task: Task) -> Ended | Postponed:
            if not hasattr(own, "context"):
                own.context = _context(job, place, link, opened, landing, lending)
            return advance(own.context, job.sources[task.number], task)

        yield answer


def _context(
    job: ExtractJob,
    place: Place,
    link: WorkerLink,
    opened: ExitStack,
    landing: Grouping[Arrival],
    lending: Lending | None,
) -> WorkerContext:
    """Return the context of a thread, with claims of its own: the threads of one object would share them."""
    claims = opened.enter_context(Claims(job.manifest, job.data_dir))
    return WorkerContext(
        job.manifest,
        job.fetcher,
        place,
        claims,
        job.defaults,
        job.secrets,
        link.send,
        link.stop,
        landing,
        lending=lending,
        postpones=True,
        shows_progress=job.shows_progress,
    )
