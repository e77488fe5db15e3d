"""The public data models, and their way to rows and back; no I/O.

Invariants:

- A `ManifestRecord` and an `Observation` cannot be changed, and every time in them is in UTC.
- They are always valid: `model_copy(update=…)` and `model_construct` validate, too.
- Checksums are lower case wherever they came from, so `AB…` and `ab…` are one content.
- Their JSON is exactly what lies on disk: `etag` is written as null, the other optional fields only when they say something.

Unknown members found on disk live in the row, never in a model: a model is what this version understands.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from manifestlog.errors import RecordRejectedError
from manifestlog.rows import Row, utc_text
from manifestlog.verdict import Verdict

_Model = TypeVar("_Model", bound=BaseModel)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _aware_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("the time must carry a zone, for instance datetime.now(UTC)")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _something(text: str | None) -> str | None:
    return text or None  # what is empty is not written, so it must not be there before either


Checksum = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[datetime, AfterValidator(_aware_utc), PlainSerializer(utc_text, return_type=str, when_used="json")]
LastModified = Annotated[str | None, AfterValidator(_something)]


class ETLProcess(StrEnum):
    """Which step of the pipeline writes a manifest.

    - `EXTRACTOR`: fetches files from their sources.
    - `TRANSFORMER`: makes files from files.
    - `LOADER`: brings files into their target.
    """

    EXTRACTOR = "extractor"
    TRANSFORMER = "transformer"
    LOADER = "loader"


def _now() -> datetime:
    return datetime.now(UTC)


class ManifestMetadata(BaseModel):
    """The head of a manifest: who writes it, for which root directory, how many records there are.

    Relative paths of records begin at `root_dir`; a relative `root_dir` begins at the manifest's own folder.
    """

    model_config = ConfigDict(populate_by_name=True)

    process: ETLProcess = Field(description="the step of the pipeline that writes this manifest")
    etl_version: str = Field(min_length=1, description="the version of the code that writes it")
    root_dir: Path = Field(description="the folder at which relative paths of records begin")
    total_records: int = Field(default=0, ge=0, description="the number of records")
    ts_created: UtcTime = Field(default_factory=_now, description="when it was created, in UTC")
    ts_updated: UtcTime = Field(default_factory=_now, description="when it was last changed, in UTC")

    def touch(self) -> None:
        """Set `ts_updated` to now."""
        self.ts_updated = _now()


def _validated(copy: _Model, changes: Mapping[str, Any] | None) -> _Model:
    """The copy with these changes; raises `ValidationError`, where pydantic's own `model_copy` takes anything."""
    return type(copy).model_validate(copy.__dict__ | dict(changes)) if changes else copy


_SOURCE_ID = "which source delivered it, not empty"
_DATASET = "which dataset it belongs to, not empty"
_FILE_PATH = "where the file is; a relative path begins at the manifest's root_dir"
_ETAG = "ETag of the server's answer, quotes included; None without one"
_LAST_MODIFIED = "Last-Modified of the server's answer, as it was sent; None without one"
_TS_DOWNLOADED = "when the download ended, in UTC; to the microsecond"
_VERSION = "etl_version of the code that registered it"


class Observation(BaseModel):
    """Where and when a source delivered a content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: str = Field(min_length=1, description=_SOURCE_ID)
    dataset: str = Field(min_length=1, description=_DATASET)
    file_path: Path = Field(description=_FILE_PATH)
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
    """One content, by its SHA-256: its latest observation in the fields, earlier ones of other sources in `also_seen`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: str = Field(min_length=1, description=_SOURCE_ID)
    dataset: str = Field(min_length=1, description=_DATASET)
    checksum: Checksum = Field(description="SHA-256 of the content, 64 hexadecimal digits in lower case")
    file_path: Path = Field(description=_FILE_PATH)
    file_size: int = Field(gt=0, description="length of the content in bytes, more than 0")
    etag: str | None = Field(default=None, description=_ETAG)
    ts_downloaded: UtcTime = Field(description=_TS_DOWNLOADED)
    version: str = Field(description=_VERSION)
    last_modified: LastModified = Field(
        default=None, exclude_if=lambda value: value is None, description=_LAST_MODIFIED
    )
    also_seen: tuple[Observation, ...] = Field(
        default=(), exclude_if=lambda value: not value, description="where else this content came from, and when"
    )
    derived_from: tuple[Checksum, ...] = Field(
        default=(), exclude_if=lambda value: not value, description="SHA-256 of every input that it was made from"
    )

    # What reaches the log is taken as it is and kept for ever, so there is no way to a record that was not validated.
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with these fields changed, and validated."""
        return _validated(super().model_copy(deep=deep), update)

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """The same as the class itself."""
        return cls(**values)


class AddResult(NamedTuple):
    """The answer to a write: the verdict, and the record as the manifest now holds it for that source."""

    verdict: Verdict
    record: ManifestRecord


def paths_of(record: ManifestRecord) -> list[Path]:
    """Every path that a record states, its own first."""
    return [record.file_path, *(seen.file_path for seen in record.also_seen)]


_RECORD_FIELDS = frozenset(ManifestRecord.model_fields)
_OBSERVATION_FIELDS = frozenset(Observation.model_fields)


def _refuse_unkept(model: BaseModel, known: frozenset[str]) -> None:
    """Raise `RecordRejectedError` for a subclass with fields of its own: no manifest keeps them, so none may seem to."""
    unkept = sorted({*type(model).model_fields, *(model.model_extra or ())} - known)
    if unkept:
        raise RecordRejectedError(
            f"{type(model).__name__} has fields that a manifest does not keep: {', '.join(unkept)};"
            " leave them out, and keep them in a table of your own, by the checksum"
        )


def refuse_unkept_metadata(metadata: ManifestMetadata | None) -> None:
    """Raise `ValueError` for metadata of a subclass with fields of its own."""
    if metadata is None or type(metadata) is ManifestMetadata:
        return
    unkept = sorted(
        {*type(metadata).model_fields, *(metadata.model_extra or ())} - ManifestMetadata.model_fields.keys()
    )
    if unkept:
        name = type(metadata).__name__
        raise ValueError(f"{name} has fields that a manifest does not keep: {', '.join(unkept)}; leave them out")


def members(record: ManifestRecord) -> dict[str, Any]:
    """The members of a record, in their order on disk; what its row holds, but for times, which the encoder writes.

    Raises `RecordRejectedError` for a record of a subclass with fields of its own.
    """
    if type(record) is not ManifestRecord:
        _refuse_unkept(record, _RECORD_FIELDS)
    own = record.__dict__  # a third of the time of asking the model eight times, on every addition's way
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
    """The row of a record, members in their order on disk."""
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
    """The record of a row; members that this version does not know are left out."""
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
