"""Ends the command of a process that is itself killed: a small shell that waits for the end of a pipe.

Invariants:

- When this process ends, in any way, the group that it has watched and not released is killed.
- The guard ends with this process. It has its own session, so that a signal that kills this process's group does not
  reach it.
- A process without commands has no guard.

A process works without a guard if it cannot start or keep one. If it dies in the microseconds between the start of a
command and `watch`, the command survives it, but still holds its claims.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

_SHELL = "/bin/sh"
_SCRIPT = """
trap '' HUP INT TERM
last=
while read -r group; do last=$group; done
[ -z "$last" ] || kill -s KILL -- "-$last"
"""


class Guard:
    """The guard of the commands that this process runs, one after the other. A context manager."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None

    def be_ready(self) -> None:
        """Start the guard if it has not been started."""
        if self._shell is None:
            with suppress(OSError):
                self._shell = _started()

    def watch(self, group: int) -> None:
        """Let the guard kill this process group if this process ends before `release`."""
        self._tell(f"{group}\n")

    def release(self) -> None:
        """Let the guard forget the group: it has ended, and its number may be given to another one."""
        self._tell("\n")

    def _tell(self, line: str) -> None:
        if (pipe := self._pipe) is not None:
            with suppress(OSError):  # somebody has killed the guard
                os.write(pipe.fileno(), line.encode())

    @property
    def pid(self) -> int | None:
        """The process of the guard; None before the first command."""
        return None if self._shell is None else self._shell.pid

    @property
    def _pipe(self) -> IO[bytes] | None:
        return None if self._shell is None else self._shell.stdin

    def close(self) -> None:
        """End the guard."""
        if (pipe := self._pipe) is not None and self._shell is not None:
            pipe.close()
            self._shell.wait()
            self._shell = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 -- the script above
        [_SHELL, "-c", _SCRIPT],
        bufsize=0,
        cwd="/",
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
