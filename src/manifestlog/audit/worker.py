"""The work of one verify worker: reads its files and classifies each.

Invariants:

- Every batch is answered. The answer omits files that were not started before the deadline or a stop request.
- A worker opens only regular files and objects, and writes nothing.

`workers.main` handles signals, logging and the parent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from manifestlog.audit import journal
from manifestlog.audit.plan import Expected, FileStat, FileState, Judgement, Level, judge
from manifestlog.error_texts import reason
from manifestlog.ingest.hashing import ChangedError, digest
from manifestlog.model.rows import utc_text
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.opening import Stores
from manifestlog.workers.link import WorkerLink
from manifestlog.workers.stop import StopAskedError

Batch = list[Expected]


class AuditJob(NamedTuple):
    """The arguments of every worker. No file is started after `deadline_s` of the monotonic clock."""

    level: Level
    deadline_s: float


class FileFinding(NamedTuple):
    """A file that differs from its record. The checksum is None if no record names the file."""

    state: str
    file_path: str
    checksum: str | None
    reason: str


@dataclass(slots=True)
class AuditCounts:
    """The result of a batch. `lines` are its journal lines."""

    states: dict[FileState, int] = field(default_factory=lambda: dict.fromkeys(FileState, 0))
    findings: list[FileFinding] = field(default_factory=list)
    lines: bytes = b""
    bytes: int = 0


@contextmanager
def answering(job: AuditJob, link: WorkerLink) -> Iterator[Callable[[Batch], AuditCounts]]:
    """Provide the function that verifies a batch."""
    yield partial(_verify_batch, job, link, Stores())


def _verify_batch(job: AuditJob, link: WorkerLink, stores: Stores, batch: Batch) -> AuditCounts:
    counts = AuditCounts()
    verified = []
    for expected in batch:
        if link.stop.asked or time.monotonic() >= job.deadline_s:
            break
        try:
            found = _verify(job, link, stores, expected, counts)
        except StopAskedError:
            break
        counts.states[found.state] += 1
        if found.state is not FileState.OK:
            counts.findings.append(FileFinding(found.state.value, expected.path, expected.checksum, found.reason))
        verified.append((expected, found.state))
    link.flush()
    now = utc_text(datetime.now(UTC))
    counts.lines = b"".join(journal.line(one, job.level, state, now) for one, state in verified)
    return counts


def _verify(job: AuditJob, link: WorkerLink, stores: Stores, expected: Expected, counts: AuditCounts) -> Judgement:
    """Verify a file, and read its content only if needed."""
    found = judge(expected, expected.listed or _stat(expected.path), job.level)
    if found is not None:
        link.advance(expected.size)  # so that progress reaches its total
        return found
    seen = _read(link, expected.path) if expected.listed is None else _read_object(link, stores, expected.path)
    counts.bytes += seen.size
    found = judge(expected, seen, job.level)
    assert found is not None
    return found


def _read(link: WorkerLink, path: str) -> FileStat:
    try:
        found = digest(path, link.advance)
    except ChangedError:
        return FileStat(moved=True)
    except OSError as error:
        return _unseen(error)
    return FileStat(size=found.size, checksum=found.checksum)


def _read_object(link: WorkerLink, stores: Stores, url: str) -> FileStat:
    sha, size = hashlib.sha256(), 0
    try:
        for block in stores.of(url).read(url):
            sha.update(block)
            size += len(block)
            link.advance(len(block))
    except ObjectStoreError as error:
        return FileStat(error=errno.EIO, why=error.detail)
    return FileStat(size=size, checksum=sha.hexdigest())


def _stat(path: str) -> FileStat:
    try:
        found = os.stat(path)
    except OSError as error:
        return _unseen(error)
    except ValueError:  # a NUL in the name, or invalid Unicode: no file can have this name
        return FileStat(error=errno.EINVAL, why="no file can have this name")
    return FileStat(is_file=stat.S_ISREG(found.st_mode), size=found.st_size)


def _unseen(error: OSError) -> FileStat:
    return FileStat(error=error.errno or errno.EIO, why=reason(error))
