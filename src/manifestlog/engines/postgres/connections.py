"""Connections to one server: a small pool that threads share, repeated tries, and their state after a fork.

Invariants:

- A slot is lent to one thread at a time; a thread that needs a second one gets it without waiting.
- A connection that is not idle after its use is closed, never given to another thread.
- A forked child closes its copies of the sockets and sends nothing on them: the sessions belong to its parent.

It does not know tables.
"""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus

from manifestlog.engines.postgres import failures
from manifestlog.engines.postgres.limits import OFF
from manifestlog.engines.postgres.location import connection_text
from manifestlog.engines.postgres.silence import SilentServerError
from manifestlog.engines.postgres.slots import Slot
from manifestlog.errors import IndeterminateWriteError, LockTimeoutError, ManifestClosedError
from manifestlog.options import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manifestlog.engines.postgres.slots import Fence
    from manifestlog.engines.postgres.wire import Connection
    from manifestlog.engines.protocol import Location

T = TypeVar("T")

CONNECTIONS_MAX = 8
"""So many threads work at once; more wait for each other."""
_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "manifestlog",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A server whose host is gone is noticed within half a minute."""
_VARIABLES = {"connect_timeout": "PGCONNECT_TIMEOUT", "application_name": "PGAPPNAME"}
_SESSION = (
    "SET default_transaction_isolation = 'read committed'; SET synchronous_commit = off; SET enable_seqscan = off;"
    " SET plan_cache_mode = force_generic_plan;"
    " SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
)
"""A plan that was prepared while a table was small would otherwise read all of it for ever. Commits that must wait say so.
To plan a statement anew for each call takes longer than the call. A client whose host is gone loses its locks as soon as
the client would notice that the server's is, and not after the two hours of most systems."""
_IDLE_S_MIN = 60.0
"""How long a client may be stopped inside a transaction before the server gives its locks to others."""
_TIMEOUT_S_MAX = 1_000_000.0
"""Whoever waits for ever waits for eleven days: the server's limits are milliseconds in 31 bits, and one is a sum of two."""
_LONGER_S = 1.0
_PAUSE_S, _PAUSE_S_MAX = 0.005, 0.5


class _Mine(threading.local):
    """What a thread has of a pool."""

    depth = 0
    """How many slots it has: a plan reads while its transaction is open."""
    fence: Fence | None = None
    """The claims that its writes depend on."""
    elsewhere_s = 0.0
    """How long it has done something else while the server worked."""


class Pool:
    """The connections of one open manifest in one process."""

    def __init__(self, location: Location, timeout_s: float) -> None:
        self.location = location
        self.timeout_s = timeout_s = min(timeout_s, _TIMEOUT_S_MAX)
        self.closed = False
        self.lock_ms = max(1, int(timeout_s * 1000))
        self.idle_ms = int(max(timeout_s, _IDLE_S_MIN) * 1000)
        self.synchronous = "on"
        """What the server waits for at a commit that must last."""
        timeouts = (("lock_timeout", self.lock_ms), ("idle_in_transaction_session_timeout", self.idle_ms))
        self.session_locks: bool | None = None
        """Whether the server's session locks exclude each other; None: not known yet."""
        self._settings: str | None = _SESSION + "".join(f" SET {name} = '{ms}ms';" for name, ms in timeouts)
        self._fresh()

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Slot] = []
        self._all: list[Slot] = []
        self._lent: set[Slot] = set()
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One item for each slot that may be lent. It takes a tenth of the time of a semaphore."""
        for _ in range(CONNECTIONS_MAX):
            self._turns.put(None)
        self._mine = _Mine()

    def commit_level(self, durability: Durability) -> str:
        """Return what a commit that is acknowledged waits for."""
        return self.synchronous if durability is Durability.POWER_CUT else OFF

    def connect(self) -> Connection:
        """Return a new connection."""
        given = conninfo.conninfo_to_dict(connection_text(self.location))
        for name, value in _DEFAULTS.items():
            if _VARIABLES.get(name, "") not in os.environ:
                given.setdefault(name, value)
        return psycopg.connect(autocommit=True, prepare_threshold=None, **given)  # type: ignore[arg-type] # libpq's names

    def open(self, ask: Callable[[Slot], T]) -> T:
        """Connect for the first time, without waiting for a server that is not there."""
        slot = self._slot()
        try:
            slot.connected(self.connect(), None)
            ((pid, level),) = slot.rows("SELECT pg_backend_pid(), current_setting('synchronous_commit')")
            self.synchronous = "on" if level == OFF else level
            if pid == slot.live.info.backend_pid:
                slot.connected(slot.live, self._settings)
            else:
                self._settings = None
        except psycopg.Error as error:
            slot.disconnect()
            raise failures.while_connecting(self.location, error) from error
        self._all.append(slot)
        self._idle.append(slot)
        return self.call(ask)

    def _slot(self) -> Slot:
        # A server that is there ends the wait for a lock before that.
        return Slot(self.timeout_s + _LONGER_S)

    def call(self, act: Callable[[Slot], T]) -> T:
        """Call `act` with a connected slot, and again after a failure that may pass, for up to `timeout_s`."""
        return self.repeat(lambda slot, _: act(slot))

    def repeat(self, act: Callable[[Slot, int], T]) -> T:
        """Call `act` with a connected slot and the number of the try, from 0 on."""
        slot = self._lend()
        try:
            return self._tried(act, slot)
        finally:
            self._end(slot)

    def _tried(self, act: Callable[[Slot, int], T], slot: Slot) -> T:
        tries, deadline = 0, time.monotonic() + self.timeout_s
        self._mine.elsewhere_s = 0.0
        while True:
            try:
                self._ensure_connected(slot)
                return act(slot, tries)
            except psycopg.Error as error:
                _recover(slot, error)
                if tries or not failures.is_stale(error):
                    self._judge(slot, error, deadline + self._mine.elsewhere_s)
                self._pause(tries, error)
                tries += 1
            except BaseException:
                slot.recover()
                raise

    def once(self, act: Callable[[Slot], T]) -> T:
        """Call `act` with a connected slot, and never again."""
        slot = self._lend()
        try:
            self._ensure_connected(slot)
            return act(slot)
        except psycopg.Error as error:
            _recover(slot, error)
            self._give_up(slot, error)
        except BaseException:
            slot.recover()
            raise
        finally:
            self._end(slot)

    def _ensure_connected(self, slot: Slot) -> None:
        if slot.connection is None:
            slot.connected(self.connect(), self._settings)

    def _judge(self, slot: Slot, error: psycopg.Error, deadline: float) -> None:
        """Raise what the caller gets, unless the call can be repeated."""
        if failures.may_retry(error) and time.monotonic() < deadline and not self.closed:
            return
        self._give_up(slot, error)

    def _give_up(self, slot: Slot, error: psycopg.Error) -> NoReturn:
        if isinstance(error, SilentServerError):
            self._idle += self._disconnected()  # what is left to do would wait there as long
        found = failures.of_statement(self.location, error, self.timeout_s)
        if slot.in_doubt:
            slot.in_doubt = False
            raise IndeterminateWriteError(self.location.display, found) from error
        raise found from error

    def _pause(self, tries: int, error: psycopg.Error) -> None:
        if tries or failures.is_lost(error):
            time.sleep(random.uniform(0.5, 1.0) * min(_PAUSE_S * 2**tries, _PAUSE_S_MAX))  # noqa: S311 -- no secret

    def _lend(self) -> Slot:
        """Return a slot for this thread, when it is its turn; `_end` gives it back."""
        if self._pid != os.getpid():
            self.drop_inherited()
        if self.closed:
            raise ManifestClosedError(self.location.display)
        mine = self._mine
        if not mine.depth:
            try:
                self._turns.get(timeout=self.timeout_s + 1.0)
            except queue.Empty:
                raise LockTimeoutError(self.location.display, self.timeout_s, "other threads of this process") from None
        mine.depth += 1
        return self._take()

    def _end(self, slot: Slot) -> None:
        try:
            self._give_back(slot)
        finally:
            mine = self._mine
            mine.depth -= 1
            if not mine.depth:
                self._turns.put(None)

    def elsewhere(self, act: Callable[[], None]) -> None:
        """Call `act` while the server works for this thread, without its turn: other threads go on."""
        began = time.monotonic()
        self._turns.put(None)
        try:
            act()
        finally:
            self._turns.get()
            self._mine.elsewhere_s += time.monotonic() - began

    def _take(self) -> Slot:
        try:
            return self._idle.pop()
        except IndexError:
            slot = self._slot()
            self._all.append(slot)
            return slot

    def _give_back(self, slot: Slot) -> None:
        if slot in self._lent:
            return
        if slot.connection is not None and slot.connection.pgconn.transaction_status != TransactionStatus.IDLE:
            slot.recover()
        if self.closed:
            slot.disconnect()
        else:
            self._idle.append(slot)

    def keep(self, slot: Slot) -> None:
        """Do not give this slot to others after the call that has it; `take_back` does."""
        self._lent.add(slot)

    def take_back(self, slot: Slot) -> None:
        """Use a kept slot for calls again, after whatever was left open in it was ended."""
        if slot in self._lent:  # else it is from before a fork
            self._lent.discard(slot)
            self._give_back(slot)

    @property
    def times(self) -> tuple[str, str, int]:
        """How long a transaction waits for a lock, and for its client, in the server's spelling, and takes in all, in ms."""
        return f"{self.lock_ms}ms", f"{self.idle_ms}ms", self.lock_ms + self.idle_ms

    @property
    def has_sessions(self) -> bool:
        """Whether a connection is one session, not one of a pooler's for each transaction."""
        return self._settings is not None

    @contextmanager
    def fenced(self, fence: Fence | None) -> Iterator[None]:
        """Let the writes of this thread in this block check these claims."""
        mine = self._mine
        before = mine.fence
        mine.fence = fence
        try:
            yield
        finally:
            mine.fence = before

    @property
    def fence(self) -> Fence | None:
        """The claims that the writes of this thread depend on."""
        return self._mine.fence

    def brief(self, act: Callable[[Slot], None]) -> None:
        """Call `act` once if there is a connection, for what may as well be left undone."""
        slot = self._lend()
        try:
            if slot.connection is not None:
                act(slot)
        except psycopg.Error:
            slot.recover()
        finally:
            self._end(slot)

    def writers(self) -> Sequence[bytes]:
        """Return the identities that have written."""
        return [slot.writer for slot in self._all if slot.op]

    def close(self) -> None:
        """Close every idle connection; those in use close when they are given back. Idempotent."""
        if self._pid != os.getpid():
            self.drop_inherited()
        self.closed = True
        self._disconnected()

    def _disconnected(self) -> list[Slot]:
        """Take all slots that nobody uses, and close their connections."""
        found: list[Slot] = []
        with suppress(IndexError):
            while True:
                found.append(self._idle.pop())
                found[-1].disconnect()
        return found

    def drop_inherited(self) -> None:
        """In a forked child: let go of the parent's connections; the next call makes a new one."""
        for slot in self._all:
            slot.abandon()
        self._fresh()


def _recover(slot: Slot, error: psycopg.Error) -> None:
    """Make a slot usable after an error. Its commit stays in doubt only if the error is that no answer came."""
    slot.in_doubt = slot.in_doubt and failures.is_lost(error)
    slot.recover()
