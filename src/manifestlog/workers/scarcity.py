"""The messages of a run when the system has too few descriptors, processes, threads or memory."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass

from manifestlog.errors import ManifestError

log = logging.getLogger(__name__)

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})


def is_scarce(error: Exception) -> bool:
    """Return whether an error says that something is scarce: with less to do at once, the run may go on."""
    return isinstance(error, OSError) and error.errno in _SCARCE


@dataclass(slots=True)
class Scarcity:
    """What a run says when the system is short of something: a warning once, or the error that ends it."""

    wanted: int
    """How many of `what` the run was to have."""
    what: str
    """What there are too few of, such as `worker processes`."""
    setting: str
    """The setting to lower, such as `jobs`."""
    nobody: str = "no worker process can run"
    """How the error begins if there is not even one."""
    is_known: bool = False
    """Whether it has warned."""

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
