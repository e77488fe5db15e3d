"""Encodes records for the engine before it takes a lock, and groups them into batches.

Invariants:

- A record that cannot be written is rejected here, before any write.
- A batch ends at `batch_records_max` or before `batch_bytes_max`, whichever comes first, and has at least one record.

It does not decide the meaning of a record (`verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from manifestlog.model import codec
from manifestlog.model.codec import Encoded, encoded_bytes
from manifestlog.model.models import ManifestRecord, members
from manifestlog.options import ManifestOptions


def encoded(record: ManifestRecord, options: ManifestOptions) -> Encoded:
    """Encode a record for the engine. Raises `RecordRejectedError`, and `TypeError` if it is not a record."""
    if not isinstance(record, ManifestRecord):
        raise TypeError(f"expected a ManifestRecord, got {type(record).__name__}")
    raw = codec.encode_row(members(record), options.record_bytes_max)
    if record.also_seen:
        return encoded_bytes(raw)
    return raw, record.checksum, (record.source_id,)


def batches(records: Iterable[ManifestRecord], options: ManifestOptions) -> Iterator[list[Encoded]]:
    """Yield the records in batches. An error of the iterable or of a record is raised after the last complete batch."""
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


def single_batch(records: Iterable[ManifestRecord], options: ManifestOptions) -> list[Encoded]:
    """Return the records as one batch. Raises `ValueError` if they exceed its limits."""
    found = list(batches(records, options))
    if len(found) > 1:
        raise ValueError(
            f"the records exceed one batch ({options.batch_records_max:,} records or {options.batch_bytes_max:,} bytes):"
            " record fewer at once (add_many makes several batches)"
        )
    return found[0] if found else []
