"""An index file for `add`: which files are here, and what is known of each from whoever has fetched it.

::

    file_path,source_id,dataset,last_modified,ts_downloaded
    old/systems.json.gz,systems,star_systems,"Wed, 01 May 2024 02:00:00 GMT",2024-05-01T03:30:00Z

CSV with a first line of names, or JSON lines where the file ends in `.jsonl`. The names are those of a record, so what
`list --jsonl` prints is an index as well, where it has absolute paths.

Invariants:

- All of it is read and checked before anything is registered; what is wrong is a usage error that names the line.
- Relative paths begin at the folder of the index.
"""

import csv
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import typer

from manifestlog.extract.source import HEADER_VALUE
from manifestlog.models import ManifestRecord
from manifestlog.rows import normal_checksum

HINT = "--index"
_USED = ("file_path", "source_id", "dataset", "etag", "last_modified", "ts_downloaded", "checksum")


class Facts(NamedTuple):
    """What is known of a file beside its bytes."""

    etag: str | None = None
    last_modified: str | None = None
    ts_downloaded: datetime | None = None
    checksum: str | None = None


class Entry(NamedTuple):
    """A file of an index."""

    path: str
    source_id: str | None
    dataset: str | None
    facts: Facts


def read(path: str) -> list[Entry]:
    """Every file that the index at this path names; raises `typer.BadParameter`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(_json_lines(file) if path.lower().endswith(".jsonl") else _csv_lines(file))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=HINT) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path}: this is no text in UTF-8; save it as that", param_hint=HINT) from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint=HINT) from None
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
            raise ValueError(f"line {rows.line_num}: more fields than the first line names")
        yield rows.line_num, row


def _entry(where: str, folder: str, row: dict[str, Any]) -> Entry:
    unknown = [name for name in row if name not in ManifestRecord.model_fields]
    if unknown:
        raise _wrong(where, f"unknown name {unknown[0]!r}; expected some of {', '.join(_USED)}")
    values = {name: row.get(name) or None for name in _USED}
    wrong = next((name for name, value in values.items() if not isinstance(value, str | None)), None)
    if wrong is not None:
        raise _wrong(where, f"{wrong}: expected a text")
    path = values["file_path"]
    if path is None:
        raise _wrong(where, "file_path is missing")
    try:
        facts = facts_of(values["etag"], values["last_modified"], values["ts_downloaded"], values["checksum"])
    except ValueError as error:
        raise _wrong(where, str(error)) from None
    return Entry(os.path.join(folder, path), values["source_id"], values["dataset"], facts)


def _wrong(where: str, reason: str) -> typer.BadParameter:
    return typer.BadParameter(f"{where}: {reason}", param_hint=HINT)


def facts_of(etag: str | None, last_modified: str | None, ts: str | None, checksum: str | None = None) -> Facts:
    """The facts as they were written; raises `ValueError`."""
    for name, value in (("etag", etag), ("last_modified", last_modified)):
        if value is not None and not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{name}: expected one line of Latin-1 text, as the server sent it")
    if checksum is not None and normal_checksum(checksum) is None:
        raise ValueError("checksum: expected 64 hexadecimal digits")
    return Facts(etag, last_modified, None if ts is None else _moment(ts), checksum and checksum.lower())


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: expected one like 2024-05-01T12:00:00Z") from None
    if moment > datetime.now(UTC):
        raise ValueError(f"{text} has not come yet: a download's time is in the past")
    return moment
