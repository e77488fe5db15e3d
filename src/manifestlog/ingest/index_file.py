"""Reads an index file, which lists files and the metadata that their downloader knows.

::

    file_path,source_id,dataset,last_modified,ts_downloaded
    old/systems.json.gz,systems,star_systems,"Wed, 01 May 2024 02:00:00 GMT",2024-05-01T03:30:00Z

CSV with a header line, or JSON Lines if the file name ends in `.jsonl`. The field names are those of a record, so the
output of `list --jsonl` is also an index if its paths are absolute.

Invariants:

- The whole index is read and checked before any file is registered. An error names the line.
- Paths are relative to the directory of the index.
"""

import csv
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from manifestlog.model.headers import HEADER_VALUE
from manifestlog.model.models import ManifestRecord
from manifestlog.model.rows import normal_checksum

_USED = ("file_path", "source_id", "dataset", "etag", "last_modified", "ts_downloaded", "checksum")


class IndexFileError(ValueError):
    """A malformed index. The message starts with its path."""


class KnownFacts(NamedTuple):
    """The metadata of a file: headers as the server sent them, the time in UTC."""

    etag: str | None = None
    last_modified: str | None = None
    ts_downloaded: datetime | None = None
    checksum: str | None = None


class ListedFile(NamedTuple):
    """A file with metadata, from an index or from a caller."""

    path: str
    source_id: str | None = None
    dataset: str | None = None
    facts: KnownFacts = KnownFacts()


def read_index(path: str | os.PathLike[str]) -> list[ListedFile]:
    """Return every file of the index at this path. Raises `IndexFileError`, and `OSError` if it cannot be opened."""
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(_json_lines(file) if path.lower().endswith(".jsonl") else _csv_lines(file))
    except UnicodeDecodeError:
        raise IndexFileError(f"{path}: not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise IndexFileError(f"{path}: {error}") from None
    folder = os.path.dirname(os.path.abspath(path))
    return [_entry(f"{path}: line {number}", folder, row) for number, row in lines]


def _json_lines(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: expected one JSON object")
            yield number, row


def _csv_lines(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(file, strict=True)
    for row in rows:
        if None in row:
            raise ValueError(f"line {rows.line_num}: more fields than the header line")
        yield rows.line_num, row


def _entry(where: str, folder: str, row: dict[str, Any]) -> ListedFile:
    unknown = [name for name in row if name not in ManifestRecord.model_fields]
    if unknown:
        raise IndexFileError(f"{where}: unknown name {unknown[0]!r}; the known names are {', '.join(_USED)}")
    values = {name: row.get(name) or None for name in _USED}
    wrong = next((name for name, value in values.items() if not isinstance(value, str | None)), None)
    if wrong is not None:
        raise IndexFileError(f"{where}: {wrong}: expected a string")
    path = values["file_path"]
    if path is None:
        raise IndexFileError(f"{where}: file_path is missing")
    try:
        facts = facts_of(values["etag"], values["last_modified"], values["ts_downloaded"], values["checksum"])
    except ValueError as error:
        raise IndexFileError(f"{where}: {error}") from None
    return ListedFile(os.path.join(folder, path), values["source_id"], values["dataset"], facts)


def facts_of(etag: str | None, last_modified: str | None, ts: str | None, checksum: str | None = None) -> KnownFacts:
    """Parse and check the metadata of a file. Raises `ValueError`."""
    for name, value in (("etag", etag), ("last_modified", last_modified)):
        if value is not None and not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{name}: expected one line of Latin-1 text, as the server sent it")
    if checksum is not None and normal_checksum(checksum) is None:
        raise ValueError("checksum: expected 64 hexadecimal digits")
    return KnownFacts(etag, last_modified, None if ts is None else _moment(ts), checksum and checksum.lower())


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time: expected one like 2024-05-01T12:00:00Z") from None
    if moment > datetime.now(UTC):
        raise ValueError(f"{text} is in the future: expected the time of a finished download")
    return moment
