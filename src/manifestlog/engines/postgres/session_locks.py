"""Claims as advisory locks of one session.

Invariants:

- The server releases them when the session ends: 5 ms after a `kill -9` of its process, and after the lease if its host is
  stopped or cut off, because a session that is idle for so long is ended.
- What is written inside `fenced` is written by the same session. So a lost claim and a write exclude each other.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from manifestlog.engines.postgres import failures
from manifestlog.server_errors import ClaimLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.postgres.connections import Pool, Slot

_LOCK = "SELECT pg_try_advisory_lock(%s::bigint)"
_UNLOCK = "SELECT pg_advisory_unlock(%s::bigint)"
_LEASE = "SELECT set_config('idle_session_timeout', %s, false)"


def are_real(pool: Pool) -> bool:
    """Return whether a lock that one session has is refused to another one.

    Some servers answer yes to everybody, and behind a pooler a session may change with each transaction.
    """
    if pool.session_locks is None:
        pool.session_locks = pool.has_sessions and pool.call(lambda slot: _probe(pool, slot))
    return pool.session_locks


def _probe(pool: Pool, one: Slot) -> bool:
    key = secrets.randbits(62)

    def other(slot: Slot) -> bool:
        got = bool(slot.rows(_LOCK, key)[0][0])
        if got:
            slot.rows(_UNLOCK, key)
        return got

    if not one.rows(_LOCK, key)[0][0]:
        return False
    try:
        return not pool.call(other)
    finally:
        one.rows(_UNLOCK, key)


class SessionLocks:
    """The claims of one session, which has a connection of its own."""

    def __init__(self, pool: Pool, lease_s: float) -> None:
        self._pool = pool
        self._held: list[int] = []
        self._slot = pool.call(lambda slot: self._begin(slot, f"{int(lease_s * 1000)}ms"))

    def _begin(self, slot: Slot, lease: str) -> Slot:
        slot.rows(_LEASE, lease)
        self._pool.keep(slot)
        return slot

    def take(self, key: bytes) -> bool:
        number = _number(key)
        found = bool(self._ask(_LOCK, number))
        if found:
            self._held.append(number)
        return found

    def release(self, key: bytes) -> None:
        number = _number(key)
        if number in self._held:
            self._held.remove(number)
            if self._slot.connection is not None:
                self._ask(_UNLOCK, number)

    def renew(self) -> None:
        self._ask("SELECT 1")

    def _ask(self, statement: str, *parameters: object) -> object:
        if self._slot.connection is None:
            raise ClaimLostError(self._pool.location.display)
        try:
            return self._slot.rows(statement, *parameters)[0][0]
        except psycopg.Error as error:
            self._slot.recover()
            raise self._lost(error) from error

    def _lost(self, error: psycopg.Error) -> Exception:
        if failures.is_lost(error) or self._slot.connection is None:
            return ClaimLostError(self._pool.location.display)
        return failures.of_statement(self._pool.location, error, self._pool.timeout_s)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        if self._slot.connection is None:
            raise ClaimLostError(self._pool.location.display)
        with self._pool.bound(self._slot):
            yield

    def close(self) -> None:
        self._slot.disconnect()
        self._pool.take_back(self._slot)


def _number(key: bytes) -> int:
    return int.from_bytes(key[:8], "big", signed=True)
