"""The open sockets of a fetcher, and the way to interrupt all of them from another thread.

Invariants:

- `interrupt` wakes every thread that waits in a socket of the fetcher, while it connects, sends or reads.
- After `interrupt`, no socket is opened: `add` raises `StopAskedError`. This is final.
- An interrupted read never looks like the end of a body: see `connections`.

Shutting a socket down ends the system call of a thread that waits in it; closing it would not. A socket is registered
before its `connect` and until it is collected. Idle connections are shut down too, because the fetcher is no longer
used. Only a name lookup cannot be interrupted: the resolver's own time limit ends it.
"""

from __future__ import annotations

import socket
import threading
import weakref
from contextlib import suppress

from manifestlog.workers.stop import StopAskedError


class OpenSockets:
    """The sockets that a fetcher has opened."""

    def __init__(self) -> None:
        self.interrupted = False
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.RLock()  # a signal handler may call `interrupt` in the middle of `add`

    def add(self, sock: socket.socket) -> None:
        """Note a socket; after an interruption, close it and raise `StopAskedError`."""
        with self._lock:
            self._sockets.add(sock)
        if self.interrupted:
            sock.close()
            raise StopAskedError

    def check(self) -> None:
        """Raise `StopAskedError` after an interruption."""
        if self.interrupted:
            raise StopAskedError

    def interrupt(self) -> None:
        """Shut all sockets down, now and for good."""
        self.interrupted = True
        with self._lock:
            known = list(self._sockets)
        for sock in known:
            with suppress(OSError):  # it is closed, or not connected
                # Not the method of an `SSLSocket`: that one forgets its TLS, and a read would return encrypted bytes.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
