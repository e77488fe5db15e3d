"""Claims: who works on what, among the workers of every host.

Invariants:

- At most one `PostgresClaims` object holds a claim. Threads of one object share its claims.
- A claim ends with its block, its object or its process; if its host is cut off or stopped, `LEASE_S` later.
- Inside `fence` nothing is written any more once a claim of this object may be somebody else's.

Two holders are possible for a moment: one that was cut off works on until it writes. `session_locks` and `leases` keep the
claims, the second where the server's session locks are not real.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self

from manifestlog import names
from manifestlog.engines.postgres.leases import Leases
from manifestlog.engines.postgres.session_locks import SessionLocks, are_real
from manifestlog.engines.postgres.values import hashed
from manifestlog.errors import ManifestError
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from manifestlog.engines.postgres.connections import Pool, Slot

LEASE_S = 60.0
_POLL_S, _POLL_S_MAX = 0.005, 0.1
_RUNS_NOTED_MAX = 999
_SKIPS = "SELECT times FROM manifestlog.skip WHERE place = %b AND name = %b"
_NOTE = """
    INSERT INTO manifestlog.skip (place, name, times) VALUES (%b, %b, %b)
    ON CONFLICT (place, name) DO UPDATE SET times = excluded.times"""
_CLEAR = "DELETE FROM manifestlog.skip WHERE place = %b AND name = %b"


class Locks(Protocol):
    """What keeps the claims of one object."""

    def take(self, key: bytes) -> bool:
        """Take a claim if it is free, and return whether that succeeded."""

    def release(self, key: bytes) -> None: ...

    def renew(self) -> None:
        """Say that this object is still there."""

    def fenced(self) -> AbstractContextManager[None]: ...

    def close(self) -> None:
        """Release everything."""


class PostgresClaims:
    """The claims of one worker in a directory; a context manager."""

    def __init__(self, pool: Pool, directory: str, lease_s: float = LEASE_S) -> None:
        self.display = directory
        self._pool = pool
        self._place = directory if names.is_url(directory) else os.path.realpath(directory)
        self._lease_s = lease_s
        self._turn = threading.RLock()
        self._locks: Locks | None = None
        self._over = threading.Event()

    @contextmanager
    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        key = _key(self._place, kind, name)
        ours = self._take(key, time.monotonic() + wait_s)
        try:
            yield ours
        finally:
            if ours:
                self._release(key)

    def fence(self) -> AbstractContextManager[None]:
        """In this block, a write of this thread raises `ClaimLostError` if a claim of this object was lost."""
        with self._turn:
            return self._begun().fenced()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """None: a connection cannot be inherited, so claims end with this process."""
        return ()

    def _take(self, key: bytes, deadline: float) -> bool:
        pause_s = _POLL_S
        while not self._try(key):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _POLL_S_MAX)
        return True

    def _try(self, key: bytes) -> bool:
        with self._turn:
            return self._begun().take(key)

    def _begun(self) -> Locks:
        if self._locks is None:
            real = are_real(self._pool)
            self._locks = SessionLocks(self._pool, self._lease_s) if real else Leases(self._pool, self._lease_s)
            threading.Thread(target=self._renew, name="manifestlog-claims", daemon=True).start()
        return self._locks

    def _renew(self) -> None:
        while not self._over.wait(self._lease_s / 3):
            with self._turn, suppress(ManifestError):
                if self._locks is not None:
                    self._locks.renew()

    def _release(self, key: bytes) -> None:
        with self._turn, suppress(ManifestError):  # what cannot be released is lost, or ends with its lease
            if self._locks is not None:
                self._locks.release(key)

    def record_skip(self, name: str) -> list[str]:
        place, key = hashed(self._place), hashed(name)
        now = datetime.now(UTC).isoformat(timespec="seconds")

        def act(slot: Slot) -> list[str]:
            found = slot.rows(_SKIPS, place, key)
            times: list[str] = [*(codec.loads(found[0][0]) if found else [])[-_RUNS_NOTED_MAX:], now]
            slot.rows(_NOTE, place, key, codec.dumps(times))
            return times

        return self._pool.call(act)

    def clear_skips(self, name: str) -> None:
        self._pool.call(lambda slot: slot.rows(_CLEAR, hashed(self._place), hashed(name)))

    def close(self) -> None:
        self._over.set()
        with self._turn:
            locks, self._locks = self._locks, None
            if locks is not None:
                locks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def claims(pool: Pool, directory: str) -> PostgresClaims:
    """Return a new worker's claims."""
    return PostgresClaims(pool, directory)


def _key(place: str, kind: str, name: str) -> bytes:
    return hashlib.sha256(f"{place}\0{kind}\0{name}".encode("utf-8", "surrogatepass")).digest()
