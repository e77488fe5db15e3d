"""The tables: numbered SQL files, the version of a database, and how missing steps are applied.

Plain SQL files, because an administrator can read and apply them, and nothing here is generated from classes.

Invariants:

- All missing steps are applied in one transaction. Steps only add, so older and newer programs can work side by side.
- Opening a manifest changes no existing table: `create` does, and `manifestlog init` calls it.
- A schema `manifestlog` without our version table belongs to another program and is not changed.
"""

from __future__ import annotations

import logging
import pkgutil
import re
from typing import TYPE_CHECKING

import psycopg

from manifestlog.errors import NewerFormatError
from manifestlog.server_errors import ServerError

if TYPE_CHECKING:
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.protocol import Location

log = logging.getLogger(__name__)

STEPS = ("0001_tables.sql", "0002_claims.sql")
_STATE = """
    SELECT (SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'manifestlog'),
        (SELECT count(*) FROM information_schema.tables WHERE table_schema = 'manifestlog'),
        (SELECT count(*) FROM information_schema.tables WHERE table_schema = 'manifestlog' AND table_name = 'schema_version')"""
_VERSION = "SELECT max(version) FROM manifestlog.schema_version"
_MAKE_VERSIONS = """
    CREATE TABLE IF NOT EXISTS manifestlog.schema_version (version integer PRIMARY KEY, applied timestamptz NOT NULL)"""
_APPLIED = "INSERT INTO manifestlog.schema_version VALUES (%s, now())"


def version(slot: Slot, location: Location) -> int:
    """Return the number of the last step that this database has; 0: none. Raises `NewerFormatError`, `ServerError`."""
    try:
        ((found,),) = slot.rows(_VERSION)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        slot.recover()
        _refuse_foreign(slot, location)
        return 0
    except psycopg.errors.UndefinedColumn:
        raise _foreign(location) from None
    if found is not None and found > len(STEPS):
        raise NewerFormatError(location.display, found, len(STEPS))
    return int(found or 0)


def check_version(found: int, location: Location) -> None:
    """Raise `ServerError` if steps are missing."""
    if found < len(STEPS):
        raise ServerError(
            location.display,
            f"its tables have version {found}, and this program needs {len(STEPS)}",
            "run `manifestlog init`, which brings them up to date",
        )


def make(slot: Slot, location: Location) -> None:
    """Make the schema if there is none. Raises `NewerFormatError`, and `ServerError` for an older one."""
    if found := version(slot, location):
        check_version(found, location)
    else:
        create(slot, location)
        log.info("%s: made the schema manifestlog", location.display)


def create(slot: Slot, location: Location) -> None:
    """Make the schema, or apply the steps that it lacks. Several programs may try at once."""
    while (found := version(slot, location)) < len(STEPS):
        try:
            with slot.live.transaction():
                _apply(slot, found)
        except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateObject, psycopg.errors.DuplicateTable):
            if version(slot, location) == found:
                raise


def _apply(slot: Slot, found: int) -> None:
    """Apply the steps after this one. Nobody may see some of them alone: it would ask for `manifestlog init`."""
    if not found:
        slot.live.execute("CREATE SCHEMA IF NOT EXISTS manifestlog")
        slot.live.execute(_MAKE_VERSIONS)
    for number in range(found + 1, len(STEPS) + 1):
        slot.live.execute(_APPLIED, (number,))  # a second program waits here, and then fails
        for statement in statements(number):
            slot.live.execute(statement.encode())


def statements(number: int) -> list[str]:
    """Return the statements of a step."""
    found = pkgutil.get_data(__name__, f"migrations/{STEPS[number - 1]}")
    assert found is not None
    text = re.sub(r"--[^\n]*", "", found.decode())
    return [one for part in text.split(";") if (one := part.strip())]


def _refuse_foreign(slot: Slot, location: Location) -> None:
    """Raise `ServerError` if the schema has tables that are not ours, or if we may not read ours."""
    ((_, tables, versions),) = slot.rows(_STATE)
    if tables and not versions:
        raise _foreign(location)


def _foreign(location: Location) -> ServerError:
    return ServerError(
        location.display,
        "another program has a schema named `manifestlog` in this database",
        "use a database of its own for manifests; nothing was changed",
    )
