"""The time limits of a transaction, which its client sends to the server, so that a client that stops loses its locks.

The server's limit for idle transactions applies between two statements. Inside a message, while the server waits for
the rest of it, only the limit of the whole transaction applies.

Invariants:

- The limit comes with the first lock, in the same statement.
- A transaction with all locks may take long. It renews its limit as it proceeds, and once more before it writes, with
  more time for larger writes. A client that has stopped renews nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from manifestlog.engines.postgres.slots import Fence, Slot

OFF = "off"
"""What a commit waits for that waits for nothing, as `synchronous_commit` names it."""
_SETTINGS = (
    "SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', %s, true),"
    " set_config('idle_in_transaction_session_timeout', %s, true)"
)
_RENEW = "SELECT set_config('transaction_timeout', '0', true), set_config('transaction_timeout', %s, true)"
"""A new value leaves a time that runs as it is. Zero ends it, and so the next value begins anew."""
RENEW_S = 1.0
"""How often a transaction renews its limit at most."""
_BYTES_A_MS = 1000
"""What every network and disk takes in a millisecond."""
_LIMITS_ALL_OF_IT = 170000
"""The first version that limits a whole transaction."""


class Limits(NamedTuple):
    """What a transaction may take, in the server's spelling."""

    lock: str
    """How long a statement waits for a lock."""
    idle: str
    """How long the server waits for this client between two statements, before it lets go of the locks."""
    whole_ms: int
    """How long all of it takes at most. A client that is stopped inside a message is not idle, as the server sees it."""
    synchronous: str
    """What an answer waits for, as the server's `synchronous_commit` names it; `OFF`: for nothing."""
    fence: Fence | None = None
    at_once: bool = False
    """Whether the commit itself waits for the disk, because nobody else seems to write: that saves a second transaction."""
    is_alone: bool = False
    """Whether nobody else seems to write, and no claim needs to be checked."""

    @property
    def level(self) -> str:
        """What the commit waits for."""
        return self.synchronous if self.at_once else OFF


def settle(slot: Slot, limits: Limits) -> None:
    """Send the settings of a transaction, if its session does not have them."""
    if not slot.has_session:
        slot.send(_SETTINGS, limits.lock, limits.idle)


def with_first_lock(slot: Slot, limits: Limits) -> tuple[str, str]:
    """Return the name and the value of the setting that comes with the first locks: it costs no statement of its own."""
    if slot.server_version >= _LIMITS_ALL_OF_IT:
        return "transaction_timeout", f"{limits.whole_ms}ms"
    return "lock_timeout", limits.lock  # as it is anyway


def renew(slot: Slot, limits: Limits, more_ms: int = 0) -> None:
    """Send what begins the limit of the whole transaction anew, and lets it last longer by this."""
    if slot.server_version >= _LIMITS_ALL_OF_IT:
        slot.send(_RENEW, f"{limits.whole_ms + more_ms}ms")


def time_to_renew(since: float) -> bool:
    """Return whether a limit that began at this time of the monotonic clock is to be renewed."""
    return time.monotonic() - since >= RENEW_S


def time_to_write(count: int, size: int) -> int:
    """Return how many milliseconds so many events of so many bytes in all may take, beyond the usual limit."""
    return count + size // _BYTES_A_MS
