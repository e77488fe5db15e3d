"""The work of one `add` worker: opens the manifest, hashes its files and adds their records.

Invariants:

- A worker answers every batch. After a stop request it still registers the files that it has hashed.
- A worker always closes the manifest that it opened.

A record has the file's own time, so adding an old file late does not make it its source's current content. The exception
is a file that replaces the source's current file at the same path: its record has the present time.

`workers.main` handles signals, logging and the parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from manifestlog.error_texts import reason
from manifestlog.errors import AddManyStoppedError, RecordRejectedError
from manifestlog.ingest.hashing import ChangedError, digest
from manifestlog.ingest.index_file import KnownFacts
from manifestlog.ingest.walk import Failure, FileTask
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ManifestMetadata, ManifestRecord
from manifestlog.model.verdict import Verdict
from manifestlog.options import ManifestOptions
from manifestlog.workers.link import WorkerLink
from manifestlog.workers.stop import StopAskedError

Batch = list[FileTask]


class IngestJob(NamedTuple):
    """The arguments of every worker. `metadata` is set only if the manifest's must change."""

    path: str
    metadata: ManifestMetadata | None
    version: str
    options: ManifestOptions | None
    run: str | None = None
    """The run that the records belong to."""


@dataclass(slots=True)
class IngestCounts:
    """The result of a batch."""

    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    failures: list[Failure] = field(default_factory=list)
    bytes: int = 0


@contextmanager
def answering(job: IngestJob, link: WorkerLink) -> Iterator[Callable[[Batch], IngestCounts]]:
    """Open the manifest, and provide the function that registers a batch."""
    with DownloadManifestManager(job.path, job.metadata, options=job.options) as manifest, _joined(manifest, job.run):
        yield partial(_register, manifest, job.version, link)


def _joined(manifest: DownloadManifestManager, run: str | None) -> AbstractContextManager[object]:
    return nullcontext() if run is None else manifest.join_run(run)


def _register(manifest: DownloadManifestManager, version: str, link: WorkerLink, batch: Batch) -> IngestCounts:
    counts = IngestCounts()
    records = []
    for task in batch:
        try:
            records.append(_record(manifest, version, link, task))
        except StopAskedError:
            break
        except (ChangedError, OSError) as error:
            said = reason(error) if isinstance(error, OSError) else str(error)
            counts.failures.append(Failure(task.path, said))
    link.flush()
    _add(manifest, records, counts)
    return counts


def _record(manifest: DownloadManifestManager, version: str, link: WorkerLink, task: FileTask) -> ManifestRecord:
    found = digest(task.path, link.advance)
    if found.size == 0:
        raise ChangedError("the file is empty now")
    if task.facts.checksum not in (None, found.checksum):
        raise ChangedError(f"its checksum is {found.checksum}, the index says {task.facts.checksum}")
    current = manifest.get_record_by_source(task.source_id, task.dataset)
    has_replaced = (
        current is not None and current.checksum != found.checksum and str(manifest.locate(current)) == task.path
    )
    facts = _facts(task, found.checksum, current, has_replaced=has_replaced)
    return ManifestRecord(
        source_id=task.source_id,
        dataset=task.dataset,
        checksum=found.checksum,
        file_path=manifest.stated(task.path),
        file_size=found.size,
        etag=facts.etag,
        last_modified=facts.last_modified,
        ts_downloaded=facts.ts_downloaded or datetime.now(UTC),
        version=version,
    )


def _facts(task: FileTask, checksum: str, current: ManifestRecord | None, *, has_replaced: bool) -> KnownFacts:
    """Return the metadata to record. `current` is its source's record; `has_replaced` says that it had the same path."""
    given = task.facts
    moment = given.ts_downloaded or _modified(task.path)
    if current is None:
        return given._replace(ts_downloaded=moment)
    if current.checksum != checksum:
        if has_replaced and given.ts_downloaded is None:
            moment = max(datetime.now(UTC), current.ts_downloaded + timedelta(microseconds=1))
        return given._replace(ts_downloaded=moment)
    if given.etag is None and given.last_modified is None:
        # Keep what `extract` knows of this content; otherwise the next run would fetch it again.
        return KnownFacts(current.etag, current.last_modified, moment)
    return given._replace(ts_downloaded=max(moment, current.ts_downloaded))  # an older time would refresh nothing


def _modified(path: str) -> datetime:
    now = datetime.now(UTC)
    try:
        return min(datetime.fromtimestamp(os.stat(path).st_mtime, UTC), now)
    except (OSError, OverflowError, ValueError):
        return now  # deleted meanwhile, or a time outside the calendar


def _add(manifest: DownloadManifestManager, records: list[ManifestRecord], counts: IngestCounts) -> None:
    try:
        _count(counts, manifest.add_many(records), records)
    except AddManyStoppedError as error:
        if not isinstance(error.cause, RecordRejectedError):
            raise error.cause from None
        # One record cannot be stored, so its batch failed: add them one by one to find it.
        for record in records:
            _add_one(manifest, record, counts)


def _add_one(manifest: DownloadManifestManager, record: ManifestRecord, counts: IngestCounts) -> None:
    try:
        _count(counts, {manifest.add(record).verdict: 1}, [record])
    except RecordRejectedError as error:
        counts.failures.append(Failure(str(manifest.locate(record)), str(error)))


def _count(counts: IngestCounts, verdicts: dict[Verdict, int], records: list[ManifestRecord]) -> None:
    for verdict, count in verdicts.items():
        counts.verdicts[verdict] += count
    counts.bytes += sum(record.file_size for record in records)
