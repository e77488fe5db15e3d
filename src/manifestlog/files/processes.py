"""Describes the process of a run, and tests whether it still exists.

A process is identified by host, number and start time, because numbers are reused.
"""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

from manifestlog.files import system


def this_process() -> dict[str, Any]:
    """Return host, number, start time and user of this process."""
    found = {"host": socket.gethostname(), "pid": os.getpid(), "user": _user()}
    started = _started(os.getpid())
    return found if started is None else {**found, "pid_started": started}


def is_running(host: str | None, pid: int | None, started: float | None) -> bool | None:
    """Return whether this process runs; None if that cannot be known here, because it is on another host."""
    if host != socket.gethostname() or pid is None:
        return None
    now = _started(pid)
    return now is not None and (started is None or now == started)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this number
        return str(os.getuid())


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the machine did (proc(5)); None if there is no such process."""
    try:
        # The name in parentheses may hold anything; field 22 is the 20th after it.
        return int(system.process_stat(pid).rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
