"""Converts the input of a pipeline to records: finished downloads, and manual changes.

The protocols name only the attributes that are read, so any object with them fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from manifestlog.errors import RecordRejectedError
from manifestlog.model.attempts import is_attempt
from manifestlog.model.models import AddResult, ManifestRecord, invalid_fields, row_from_record
from manifestlog.model.rows import Row, normal_checksum, required_checksum, utc_text
from manifestlog.model.url_paths import path_of
from manifestlog.model.verdict import Verdict

LIVE_S = 60.0
"""Maximum difference, in seconds, between now and the time of a download that counts as live."""


class SourceLike(Protocol):
    """A configured source. Its `state.last_etag`, if any, replaces the missing ETag of an event."""

    @property
    def source_id(self) -> str: ...

    @property
    def dataset(self) -> str: ...


class EventLike(Protocol):
    """A finished download."""

    @property
    def sha256(self) -> str: ...

    @property
    def file_path(self) -> Path | str: ...

    @property
    def file_size_bytes(self) -> int: ...

    @property
    def etag(self) -> str | None: ...

    @property
    def ts_download_completed(self) -> datetime: ...


def record_from_download(
    source: SourceLike, event: EventLike, version: str, derived_from: Iterable[str] = ()
) -> ManifestRecord:
    """Return the record of a finished download, with the event's ETag, or else the source's last one.

    Raises `RecordRejectedError`, which names every invalid field.
    """
    last_etag = getattr(getattr(source, "state", None), "last_etag", None)
    etag = getattr(event, "etag", None)
    try:
        return ManifestRecord(
            source_id=source.source_id,
            dataset=source.dataset,
            checksum=event.sha256,
            file_path=path_of(event.file_path),
            file_size=event.file_size_bytes,
            etag=last_etag if etag is None else etag,
            ts_downloaded=event.ts_download_completed,
            version=version,
            last_modified=getattr(event, "last_modified", None),
            derived_from=tuple(derived_from),
        )
    except ValidationError as error:
        raise RecordRejectedError(invalid_fields(error)) from error


def attempt_of(event: EventLike) -> dict[str, Any]:
    """Return what an event says of its download beyond the record: each attribute that it has, and that is of the right type."""
    names = {"url": "url", "status": "status", "seconds": "seconds", "bytes": "bytes_transferred"}
    found = {name: getattr(event, attribute, None) for name, attribute in names.items()}
    return {name: value for name, value in found.items() if is_attempt(name, value)}


def is_live(moment: datetime) -> bool:
    """Return whether a download with this time has just ended, by this machine's clock."""
    return abs((datetime.now(UTC) - moment).total_seconds()) <= LIVE_S


def moved_time(given: ManifestRecord, result: AddResult) -> str | None:
    """Return the warning that a live record got another time than its own, or None if it did not."""
    recorded = result.record.ts_downloaded
    if result.verdict is Verdict.DUPLICATE or recorded <= given.ts_downloaded:
        return None
    current = utc_text(recorded - timedelta(microseconds=1))
    return (
        f"this machine's clock says {utc_text(given.ts_downloaded)}, but this source has a record of {current};"
        f" recorded as {utc_text(recorded)}: synchronise the clock by NTP; if it was ahead once, run `manifestlog retime`"
    )


_STAND_IN = {
    "source_id": "-",
    "dataset": "-",
    "file_path": "-",
    "file_size": 1,
    "ts_downloaded": "2000-01-01T00:00:00Z",
    "version": "-",
}


_UPDATABLE = frozenset(ManifestRecord.model_fields)


def checked_changes(key: str, value: Mapping[str, Any], required: tuple[str, ...]) -> tuple[str, Row]:
    """Return the checksum of a record and the fields to change. Raises `ValueError`, which names what is wrong."""
    checksum = required_checksum(key)
    missing = [name for name in required if name not in value]
    if missing:
        raise ValueError(f"the value lacks {', '.join(missing)}")
    unknown = sorted(set(value) - _UPDATABLE)
    if unknown:
        raise ValueError(f"a record has no field {', '.join(unknown)}")
    if normal_checksum(value["checksum"]) != checksum:
        raise ValueError(f"value['checksum'] is {value['checksum']!r:.80}, the key is {checksum!r}")
    return checksum, validated_changes(value)


def validated_changes(value: Mapping[str, Any]) -> Row:
    """Validate the given fields of a record, and return them as in a row. Raises `ValueError`, which names the field."""
    # The stored record has the fields that the caller omits, so valid placeholders replace them here.
    row = row_from_record(ManifestRecord.model_validate(_STAND_IN | dict(value)))
    return {name: row.get(name) for name in value}
