"""Runs the user's own command on a downloaded file before it is registered.

Invariants:

- No shell is involved: the path is one argument, whatever characters the file name has.
- The command sees the content under its final name, as a symbolic link, because the suffix may matter.
- Stopping a run kills the command's whole process group. Only if the worker itself is killed (SIGKILL) does the command
  continue; it then reads a file that no run waits for, and cannot change the manifest.
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

from manifestlog.workers.stop import Stop

_POLL_S = 0.5
_SHOWN_BYTES = 2000
_SHOWN_CHARACTERS = 300


def run_validate_command(
    command: Sequence[str], content: Path, name: str, stop: Stop, seconds_max: float
) -> str | None:
    """Return why the command rejects the content, or None if it exits with 0; raises `StopAskedError`."""
    before = _fingerprint(content)
    with tempfile.TemporaryDirectory(prefix="manifestlog-") as directory, tempfile.TemporaryFile() as output:
        link = Path(directory, name)
        link.symlink_to(content)
        try:
            code = _run([*command, str(link)], output, stop, seconds_max)
        except OSError as error:
            return f"the validate command cannot be run ({command[0]}: {error.strerror}); correct validate"
        if code is None:
            return f"the validate command took longer than timeout_total_s ({seconds_max:g} s)"
        if code:
            how = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
            return f"the validate command {how}{_last_line(output)}"
    return None if _fingerprint(content) == before else "the validate command changed the file, but may only read it"


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _run(command: list[str], output: IO[bytes], stop: Stop, seconds_max: float) -> int | None:
    """Return the exit code, or None if the command was killed at the deadline."""
    deadline = time.monotonic() + seconds_max
    process = subprocess.Popen(  # noqa: S603 -- the user's own command, as a list
        command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        while time.monotonic() < deadline:
            # Wait in slices, for the reason given in `Stop.sleep`.
            with stop.interruptible(), suppress(subprocess.TimeoutExpired):
                return int(process.wait(_POLL_S))
        return None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also kills its background processes
        process.wait()


def _last_line(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _SHOWN_BYTES))
    lines = output.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f", output: {last[:_SHOWN_CHARACTERS]}" if last else ""
