"""What a run says when the system has too few descriptors, processes, threads or memory for it."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass

from manifestlog.errors import ManifestError

log = logging.getLogger(__name__)

SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""Errors of that kind: with less to do at once the run may go on."""


def is_scarce(error: Exception) -> bool:
    """Return whether an error says that something is scarce."""
    return isinstance(error, OSError) and error.errno in SCARCE


@dataclass(slots=True)
class Scarcity:
    """What is scarce for one run, which warns once."""

    wanted: int
    what: str
    """What it wanted that many of."""
    setting: str
    """The setting to lower."""
    nobody: str = "no worker process can run"
    """What does a task."""
    is_known: bool = False

    def warn(self, error: OSError) -> None:
        """Log that the run continues with less."""
        if not self.is_known:
            log.warning(
                "the system cannot run %d %s (%s): the run continues with fewer;"
                " raise the limit (`ulimit -n` for files, `ulimit -u` for processes) or use fewer %s",
                self.wanted,
                self.what,
                error.strerror or error,
                self.setting,
            )
        self.is_known = True

    def explained(self, error: Exception) -> Exception:
        """Return the error to raise for one that ended everything."""
        return no_worker(error, self.nobody) if is_scarce(error) else error


def no_worker(error: Exception, nobody: str = "no worker process can run") -> ManifestError:
    """Return the error of a run that cannot do a single task."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ManifestError(
        f"{nobody}: {why}; raise the limit (`ulimit -n` for files, `ulimit -u` for processes),"
        " or end other programs of this user"
    )
