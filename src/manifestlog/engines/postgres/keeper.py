"""Keeps the claims of all workers of one process: one thread renews them, and one session shows that the process
exists.

Invariants:

- A worker's claims are renewed until it releases them, or its process ends, is stopped or is cut off.
- Without workers there is neither a thread nor a session.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.engines.postgres import leases
from manifestlog.engines.postgres.leases import Claimant, Held, Wanted
from manifestlog.engines.postgres.presence import Presence, are_real
from manifestlog.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.reports import Holder

LEASE_S = 60.0
_TOKEN_BITS = 62
_PATIENCE_S = 5.0
_UNSEEN_S = 1.0
"""How often a process asks for the lock that shows it, while a session that was lost still has it."""


class Keeper:
    """The claims of this process, in the database of one manifest. Threads share it."""

    def __init__(self, pool: Pool, manifest_id: int, lease_s: float = LEASE_S) -> None:
        self.pool = pool
        self._id = manifest_id
        self._lease_s = lease_s
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything: a forked child has no claims."""
        self._turn = threading.Lock()
        self._held: dict[bytes, set[Held]] = {}
        """By worker: what it holds."""
        self._presence: Presence | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def _lease_us(self) -> int:
        return int(self._lease_s * 1_000_000)

    def enter(self) -> bytes:
        """Return the identity of a new worker. The first one begins thread and session. Raises `ManifestError`."""
        owner = uuid.uuid4().bytes
        with self._turn:
            if not self._held:
                self._begin()
            self._held[owner] = set()
        return owner

    def _begin(self) -> None:
        presence = Presence(self.pool) if are_real(self.pool) else None
        ask = self.pool.call if presence is None else presence.call
        ask(leases.purge)
        self._presence, self._over = presence, threading.Event()
        self._thread = threading.Thread(
            target=self._renew, args=(presence, self._over), name="manifestlog-claims", daemon=True
        )
        self._thread.start()

    def leave(self, owner: bytes) -> None:
        """Release everything that a worker holds. The last one ends thread and session."""
        with suppress(ManifestError):
            self.release(owner, self._held.get(owner, ()))
        with self._turn:
            is_last = self._held.pop(owner, None) is not None and not self._held
            over, thread = self._over, self._thread  # another worker may begin new ones at once
        if is_last and thread is not None:
            over.set()
            thread.join(_PATIENCE_S)

    def take(self, owner: bytes, place: bytes, kind: str, names: Mapping[bytes, bytes]) -> list[Held]:
        """Take those of these names that are free, or this worker's already; return them."""
        presence = self._presence
        number = None if presence is None else presence.number
        claimant = Claimant(owner, self._lease_us, number, self._id, place, kind, socket.gethostname(), os.getpid())
        wanted = [Wanted(name, secrets.randbits(_TOKEN_BITS), what) for name, what in names.items()]
        found = self.pool.call(lambda slot: leases.take(slot, claimant, wanted, asks_presence=presence is not None))
        with self._turn:
            self._held[owner].update(found)
        return found

    def release(self, owner: bytes, some: Iterable[Held]) -> None:
        """Give these back, as far as nobody has taken them over. Raises `ManifestError`; then they end with their lease."""
        gone = list(some)
        with self._turn:
            self._held[owner].difference_update(gone)
        if gone:
            self.pool.call(lambda slot: leases.release(slot, gone))

    def holders(self, kind: str, names: Sequence[bytes] | None) -> list[Holder]:
        """Return who holds these claims, on whatever host; without names: all of this kind for this manifest."""
        asks = are_real(self.pool)

        def act(slot: Slot) -> list[Holder]:
            if names is None:
                return leases.of_manifest(slot, self._id, kind, asks_presence=asks)
            return leases.of_names(slot, names, asks_presence=asks) if names else []

        return self.pool.call(act)

    def _renew(self, presence: Presence | None, over: threading.Event) -> None:
        ask = self.pool.call if presence is None else presence.call
        while not over.wait(self._pause_s(presence)):
            with self._turn:
                held = [one for some in self._held.values() for one in some]
            with suppress(ManifestError):
                ask(lambda slot, held=held: leases.renew(slot, held, self._lease_us))  # type: ignore[misc] # mypy cannot infer it
        if presence is not None:
            presence.end()

    def _pause_s(self, presence: Presence | None) -> float:
        usual_s = self._lease_s / 3
        return usual_s if presence is None or presence.is_shown else min(usual_s, _UNSEEN_S)
