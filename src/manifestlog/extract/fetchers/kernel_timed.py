"""A TCP socket whose waits the kernel limits, once it is connected.

If a socket has a time limit in Python, Python polls before each `send` and `recv`, and a change of the limit is a
system call too: a request without a body took seven calls instead of three.

Invariants:

- A `send` or `recv` that waits longer than its limit fails: `send` with `TimeoutError`, `recv` like one without data.
- During a wait, a signal handler can run, and `shutdown` by another thread ends it, as with a limit of Python's.

Not for TLS: Python's `ssl` reacts to the kernel's limit by waiting again.
"""

from __future__ import annotations

import socket
import struct
from typing import Any


class KernelTimedSocket(socket.socket):
    """A socket that connects with Python's time limit, and then uses the kernel's."""

    _is_kernels = False

    def leave_to_kernel(self, receive_s: float) -> None:
        """Bound each wait of `recv` by this time, and each of `send` by the limit so far."""
        for option, seconds in ((socket.SO_SNDTIMEO, self.gettimeout()), (socket.SO_RCVTIMEO, receive_s)):
            self.setsockopt(socket.SOL_SOCKET, option, _timeval(seconds or 0.0))
        super().settimeout(None)
        self._is_kernels = True

    def settimeout(self, value: float | None) -> None:
        """Set the limit, unless the kernel has it: it stays as it was set."""
        if not self._is_kernels:
            super().settimeout(value)

    def sendall(self, data: Any, flags: int = 0) -> None:
        try:
            super().sendall(data, flags)
        except BlockingIOError:
            is_late = True  # raised below, without the system's word for it
        else:
            is_late = False
        if is_late:
            raise TimeoutError


def _timeval(seconds: float) -> bytes:
    """Return a `struct timeval`; zero would be no limit."""
    return struct.pack("@ll", *divmod(max(1, int(seconds * 1e6)), 10**6))
