"""Targets: how a database begins, ends and refuses a transaction, depending on the driver of its connection.

Invariants:

- `begin` starts a separate transaction. If the driver shows an open transaction of the caller, `begin` refuses the
  connection.
- A statement never uses the caller's row or cursor classes, so its rows are plain tuples.
- No driver is imported: a caller that has a connection has imported its driver.

It knows sqlite3, duckdb and psycopg; any other connection is used as PEP 249 describes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from manifestlog.loading.placeholders import STYLES, Parameters, bound

if TYPE_CHECKING:
    import sqlite3

_SQLITE_BUSY = 5
_SQLITE_LOCKED = 6
_LOW_BYTE = 0xFF
"""The upper bytes of an error code of SQLite say more about the lower one."""
_POSTGRES_IDLE = 0
_POSTGRES_CONFLICTS = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock."""
_DUCKDB_CONFLICTS = frozenset({"TransactionException", "SerializationException"})


class Connection(Protocol):
    """A connection of PEP 249."""

    def cursor(self) -> Any: ...

    def commit(self) -> Any: ...

    def rollback(self) -> Any: ...


class RefusedError(Exception):
    """The connection is in a state in which a load cannot begin. It reaches callers as a `LoadError`."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


def _open_transaction() -> RefusedError:
    reason = "a transaction is open on this connection, and the end of the load would end it as well"
    return RefusedError(reason, "commit it or roll it back first")


@dataclass(frozen=True, slots=True)
class Target:
    """What a load needs from a database."""

    style: str
    """How values stand in a statement: a `paramstyle` of PEP 249."""
    execute: Callable[[str, Parameters], Any]
    """Run a statement; what it returns has `fetchall` and perhaps `rowcount`."""
    begin: Callable[[bool], None]
    """Begin a transaction, for writing if True. Raises `RefusedError`."""
    commit: Callable[[], None]
    """End the transaction, if it is still open."""
    rollback: Callable[[], None]
    is_conflict: Callable[[BaseException], bool]
    """Whether an error says that another transaction is in the way, and trying again may help."""
    has_on_conflict: bool = True
    """Whether it understands `ON CONFLICT … DO NOTHING`."""
    counts_in_rows: bool = False
    """Whether a change answers with its number of rows as a row."""

    def rows(self, statement: str, **values: str | None) -> list[tuple[object, ...]]:
        """Return the rows of a query; each `{name}` in it stands for the value of that name."""
        return [_plain(row) for row in self.execute(*bound(statement, values, self.style)).fetchall()]

    def change(self, statement: str, **values: str | None) -> int:
        """Run a statement that changes something, and return how many rows it changed."""
        answer = self.execute(*bound(statement, values, self.style))
        if not self.counts_in_rows:
            return int(answer.rowcount)
        rows = answer.fetchall()
        return int(rows[0][0]) if rows else 0


def target_of(connection: Connection, paramstyle: str | None = None) -> Target:
    """Return the target behind a connection, whose driver is found by its class.

    `paramstyle` is needed only for a driver that does not state its own. Raises `TypeError` for what is no connection,
    and `ValueError` for an unknown `paramstyle`.
    """
    if inspect.iscoroutinefunction(getattr(connection, "commit", None)):
        raise TypeError(f"{type(connection).__name__} is asynchronous: load through a connection that is not")
    if not all(callable(getattr(connection, name, None)) for name in ("cursor", "commit", "rollback")):
        raise TypeError(
            f"{type(connection).__name__} is no database connection: it needs cursor(), commit() and rollback()"
            " (of SQLAlchemy, pass engine.raw_connection())"
        )
    inner: Any = getattr(connection, "driver_connection", connection)  # SQLAlchemy's pool wraps the driver's own
    drivers = {one.__module__.partition(".")[0].lstrip("_") for one in type(inner).__mro__}
    if paramstyle is not None:
        return _plain_target(inner, paramstyle)
    if "sqlite3" in drivers:
        return _sqlite_target(inner)
    if "duckdb" in drivers:
        return _duckdb_target(inner)
    if "psycopg" in drivers:
        return _psycopg_target(inner)
    return _plain_target(inner, _paramstyle(inner))


def _plain(row: Any) -> tuple[object, ...]:
    return tuple(row.values() if isinstance(row, Mapping) else row)


# -- sqlite3 -----------------------------------------------------------------------------------------------------------


def _sqlite_target(connection: sqlite3.Connection) -> Target:
    # From Python 3.12 on: True, False, or -1 for what was the only way before.
    autocommit = getattr(connection, "autocommit", -1)

    def execute(statement: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        cursor = connection.cursor()
        cursor.row_factory = None
        return cursor.execute(statement, parameters)

    def begin(write: bool) -> None:  # noqa: FBT001 -- the one argument
        if autocommit is False:
            # A transaction is always open, and whether it is empty cannot be known: keep what was written.
            connection.commit()
        elif connection.in_transaction:
            raise _open_transaction()
        else:
            # IMMEDIATE: of two loaders, one waits here. Later it could only fail, with what it has read out of date.
            execute("BEGIN IMMEDIATE" if write else "BEGIN")

    def commit() -> None:
        if autocommit is True and connection.in_transaction:
            execute("COMMIT")  # commit() does nothing then
        else:
            connection.commit()

    def rollback() -> None:
        if autocommit is True and connection.in_transaction:
            execute("ROLLBACK")
        else:
            connection.rollback()

    return Target("qmark", execute, begin, commit, rollback, _is_sqlite_busy)


def _is_sqlite_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & _LOW_BYTE in (_SQLITE_BUSY, _SQLITE_LOCKED)


# -- duckdb ------------------------------------------------------------------------------------------------------------


def _duckdb_target(connection: Any) -> Target:
    def execute(statement: str, parameters: Parameters = ()) -> Any:
        return connection.execute(statement, list(parameters))  # cursor() would be a connection of its own

    def begin(write: bool) -> None:  # noqa: ARG001, FBT001 -- every transaction may write
        try:
            connection.begin()
        except Exception as error:
            if type(error).__name__ == "TransactionException":
                raise _open_transaction() from error
            raise

    def rollback() -> None:
        connection.rollback()

    def is_conflict(error: BaseException) -> bool:
        return type(error).__name__ in _DUCKDB_CONFLICTS

    return Target("qmark", execute, begin, connection.commit, rollback, is_conflict, counts_in_rows=True)


# -- psycopg 3 ---------------------------------------------------------------------------------------------------------


def _psycopg_target(connection: Any) -> Target:
    psycopg = sys.modules["psycopg"]

    def execute(statement: str, parameters: Parameters = ()) -> Any:
        return psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row).execute(statement, parameters)

    def begin(write: bool) -> None:  # noqa: ARG001, FBT001 -- every transaction may write
        if connection.info.transaction_status != _POSTGRES_IDLE:
            raise _open_transaction()
        if connection.autocommit:
            execute("BEGIN")

    def is_conflict(error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in _POSTGRES_CONFLICTS

    return Target("pyformat", execute, begin, connection.commit, connection.rollback, is_conflict)


# -- any other ---------------------------------------------------------------------------------------------------------


def _plain_target(connection: Any, style: str) -> Target:
    if style not in STYLES:
        raise ValueError(f"{style!r:.80} is no paramstyle: expected {', '.join(STYLES)}")

    def execute(statement: str, parameters: Parameters = ()) -> Any:
        cursor = connection.cursor()
        cursor.execute(statement, parameters)
        return cursor

    def begin(write: bool) -> None:  # noqa: ARG001, FBT001 -- a transaction begins with the first statement
        if _commits_each(connection):
            raise RefusedError("the connection commits after each statement", "turn its autocommit off")

    def is_conflict(error: BaseException) -> bool:  # noqa: ARG001 -- each driver has its own words for one
        return False

    return Target(style, execute, begin, connection.commit, connection.rollback, is_conflict, has_on_conflict=False)


def _commits_each(connection: Any) -> bool:
    """Return whether autocommit is on, where the driver says so: an attribute for most, a method for those of MySQL."""
    asked = getattr(connection, "get_autocommit", None)
    return (asked() if callable(asked) else getattr(connection, "autocommit", False)) is True


def _paramstyle(connection: object) -> str:
    """Return the `paramstyle` that the driver's module states. Raises `ValueError`."""
    for one in type(connection).__mro__:
        parts = one.__module__.split(".")
        for length in range(len(parts), 0, -1):
            found = getattr(sys.modules.get(".".join(parts[:length])), "paramstyle", None)
            if isinstance(found, str):
                return found
    raise ValueError(f"the driver of {type(connection).__name__} states no paramstyle: give it, as paramstyle='qmark'")
