"""A user's own command that looks at a fetched content before it is registered.

Invariants:

- No shell takes part: the path is one argument, whatever a file's name holds.
- The command gets the content under the name that it is to have, so that its suffix says what it is; not the part itself,
  but a link to it.
- Nothing of the command is left when a run is stopped: it has a process group of its own, which is killed. Only a worker that
  is killed itself (SIGKILL) leaves it running: it reads a content that nobody waits for, and can change nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from manifestlog.extract.stopping import Stop

_LOOK_EVERY_S = 0.5
_SHOWN_BYTES = 2000
_SHOWN_CHARACTERS = 300


def complaint(command: Sequence[str], content: Path, name: str, stop: Stop, seconds_max: float) -> str | None:
    """What the command has against the content, None when it ends with 0; raises `StopAskedError`."""
    before = _mark(content)
    with tempfile.TemporaryDirectory(prefix="manifestlog-") as folder, tempfile.TemporaryFile() as said:
        link = Path(folder, name)
        link.symlink_to(content)
        try:
            code = _run([*command, str(link)], said, stop, seconds_max)
        except OSError as error:
            return f"the validate command cannot be run ({command[0]}: {error.strerror}): correct it"
        if code is None:
            return f"the validate command took longer than timeout_total_s ({seconds_max:g} s)"
        if code:
            how = f"ended with {code}" if code > 0 else f"was killed by signal {-code}"
            return f"the validate command {how}{_last_line(said)}"
    return None if _mark(content) == before else "the validate command has changed the file, which it may only read"


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _run(command: list[str], said: IO[bytes], stop: Stop, seconds_max: float) -> int | None:
    """Its exit code; None when it was ended for taking too long."""
    deadline = time.monotonic() + seconds_max
    process = subprocess.Popen(  # noqa: S603 -- the user's own command, as a list
        command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
    )
    try:
        while time.monotonic() < deadline:
            # In slices, as `Stop.sleep` does.
            with stop.waiting(), suppress(subprocess.TimeoutExpired):
                return int(process.wait(_LOOK_EVERY_S))
        return None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it has left running behind itself
        process.wait()


def _last_line(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - _SHOWN_BYTES))
    lines = said.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f", it says: {last[:_SHOWN_CHARACTERS]}" if last else ""
