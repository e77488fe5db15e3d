"""Tests whether a process still exists: its own session holds a lock, which others test.

Invariants:

- The server releases the lock when the session ends: 5 ms after a `kill -9` of its process.
- A lost session does not prove that the process is gone. So claims are judged by their rows; this test only allows the
  claims of a killed process to be taken over.
- A session that comes after a lost one asks for the lock until it has it: the server may take a while to end the lost one.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot

_LOCK = "SELECT pg_try_advisory_lock(%s::bigint)"
_UNLOCK = "SELECT pg_advisory_unlock(%s::bigint)"
_NUMBER_BITS = 62
_NOT_HERE = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InsufficientPrivilege,
)


def are_real(pool: Pool) -> bool:
    """Return whether a lock that one session has is refused to another one.

    Some servers answer yes to everybody, some have no such locks, and behind a pooler a session may change with each
    transaction.
    """
    if pool.session_locks is None:
        pool.session_locks = pool.has_sessions and pool.call(lambda slot: _probe(pool, slot))
    return pool.session_locks


def _probe(pool: Pool, one: Slot) -> bool:
    key = secrets.randbits(_NUMBER_BITS)

    def other(slot: Slot) -> bool:
        got = bool(slot.rows(_LOCK, key)[0][0])
        if got:
            slot.rows(_UNLOCK, key)
        return got

    try:
        if not one.rows(_LOCK, key)[0][0]:
            return False
    except _NOT_HERE:
        one.recover()
        return False
    try:
        return not pool.call(other)
    finally:
        one.rows(_UNLOCK, key)


class Presence:
    """The session of this process. One thread uses it at a time."""

    def __init__(self, pool: Pool) -> None:
        self.number = secrets.randbits(_NUMBER_BITS)
        """What others ask for."""
        self._pool = pool
        self._slot: Slot | None = None
        self.is_shown = False
        """Whether the session has the lock, so that others see that the process is there."""

    def call(self, act: Callable[[Slot], None]) -> None:
        """Call `act` in the session, or in a new one if it was lost. Raises `ManifestError`.

        An error that leaves the session as it is does not end it: without it, others would take over what this process
        claims.
        """
        try:
            if self._slot is not None and self._slot.connection is not None:
                self._show(self._slot)
                act(self._slot)
                return
        except psycopg.Error:
            assert self._slot is not None
            self._slot.recover()
        if self._slot is None or self._slot.connection is None:
            self.end()
            self._slot = self._pool.call(self._begin)
        self._pool.call(act)

    def _begin(self, slot: Slot) -> Slot:
        self._show(slot)
        self._pool.keep(slot)
        return slot

    def _show(self, slot: Slot) -> None:
        # The server may not know yet that the lost session is gone: then that one has the lock for some more seconds.
        if not self.is_shown:
            self.is_shown = bool(slot.rows(_LOCK, self.number)[0][0])

    def end(self) -> None:
        """End the session: what this process claims is free then."""
        slot, self._slot, self.is_shown = self._slot, None, False
        if slot is not None:
            slot.disconnect()
            self._pool.take_back(slot)
