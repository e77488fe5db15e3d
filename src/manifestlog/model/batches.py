"""Records on their way to the engine: encoded before any lock is taken, and cut into batches.

Invariants:

- A record that cannot be written is refused here, with nothing written.
- A batch ends at `batch_records_max` or before `batch_bytes_max`, whichever comes first, and holds one record at least.

It decides nothing about what a record means (`verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from manifestlog.model import codec
from manifestlog.model.codec import Encoded, encoded_bytes
from manifestlog.model.models import ManifestRecord, members
from manifestlog.options import ManifestOptions


def encoded(record: ManifestRecord, options: ManifestOptions) -> Encoded:
    """A record as the engine takes it; raises `RecordRejectedError`, and `TypeError` for what is no record."""
    if not isinstance(record, ManifestRecord):
        raise TypeError(f"expected a ManifestRecord, got {type(record).__name__}")
    raw = codec.encode_row(members(record), options.record_bytes_max)
    if record.also_seen:
        return encoded_bytes(raw)
    return raw, record.checksum, (record.source_id,)


def batches(records: Iterable[ManifestRecord], options: ManifestOptions) -> Iterator[list[Encoded]]:
    """The records in batches; what the iterable or a record raises comes behind the last whole batch."""
    batch: list[Encoded] = []
    waiting = 0
    for record in records:
        one = encoded(record, options)
        if batch and (len(batch) >= options.batch_records_max or waiting + len(one[0]) > options.batch_bytes_max):
            yield batch
            batch, waiting = [], 0
        batch.append(one)
        waiting += len(one[0])
    if batch:
        yield batch
