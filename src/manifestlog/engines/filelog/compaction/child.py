"""Compacts in a child process, so that merging a long log takes no processor time from the writers' process.

Invariants:

- The child opens the manifest and takes the compaction lock like any other process. So a crash of either process leaves
  the same state as the crash of any compactor.
- Of many writers only one starts a child: it holds the compaction lock until the child is ready to take it.
- Nothing of the calling program runs in the child: not its `__main__`, no `site`, no variables for Python.
- A child outlives its parent only to finish a compaction.

It does not decide when to compact (`trigger`), nor what to do if the child fails (`background`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict

from manifestlog.engines.filelog.compaction.steps import compact
from manifestlog.engines.filelog.session import Session
from manifestlog.names import ManifestPaths
from manifestlog.options import ManifestOptions

log = logging.getLogger(__name__)

_PROGRAM = f"import sys; sys.path[:] = sys.argv[4:]; from {__name__} import main; main()"
_READY, _GO = b"ready\n", b"go\n"
_PATIENCE_S = 60
"""How long a child waits for its parent."""


def compact_in_child(session: Session) -> bool:
    """Compact in a child process and wait for it; return false if it could not be started, or failed."""
    with session.compaction_lock(wait=False) as alone:
        if not alone:
            return True  # another process is compacting
        child = _start(session)
        if child is None:
            return False
        ready = _repeat(child)
    with child:
        if ready:
            _send(child, _GO)
            _repeat(child)
    return child.returncode == 0


def _start(session: Session) -> subprocess.Popen[bytes] | None:
    """Start a child that opens the manifest and waits; return None if that is impossible here."""
    if not _is_python(sys.executable):
        return None
    manifest = (session.paths.directory, session.paths.name, json.dumps(asdict(session.options)))
    try:
        return subprocess.Popen(  # noqa: S603 -- this Python and this package
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *manifest, *map(str, sys.path)],
            bufsize=0,  # a word that could not be sent is not sent again
            start_new_session=True,  # Ctrl-C is for the parent; it waits for the child
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:
        log.debug("%s: no child process for a compaction: %s", session.paths.canonical, error)
        return None


def _is_python(executable: str | None) -> bool:
    """Whether this is a Python that runs programs, and not an application that contains one."""
    return bool(executable and os.path.basename(executable).startswith("python") and not hasattr(sys, "frozen"))


def _send(child: subprocess.Popen[bytes], word: bytes) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # its exit code says enough
        child.stdin.write(word)


def _repeat(child: subprocess.Popen[bytes]) -> bool:
    """Log here what the child logs, until it is ready; return false at its end."""
    assert child.stdout is not None
    for line in child.stdout:
        if line == _READY:
            return True
        with suppress(ValueError):  # some module prints what is no line of ours
            level, name, message = json.loads(line)
            logging.getLogger(name).log(level, "%s", message)
    return False


# -- in the child ------------------------------------------------------------------------------------------------------


class _ToParent(logging.Handler):
    """Sends each record to the parent, as a line of JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the parent is gone; the compaction goes on
            _tell(json.dumps([record.levelno, record.name, record.getMessage()]).encode() + b"\n")


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def main() -> None:
    """Be the child: open the manifest, say so, and compact when told to."""
    directory, name, options = sys.argv[1:4]
    logging.basicConfig(level=logging.INFO, handlers=[_ToParent()])
    session = Session(ManifestPaths(directory, name), ManifestOptions(**json.loads(options)), read_only=False)
    try:
        _tell(_READY)
        signal.alarm(_PATIENCE_S)  # a process that was forked from a parent which has died may keep our input open
        told = sys.stdin.buffer.readline()
        signal.alarm(0)
        if told == _GO:
            compact(session)
    finally:
        session.close()
