"""The table of marks in a target: one row for each content that a stage has loaded, or is loading.

Invariants:

- A mark without `loaded_at` belongs to a transaction that has not ended. No other connection sees one, unless the code
  that wrote the rows committed midway.
- A stage has one mark per content. It states the version that was loaded last.

Every function here is part of a transaction that its caller begins and ends.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.loading.targets import Target

TABLE = "manifestlog_loads"
"""The name of the table in the target, by default."""

CHARACTERS_MAX = 200
"""Of a stage and of a version."""
_COLUMN_TYPES = """(
    stage VARCHAR(200) NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    version VARCHAR(200) NOT NULL,
    loaded_at VARCHAR(32),
    PRIMARY KEY (stage, checksum)
)"""
_COLUMNS = "SELECT stage, checksum, version, loaded_at FROM "
_THIS = " WHERE stage = {stage} AND checksum = {checksum}"
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,2}", re.ASCII)


class Mark(NamedTuple):
    """The mark in the target of a content that a stage has loaded."""

    stage: str
    checksum: str
    version: str
    loaded_at: datetime | None
    """When the load ended, by this machine's clock; None if the code that wrote the rows committed before the end."""


class Key(NamedTuple):
    """Whose mark: a content and a stage, in a table."""

    table: str
    stage: str
    checksum: str


def checked_table(name: str) -> str:
    """Return the name of a table, which becomes part of statements. Raises `ValueError` for anything but a plain name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is not the name of a table: expected letters, digits and _, as in schema.table")
    return name


def definition(table: str) -> str:
    """Return the statement that creates the table if there is none."""
    return f"CREATE TABLE IF NOT EXISTS {table} {_COLUMN_TYPES}"


def create(target: Target, table: str) -> None:
    """Create the table if there is none."""
    target.change(definition(table))


def find(target: Target, key: Key) -> Mark | None:
    """Return the mark, or None."""
    rows = target.rows(f"{_COLUMNS}{key.table}{_THIS}", stage=key.stage, checksum=key.checksum)
    return _mark_of(rows[0]) if rows else None


def find_all(target: Target, table: str, stage: str | None) -> Iterator[Mark]:
    """Yield the marks of a stage, or of all, sorted."""
    order = " ORDER BY stage, checksum"
    if stage is None:
        return map(_mark_of, target.rows(f"{_COLUMNS}{table}{order}"))
    return map(_mark_of, target.rows(f"{_COLUMNS}{table} WHERE stage = {{stage}}{order}", stage=stage))


def begin(target: Target, key: Key, version: str) -> bool:
    """Write the mark of a first load; return whether that was possible: another loader may have come first."""
    statement = f"INSERT INTO {key.table} (stage, checksum, version) VALUES ({{stage}}, {{checksum}}, {{version}})"  # noqa: S608 -- a checked name
    if target.has_on_conflict:  # it also refuses a table without the primary key
        statement += " ON CONFLICT (stage, checksum) DO NOTHING"
    try:
        return target.change(statement, stage=key.stage, checksum=key.checksum, version=version) != 0
    except Exception:
        if target.has_on_conflict:
            raise
        target.rollback()  # drivers differ in how they say that there is such a row, so look
        if find(target, key) is None:
            raise
        return False


def supersede(target: Target, key: Key, old: str, version: str) -> bool:
    """Put another version into a mark; return whether that was possible: another loader may have come first."""
    statement = f"UPDATE {key.table} SET version = {{version}}, loaded_at = NULL{_THIS} AND version = {{old}}"  # noqa: S608 -- a checked name
    return target.change(statement, stage=key.stage, checksum=key.checksum, version=version, old=old) != 0


def end(target: Target, key: Key, version: str) -> bool:
    """Write the end of a load into its mark; return whether the mark was there."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    statement = f"UPDATE {key.table} SET loaded_at = {{now}}{_THIS} AND version = {{version}} AND loaded_at IS NULL"  # noqa: S608 -- a checked name
    return target.change(statement, stage=key.stage, checksum=key.checksum, version=version, now=now) != 0


def remove(target: Target, key: Key) -> bool:
    """Remove a mark; return whether it was there."""
    return target.change(f"DELETE FROM {key.table}{_THIS}", stage=key.stage, checksum=key.checksum) != 0  # noqa: S608 -- a checked name


def _mark_of(row: tuple[object, ...]) -> Mark:
    # A connection can be set to return bytes for text.
    stage, checksum, version, moment = (one.decode() if isinstance(one, bytes) else one for one in row)
    return Mark(
        str(stage), str(checksum), str(version), None if moment is None else datetime.fromisoformat(str(moment))
    )
