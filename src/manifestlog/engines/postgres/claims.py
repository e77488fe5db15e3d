"""Claims as session locks of the server: who works on what, among the workers of every host.

Invariants:

- At most one `PostgresClaims` object holds a claim. Threads of one object share its claims.
- A claim ends with its session: with its block, its object, its process, or its host once the server notices.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from manifestlog.engines.postgres.values import hashed
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from manifestlog.engines.postgres.connections import Pool, Slot

_POLL_S, _POLL_S_MAX = 0.005, 0.1
_RUNS_NOTED_MAX = 999
_LOCK = "SELECT pg_try_advisory_lock(%s::bigint)"
_UNLOCK = "SELECT pg_advisory_unlock(%s::bigint)"
_SKIPS = "SELECT times FROM manifestlog.skip WHERE place = %b AND name = %b"
_NOTE = """
    INSERT INTO manifestlog.skip (place, name, times) VALUES (%b, %b, %b)
    ON CONFLICT (place, name) DO UPDATE SET times = excluded.times"""
_CLEAR = "DELETE FROM manifestlog.skip WHERE place = %b AND name = %b"


class PostgresClaims:
    """The claims of one worker in a directory; a context manager."""

    def __init__(self, pool: Pool, directory: str) -> None:
        self.display = directory
        self._pool = pool
        self._place = os.path.realpath(directory)
        self._turn = threading.RLock()
        self._slot: Slot | None = None
        self._closed = False

    @contextmanager
    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        key = _key(self._place, kind, name)
        ours = self._lock(key, time.monotonic() + wait_s)
        try:
            yield ours
        finally:
            if ours:
                self._unlock(key)

    def _lock(self, key: int, deadline: float) -> bool:
        pause_s = _POLL_S
        while not self._try(key):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _POLL_S_MAX)
        return True

    def _try(self, key: int) -> bool:
        with self._turn:
            if self._slot is None:
                self._slot = self._pool.call(self._keep)
            return bool(self._slot.rows(_LOCK, key)[0][0])

    def _keep(self, slot: Slot) -> Slot:
        self._pool.keep(slot)
        return slot

    def _unlock(self, key: int) -> None:
        with self._turn:
            if self._slot is not None:
                self._slot.rows(_UNLOCK, key)

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
        with self._turn:
            slot, self._slot = self._slot, None
            if slot is not None:
                slot.disconnect()  # which ends its claims
                self._pool.take_back(slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def claims(pool: Pool, directory: str) -> PostgresClaims:
    """Return a new worker's claims."""
    return PostgresClaims(pool, directory)


def _key(place: str, kind: str, name: str) -> int:
    text = f"{place}\0{kind}\0{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)
