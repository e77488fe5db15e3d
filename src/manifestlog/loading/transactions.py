"""Transactions of a target on the table of marks: begins them, waits for others, and explains failures.

Invariants:

- Every error of a driver becomes a `LoadError`, which says what the table needs.
- A transaction is repeated only if another one was in its way.
- The table is created in a transaction before the first load, because some databases commit when a table is created.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from manifestlog.loading import marks
from manifestlog.loading.errors import LoadError
from manifestlog.loading.targets import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.loading.targets import Target

T = TypeVar("T")

WAIT_S = 60.0
_PAUSE_S = 0.05
"""Between two attempts, for a target that answers at once while another loader is at work."""


class OvertakenError(Exception):
    """Another loader came first. A signal to look again; it reaches no caller."""


@contextmanager
def transaction(target: Target, table: str, *, write: bool) -> Iterator[None]:
    """Run the block as a transaction of its own."""
    begin(target, table, write=write)
    try:
        yield
    except BaseException:
        rollback(target)
        raise
    target.commit()


def begin(target: Target, table: str, *, write: bool) -> None:
    """Begin a transaction. Raises `LoadError` if the connection is not ready for one."""
    try:
        target.begin(write)
    except RefusedError as error:
        raise LoadError(table, error.reason, error.advice) from None


def rollback(target: Target) -> None:
    """Roll back because of an error, which stays the one that is raised: the connection may be what failed."""
    with suppress(Exception):
        target.rollback()


def read(target: Target, table: str, ask: Callable[[], T]) -> T:
    """Read marks in a transaction of their own, and create their table if it is missing. Raises `LoadError`."""

    def attempt() -> T:
        with transaction(target, table, write=False):
            return ask()

    try:
        return _patiently(target, table, attempt, WAIT_S)
    except LoadError:
        raise
    except Exception:  # noqa: BLE001 -- each driver has its own for a missing table
        failure = _create(target, table)
    try:
        return _patiently(target, table, attempt, WAIT_S)
    except LoadError:
        raise
    except Exception as error:  # noqa: BLE001 -- as above
        raise _unusable(table, failure, error) from (failure or error)


def write(target: Target, table: str, change: Callable[[], T], wait_s: float = WAIT_S) -> T:
    """Change marks, after another loader that is at work. Raises `LoadError`."""
    try:
        return _patiently(target, table, change, wait_s)
    except LoadError:
        raise
    except Exception as error:
        advice = f"it needs SELECT, INSERT and UPDATE, and this shape: {_shape(table)}"
        raise LoadError(table, f"a mark cannot be written ({error})", advice) from error


def _patiently(target: Target, table: str, work: Callable[[], T], wait_s: float) -> T:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return work()
        except Exception as error:
            if not (isinstance(error, OvertakenError) or target.is_conflict(error)):
                raise
            if time.monotonic() >= deadline:
                reason = f"another transaction has been in the way for {wait_s:g} s ({error or 'it came first'})"
                raise LoadError(
                    table, reason, "run it again when that one has ended, or wait longer (wait_s)"
                ) from error
        time.sleep(_PAUSE_S)


def _create(target: Target, table: str) -> Exception | None:
    """Create the table if there is none; return why that is impossible."""

    def attempt() -> None:
        with transaction(target, table, write=True):
            marks.create(target, table)

    try:
        _patiently(target, table, attempt, WAIT_S)
    except Exception as error:  # noqa: BLE001 -- another loader may have been as quick
        return error
    return None


def _unusable(table: str, failure: Exception | None, error: Exception) -> LoadError:
    if failure is None:
        reason = f"it is not a table of loads, or may not be read ({error})"
        return LoadError(
            table, reason, f"grant SELECT, INSERT and UPDATE on it, or name another table: {_shape(table)}"
        )
    reason = f"the table cannot be created ({failure})"
    return LoadError(
        table, reason, f"let its owner create it, and grant SELECT, INSERT and UPDATE on it: {_shape(table)}"
    )


def _shape(table: str) -> str:
    return " ".join(marks.definition(table).split())
