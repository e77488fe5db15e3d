"""The public data models, and their conversion to and from rows. No I/O.

Invariants:

- `ManifestRecord` and `Observation` are immutable, and all their times are in UTC.
- They are always valid: `model_copy(update=…)` and `model_construct` validate too.
- Checksums are always lower case, so `AB…` and `ab…` are one content.
- Their JSON is exactly the JSON on disk: a missing `etag` is null, other empty optional fields are omitted.

A row keeps unknown members of the file. A model has only the members that this version knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from manifestlog.errors import RecordRejectedError
from manifestlog.model.rows import REQUIRED, Row, utc_text
from manifestlog.model.url_paths import path_of
from manifestlog.model.verdict import Verdict
from manifestlog.names import is_url

_Model = TypeVar("_Model", bound=BaseModel)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _aware_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("the time must have a zone, for example datetime.now(UTC)")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _path(value: object) -> object:
    return path_of(value) if isinstance(value, str) and is_url(value) else value


def _something(text: str | None) -> str | None:
    return text or None  # an empty value is not written, so the model must not have one either


Checksum = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[datetime, AfterValidator(_aware_utc), PlainSerializer(utc_text, return_type=str, when_used="json")]
FilePath = Annotated[Path, BeforeValidator(_path)]
"""The path of a data file; of a URL, a `UrlPath`."""
LastModified = Annotated[str | None, AfterValidator(_something)]


class ETLProcess(StrEnum):
    """The pipeline step that writes a manifest.

    - `EXTRACTOR`: fetches files from their sources.
    - `TRANSFORMER`: derives files from other files.
    - `LOADER`: loads files into their target.
    """

    EXTRACTOR = "extractor"
    TRANSFORMER = "transformer"
    LOADER = "loader"


def _now() -> datetime:
    return datetime.now(UTC)


class ManifestMetadata(BaseModel):
    """The metadata of a manifest: its writer, its root directory and its number of records.

    Record paths are relative to `root_dir`, and a relative `root_dir` is relative to the manifest's directory.
    """

    model_config = ConfigDict(populate_by_name=True)

    process: ETLProcess = Field(description="the step of the pipeline that writes this manifest")
    etl_version: str = Field(min_length=1, description="the version of the code that writes it")
    root_dir: Path = Field(description="the directory that record paths are relative to")
    total_records: int = Field(default=0, ge=0, description="the number of records")
    ts_created: UtcTime = Field(default_factory=_now, description="when it was created, in UTC")
    ts_updated: UtcTime = Field(default_factory=_now, description="when it was last changed, in UTC")

    def touch(self) -> None:
        """Set `ts_updated` to now."""
        self.ts_updated = _now()


def _validated(copy: _Model, changes: Mapping[str, Any] | None) -> _Model:
    """Apply changes to a copy and validate it, which pydantic's `model_copy` does not. Raises `ValidationError`."""
    return type(copy).model_validate(copy.__dict__ | dict(changes)) if changes else copy


def invalid_fields(error: ValidationError) -> str:
    """Return which fields of a model are invalid, and why, on one line."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


_SOURCE_ID = "the source that delivered it, not empty"
_DATASET = "the dataset that it belongs to, not empty"
_FILE_PATH = "the file's path, absolute or relative to the manifest's root_dir; of an object, its URL"
_ETAG = "ETag of the server's response, with quotes; None without one"
_LAST_MODIFIED = "Last-Modified of the server's response, as it was sent; None without one"
_TS_DOWNLOADED = "end of the download, in UTC, to the microsecond"
_VERSION = "etl_version of the code that registered it"


class Observation(BaseModel):
    """Where and when a source delivered a content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: str = Field(min_length=1, description=_SOURCE_ID)
    dataset: str = Field(min_length=1, description=_DATASET)
    file_path: FilePath = Field(description=_FILE_PATH)
    etag: str | None = Field(default=None, description=_ETAG)
    last_modified: LastModified = Field(
        default=None, exclude_if=lambda value: value is None, description=_LAST_MODIFIED
    )
    ts_downloaded: UtcTime = Field(description=_TS_DOWNLOADED)
    version: str = Field(description=_VERSION)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with these fields changed, and validated."""
        return _validated(super().model_copy(deep=deep), update)

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """The same as the class itself."""
        return cls(**values)


class ManifestRecord(BaseModel):
    """One content, identified by its SHA-256. Its fields hold the latest observation; `also_seen` those of other sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: str = Field(min_length=1, description=_SOURCE_ID)
    dataset: str = Field(min_length=1, description=_DATASET)
    checksum: Checksum = Field(description="SHA-256 of the content, 64 hexadecimal digits in lower case")
    file_path: FilePath = Field(description=_FILE_PATH)
    file_size: int = Field(gt=0, description="length of the content in bytes, more than 0")
    etag: str | None = Field(default=None, description=_ETAG)
    ts_downloaded: UtcTime = Field(description=_TS_DOWNLOADED)
    version: str = Field(description=_VERSION)
    last_modified: LastModified = Field(
        default=None, exclude_if=lambda value: value is None, description=_LAST_MODIFIED
    )
    also_seen: tuple[Observation, ...] = Field(
        default=(), exclude_if=lambda value: not value, description="observations of this content from other sources"
    )
    derived_from: tuple[Checksum, ...] = Field(
        default=(), exclude_if=lambda value: not value, description="SHA-256 of every input that it is derived from"
    )

    # The log stores records unchecked and for ever, so every way to create one must validate it.
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with these fields changed, and validated."""
        return _validated(super().model_copy(deep=deep), update)

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """The same as the class itself."""
        return cls(**values)


class AddResult(NamedTuple):
    """The result of a write: the verdict, and the record that the manifest now has for that source."""

    verdict: Verdict
    record: ManifestRecord


def paths_of(record: ManifestRecord) -> list[Path]:
    """Return every path of a record, its own first."""
    return [record.file_path, *(seen.file_path for seen in record.also_seen)]


_RECORD_FIELDS = frozenset(ManifestRecord.model_fields)
_OBSERVATION_FIELDS = frozenset(Observation.model_fields)


def _refuse_unkept(model: BaseModel, known: frozenset[str]) -> None:
    """Raise `RecordRejectedError` for a subclass with additional fields, because a manifest would silently lose them."""
    unkept = sorted({*type(model).model_fields, *(model.model_extra or ())} - known)
    if unkept:
        raise RecordRejectedError(
            f"{type(model).__name__} has fields that a manifest does not keep: {', '.join(unkept)};"
            " leave them out, and keep them in a table of your own, under the checksum"
        )


def refuse_unkept_metadata(metadata: ManifestMetadata | None) -> None:
    """Raise `ValueError` for metadata of a subclass with additional fields."""
    if metadata is None or type(metadata) is ManifestMetadata:
        return
    unkept = sorted(
        {*type(metadata).model_fields, *(metadata.model_extra or ())} - ManifestMetadata.model_fields.keys()
    )
    if unkept:
        name = type(metadata).__name__
        raise ValueError(f"{name} has fields that a manifest does not keep: {', '.join(unkept)}; leave them out")


def members(record: ManifestRecord) -> dict[str, Any]:
    """Return the members of a record in their order on disk: its row, with times that the encoder converts.

    Raises `RecordRejectedError` for a record of a subclass with additional fields.
    """
    if type(record) is not ManifestRecord:
        _refuse_unkept(record, _RECORD_FIELDS)
    own = record.__dict__  # takes a third of the time of eight attribute reads, in every addition
    row = {
        "source_id": own["source_id"],
        "dataset": own["dataset"],
        "checksum": own["checksum"],
        "file_path": str(own["file_path"]),
        "file_size": own["file_size"],
        "etag": own["etag"],
        "ts_downloaded": own["ts_downloaded"],
        "version": own["version"],
    }
    if own["last_modified"] is not None:
        row["last_modified"] = own["last_modified"]
    if own["also_seen"]:
        row["also_seen"] = [_row_from_observation(seen) for seen in own["also_seen"]]
    if own["derived_from"]:
        row["derived_from"] = list(own["derived_from"])
    return row


def row_from_record(record: ManifestRecord) -> Row:
    """Return the row of a record, with members in their order on disk."""
    return members(record) | {"ts_downloaded": utc_text(record.ts_downloaded)}


def _row_from_observation(seen: Observation) -> Row:
    if type(seen) is not Observation:
        _refuse_unkept(seen, _OBSERVATION_FIELDS)
    row: Row = {
        "source_id": seen.source_id,
        "dataset": seen.dataset,
        "file_path": str(seen.file_path),
        "etag": seen.etag,
        "ts_downloaded": utc_text(seen.ts_downloaded),
        "version": seen.version,
    }
    if seen.last_modified is not None:
        row["last_modified"] = seen.last_modified
    return row


def record_from_row(row: Row) -> ManifestRecord:
    """Return the record of a row, without members that this version does not know."""
    known: dict[str, Any] = row
    if not row.keys() <= _RECORD_FIELDS:
        known = {name: value for name, value in row.items() if name in _RECORD_FIELDS}
    if "also_seen" in known:
        known = known | {
            "also_seen": [
                {name: value for name, value in seen.items() if name in _OBSERVATION_FIELDS}
                for seen in known["also_seen"]
            ]
        }
    return ManifestRecord.model_validate(known)


def record_from_stored(row: Row) -> ManifestRecord:
    """Return the record of a row that was read from storage, as `record_from_row` does.

    A row of the usual members is not validated again: it was when it was written, and a CRC says that it is the same.
    Half of the remaining time makes the path.
    """
    if tuple(row) != REQUIRED:
        return record_from_row(row)
    record = ManifestRecord.__new__(ManifestRecord)
    members = row | {
        "file_path": path_of(row["file_path"]),
        "ts_downloaded": datetime.fromisoformat(row["ts_downloaded"]),
        "last_modified": None,
        "also_seen": (),
        "derived_from": (),
    }
    for name, value in (
        ("__dict__", members),
        ("__pydantic_fields_set__", set(row)),
        ("__pydantic_extra__", None),
        ("__pydantic_private__", None),
    ):
        object.__setattr__(record, name, value)
    return record


def metadata_row(metadata: ManifestMetadata) -> Row:
    """Return the metadata as the canonical file stores them."""
    return {
        "process": metadata.process.value,
        "etl_version": metadata.etl_version,
        "root_dir": str(metadata.root_dir),
        "total_records": metadata.total_records,
        "ts_created": utc_text(metadata.ts_created),
        "ts_updated": utc_text(metadata.ts_updated),
    }
