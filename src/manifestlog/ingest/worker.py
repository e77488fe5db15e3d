"""One worker process of `add`: opens the manifest for itself, hashes its files, adds them itself.

Invariants:

- A worker answers every batch; one that is asked to stop still registers what it has hashed.
- A worker never outlives the process that started it, and always closes the manifest that it opened.

A file is stamped with the time that it says of itself: an old file does not become the current content of its source by
being added late. Only what has taken the place of a source's current file is stamped now, whatever its time says.

It works the same whether it was forked or spawned.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from manifestlog.cli.settings import Settings
from manifestlog.errors import AddManyStoppedError, ManifestError, RecordRejectedError
from manifestlog.ingest.hashing import ChangedError, digest
from manifestlog.ingest.listed import Facts
from manifestlog.ingest.walk import Failure, FileTask, reason
from manifestlog.manager import DownloadManifestManager
from manifestlog.model.models import ManifestMetadata, ManifestRecord
from manifestlog.model.verdict import Verdict
from manifestlog.workers.link import Hand, StopAskedError
from manifestlog.workers.pool import Done, next_task

Batch = list[FileTask]


class Job(NamedTuple):
    """What every worker is told at its start; `metadata` only where it shall change the manifest's."""

    path: str
    metadata: ManifestMetadata | None
    version: str
    settings: Settings
    log_level: int


@dataclass(slots=True)
class Tally:
    """What came of a batch, or of a whole run."""

    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    failures: list[Failure] = field(default_factory=list)
    bytes: int = 0

    @property
    def files(self) -> int:
        return sum(self.verdicts.values())


class _Worker:
    def __init__(self, hand: Hand, job: Job) -> None:
        self._hand = hand
        self._job = job

    def run(self) -> None:
        """Answer batches until there are no more."""
        job = self._job
        try:
            with DownloadManifestManager(job.path, job.metadata, options=job.settings.options()) as manifest:
                while not self._hand.stop and (batch := next_task(self._hand.parent)):
                    self._hand.parent.send(Done(self._register(manifest, batch)))
        except (ManifestError, OSError) as error:
            with suppress(OSError):
                self._hand.parent.send(error)

    def _register(self, manifest: DownloadManifestManager, batch: Batch) -> Tally:
        tally = Tally()
        records = []
        for task in batch:
            try:
                records.append(self._record(manifest, task))
            except StopAskedError:
                break
            except (ChangedError, OSError) as error:
                said = reason(error) if isinstance(error, OSError) else str(error)
                tally.failures.append(Failure(task.path, said))
        self._hand.say()
        _add(manifest, records, tally)
        return tally

    def _record(self, manifest: DownloadManifestManager, task: FileTask) -> ManifestRecord:
        found = digest(task.path, self._hand.heard)
        if found.size == 0:
            raise ChangedError("it became empty")
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
            version=self._job.version,
        )


def _facts(task: FileTask, checksum: str, current: ManifestRecord | None, *, has_replaced: bool) -> Facts:
    """What to record of a file; `current` is what its source has, and `has_replaced` whether it lay at this very path."""
    given = task.facts
    moment = given.ts_downloaded or _modified(task.path)
    if current is None:
        return given._replace(ts_downloaded=moment)
    if current.checksum != checksum:
        if has_replaced and given.ts_downloaded is None:
            moment = max(datetime.now(UTC), current.ts_downloaded + timedelta(microseconds=1))
        return given._replace(ts_downloaded=moment)
    if given.etag is None and given.last_modified is None:
        # What `extract` has learned of this very content stays: without it the next run would fetch it again.
        return Facts(current.etag, current.last_modified, moment)
    return given._replace(ts_downloaded=max(moment, current.ts_downloaded))  # an older event would refresh nothing


def _modified(path: str) -> datetime:
    now = datetime.now(UTC)
    try:
        return min(datetime.fromtimestamp(os.stat(path).st_mtime, UTC), now)
    except (OSError, OverflowError, ValueError):
        return now  # gone meanwhile, or a time that no calendar has


def _add(manifest: DownloadManifestManager, records: list[ManifestRecord], tally: Tally) -> None:
    try:
        _count(tally, manifest.add_many(records), records)
    except AddManyStoppedError as error:
        if not isinstance(error.cause, RecordRejectedError):
            raise error.cause from None
        # One of them cannot be stored, and took its batch with it: find out which.
        for record in records:
            _add_one(manifest, record, tally)


def _add_one(manifest: DownloadManifestManager, record: ManifestRecord, tally: Tally) -> None:
    try:
        _count(tally, {manifest.add(record).verdict: 1}, [record])
    except RecordRejectedError as error:
        tally.failures.append(Failure(str(manifest.locate(record)), str(error)))


def _count(tally: Tally, verdicts: dict[Verdict, int], records: list[ManifestRecord]) -> None:
    for verdict, count in verdicts.items():
        tally.verdicts[verdict] += count
    tally.bytes += sum(record.file_size for record in records)


def work(parent: Connection[Any, Any], job: Job) -> None:
    """What a worker process runs."""
    hand = Hand(parent)
    hand.begin(job.settings, job.log_level)
    with suppress(BrokenPipeError):
        _Worker(hand, job).run()
    parent.close()
