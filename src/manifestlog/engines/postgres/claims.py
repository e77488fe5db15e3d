"""Claims: who works on what, among the workers of all hosts.

Invariants:

- At most one `PostgresClaims` object holds a claim. Threads of one object share its claims.
- A claim ends with its block, its object or its process. If its host is stopped or cut off, another worker may take it
  over `LEASE_S` later.
- Inside `fence`, nothing is written after another worker has taken over a claim: the transaction locks the claims
  before it writes.

Two workers may work on the same item for a moment: one that was cut off continues until it writes. `keeper` and
`leases` store the claims.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from manifestlog import names
from manifestlog.engines.postgres import leases
from manifestlog.engines.postgres.slots import Fence
from manifestlog.engines.postgres.values import hashed
from manifestlog.errors import ManifestError
from manifestlog.model import codec
from manifestlog.server_errors import ClaimLostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from manifestlog.engines.postgres.keeper import Keeper
    from manifestlog.engines.postgres.leases import Held
    from manifestlog.engines.postgres.slots import Slot

_POLL_S, _POLL_S_MAX = 0.005, 0.1
_RUNS_NOTED_MAX = 999
_SKIPS = "SELECT times FROM manifestlog.skip WHERE place = %b AND name = %b"
_NOTE = """
    INSERT INTO manifestlog.skip (place, name, times) VALUES (%b, %b, %b)
    ON CONFLICT (place, name) DO UPDATE SET times = excluded.times"""
_CLEAR = "DELETE FROM manifestlog.skip WHERE place = %b AND name = %b"


class PostgresClaims:
    """The claims of one worker in a directory; a context manager."""

    def __init__(self, keeper: Keeper, directory: str) -> None:
        self.display = directory
        self._keeper = keeper
        self._place = place_of(directory)
        self._pid = os.getpid()
        self._turn = threading.RLock()
        self._owner: bytes | None = None
        """Our identity; None before the first claim."""
        self._held: dict[bytes, Held] = {}
        self._times: Counter[bytes] = Counter()
        """How many blocks hold each of them."""
        self._fences = 0
        self._ended: list[Held] = []
        """What was given back while a fence needs it."""

    @contextmanager
    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        with self.claim_many(kind, [name], wait_s=wait_s) as ours:
            yield bool(ours)

    @contextmanager
    def claim_many(self, kind: str, wanted: Sequence[str], *, wait_s: float = 0.0) -> Iterator[set[str]]:
        keys = {key_of(self._place, kind, name): name for name in wanted}
        ours = self._take(kind, keys, time.monotonic() + wait_s)
        try:
            yield {keys[key] for key in ours}
        finally:
            self._release(ours)

    def _take(self, kind: str, keys: dict[bytes, str], deadline: float) -> set[bytes]:
        """Take what is free, again and again until all is taken or the time is over."""
        pause_s, ours = _POLL_S, self._try(kind, keys)
        while len(ours) < len(keys) and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _POLL_S_MAX)
            ours |= self._try(kind, {key: name for key, name in keys.items() if key not in ours})
        return ours

    def _try(self, kind: str, keys: dict[bytes, str]) -> set[bytes]:
        if not keys:
            return set()
        with self._turn:
            if self._pid != os.getpid():
                self._begin_anew()
            if self._owner is None:
                self._owner = self._keeper.enter()
            found = self._keeper.take(
                self._owner, _bytes(self._place), kind, {key: _bytes(name) for key, name in keys.items()}
            )
            lost = [one for one in found if self._held.get(one.name, one) != one]
            if lost:  # somebody had it in between, so the block that holds it must not go on as if nobody had
                self._keeper.release(self._owner, found)
                raise ClaimLostError(self._keeper.pool.location.display)
            self._held.update((one.name, one) for one in found)
            self._times.update(one.name for one in found)
            self._ended = [one for one in self._ended if one not in found]
        return {one.name for one in found}

    def _begin_anew(self) -> None:
        """Forget what was claimed: a forked child has none of it."""
        self._pid, self._owner = os.getpid(), None
        self._held.clear()
        self._times.clear()
        self._ended.clear()

    def _release(self, keys: set[bytes]) -> None:
        with self._turn:
            for key in keys & self._held.keys():  # others ended with `close`
                self._times[key] -= 1
                if not self._times[key]:
                    self._ended.append(self._held.pop(key))
            self._give_back()

    def _give_back(self) -> None:
        """Give back what has ended, unless a fence needs it: it would take the claim for lost."""
        if self._fences or not self._ended or self._owner is None or self._pid != os.getpid():
            return
        ended, self._ended = self._ended, []
        with suppress(ManifestError):  # what cannot be given back ends with its lease
            self._keeper.release(self._owner, ended)

    @contextmanager
    def fence(self, *others: Self) -> Iterator[None]:
        with _kept_by_all((self, *others)) as held:
            fence = Fence([one.name for one in held], [one.token for one in held]) if held else None
            with self._keeper.pool.fenced(fence):
                yield

    def ensure_held(self, *others: Self) -> None:
        with _kept_by_all((self, *others)) as held:
            if held and not self._keeper.pool.call(lambda slot: leases.are_held(slot, held)):
                raise ClaimLostError(self._keeper.pool.location.display)

    @contextmanager
    def kept(self) -> Iterator[list[Held]]:
        """What this object holds, and keeps in this block."""
        with self._turn:
            self._fences += 1
            held = list(self._held.values())
        try:
            yield held
        finally:
            with self._turn:
                self._fences -= 1
                self._give_back()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """None: a connection cannot be inherited, so claims end with this process."""
        return ()

    def record_skip(self, name: str) -> list[str]:
        place, key = hashed(self._place), hashed(name)
        now = datetime.now(UTC).isoformat(timespec="seconds")

        def act(slot: Slot) -> list[str]:
            found = slot.rows(_SKIPS, place, key)
            times: list[str] = [*(codec.loads(found[0][0]) if found else [])[-_RUNS_NOTED_MAX:], now]
            slot.rows(_NOTE, place, key, codec.dumps(times))
            return times

        return self._keeper.pool.call(act)

    def clear_skips(self, name: str) -> None:
        self._keeper.pool.call(lambda slot: slot.rows(_CLEAR, hashed(self._place), hashed(name)))

    def close(self) -> None:
        with self._turn:
            owner, self._owner = self._owner, None
            self._held.clear()
            self._times.clear()
        if owner is not None and self._pid == os.getpid():
            self._keeper.leave(owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _kept_by_all(some: Iterable[PostgresClaims]) -> Iterator[list[Held]]:
    with ExitStack() as opened:
        yield [one for claims in dict.fromkeys(some) for one in opened.enter_context(claims.kept())]


def place_of(directory: str) -> str:
    """Return a directory as claims name it."""
    return directory if names.is_url(directory) else os.path.realpath(directory)


def key_of(place: str, kind: str, name: str) -> bytes:
    """Return the name of a claim's row."""
    return hashlib.sha256(_bytes(f"{place}\0{kind}\0{name}")).digest()


def _bytes(text: str) -> bytes:
    """Return any text as bytes, also the name of a file that is not UTF-8."""
    return text.encode("utf-8", "surrogatepass")
