"""Claims as rows with an end, for servers whose session locks are not real.

Invariants:

- A claim that has not been renewed for a lease is free. Its token grows with each new holder.
- What is written inside `fenced` compares tokens and ends in the same transaction, and locks the rows until it commits.

The clock is the server's.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from manifestlog.engines.postgres.connections import Fence
from manifestlog.engines.postgres.writing import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.postgres.connections import Pool

_TAKE = f"""
    INSERT INTO manifestlog.claim AS c (name, owner, token, expires) VALUES (%b, %b, 1, {NOW} + %s)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires = excluded.expires,
        token = CASE WHEN c.owner = excluded.owner AND c.expires > {NOW} THEN c.token ELSE c.token + 1 END
    WHERE c.expires < {NOW} OR c.owner = excluded.owner
    RETURNING token"""
_RELEASE = "UPDATE manifestlog.claim SET expires = 0 WHERE name = %b AND owner = %b AND token = %s"
_RENEW = f"UPDATE manifestlog.claim SET expires = {NOW} + %s WHERE owner = %b AND expires > {NOW}"


class Leases:
    """The claims of one owner."""

    def __init__(self, pool: Pool, lease_s: float) -> None:
        self._pool = pool
        self._owner = uuid.uuid4().bytes
        self._lease_us = int(lease_s * 1_000_000)
        self._tokens: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}

    def take(self, key: bytes) -> bool:
        found = self._pool.call(lambda slot: slot.rows(_TAKE, key, self._owner, self._lease_us))
        if found:
            self._tokens[key] = found[0][0]
            self._times[key] = self._times.get(key, 0) + 1
        return bool(found)

    def release(self, key: bytes) -> None:
        self._times[key] -= 1
        if self._times[key] == 0:
            token = self._tokens.pop(key)
            self._pool.call(lambda slot: slot.rows(_RELEASE, key, self._owner, token))

    def renew(self) -> None:
        self._pool.call(lambda slot: slot.rows(_RENEW, self._lease_us, self._owner))

    @contextmanager
    def fenced(self) -> Iterator[None]:
        held = list(self._tokens)
        with self._pool.bound(None, Fence(self._owner, held, [self._tokens[key] for key in held])):
            yield

    def close(self) -> None:
        for key in list(self._tokens):
            token = self._tokens.pop(key)
            self._pool.call(lambda slot, key=key, token=token: slot.rows(_RELEASE, key, self._owner, token))  # type: ignore[misc] # mypy cannot infer it
