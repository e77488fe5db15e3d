"""What each worker of a run opens, and the function that turns a source into an outcome.

Invariants:

- A worker closes its manifest: its own copy after a fork, otherwise the one it opened.

`workers.main` handles signals, logging and the death of the parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from manifestlog.extract.claims import Claims
from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.download import extract
from manifestlog.extract.fetchers.protocol import Fetcher
from manifestlog.extract.report import Outcome
from manifestlog.managers import DownloadManifestManager
from manifestlog.workers.link import WorkerLink


class ExtractJob(NamedTuple):
    """What every worker of a run receives."""

    manifest: DownloadManifestManager
    fetcher: Fetcher
    data_dir: Path
    defaults: Defaults
    secrets: frozenset[str]


@contextmanager
def answering(job: ExtractJob, link: WorkerLink) -> Iterator[Callable[[ETLSource], Outcome]]:
    """Open what a worker needs; yield the function that fetches and registers one source."""
    with job.manifest, Claims(job.manifest, job.data_dir) as claims:
        context = WorkerContext(
            job.manifest, job.fetcher, job.data_dir, claims, job.defaults, job.secrets, link.send, link.stop
        )
        yield partial(extract, context)
