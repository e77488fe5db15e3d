"""One worker process of a run: given sources one by one, it fetches and registers them, and tells how it goes.

Invariants:

- A worker answers every source, unless it is asked to stop in the middle of one; then it keeps what has come of it.
- A worker closes the manifest that it was given: its own copy after a fork, one that it opened itself otherwise.
- A worker never outlives the process that started it.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from manifestlog.errors import ManifestError
from manifestlog.extract.claims import Claims
from manifestlog.extract.config import Defaults
from manifestlog.extract.desk import Desk
from manifestlog.extract.download import extract
from manifestlog.extract.fetch import Fetcher
from manifestlog.extract.stopping import Stop, StopAskedError
from manifestlog.manager import DownloadManifestManager
from manifestlog.pool import Done, end_with_parent, next_task

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """What every worker of a run is given."""

    manifest: DownloadManifestManager
    fetcher: Fetcher
    data_dir: Path
    defaults: Defaults
    secrets: frozenset[str]
    begin: Callable[[], None]
    """What every worker calls first."""


def work(parent: Connection[Any, Any], job: Job) -> None:
    """What a worker process runs."""
    stop = Stop()
    # Ctrl-C reaches the whole process group; the parent decides what it means, and says so with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop.ask)
    end_with_parent()
    # What was inherited is never collected here: a destructor that is interrupted by a signal would tell the terminal.
    gc.freeze()
    job.begin()
    with suppress(BrokenPipeError, StopAskedError):
        try:
            with job.manifest, Claims(job.data_dir) as claims:
                _serve(parent, job, claims, stop)
        except (ManifestError, OSError) as error:
            parent.send(error)
    parent.close()


def _serve(parent: Connection[Any, Any], job: Job, claims: Claims, stop: Stop) -> None:
    desk = Desk(job.manifest, job.fetcher, job.data_dir, claims, job.defaults, job.secrets, parent.send, stop)
    while not stop.asked and (source := next_task(parent)) is not None:
        parent.send(Done(extract(desk, source)))
