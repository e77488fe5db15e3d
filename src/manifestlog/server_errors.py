"""The exceptions of manifests in a database; part of the tree in `errors`."""

from __future__ import annotations

from manifestlog.errors import LockTimeoutError, ManifestError

CORRECT_LOCATION = "correct the location"
"""The advice if no server was asked, because libpq cannot use the location."""


class ServerUnavailableError(LockTimeoutError):
    """The database server did not answer within `lock_timeout_s`. Acknowledged writes are kept."""

    _fields = ("path", "timeout_s", "reason")

    def __init__(self, path: str, timeout_s: float, reason: str) -> None:
        ManifestError.__init__(
            self,
            f"{path}: the server did not answer within {timeout_s:g} s ({reason}); acknowledged writes are kept: start the"
            " server or repair the network, then retry, or increase lock_timeout_s / --lock-timeout",
        )
        self.path = path
        self.timeout_s = timeout_s
        self.reason = reason
        self.holder = None


class ServerError(ManifestError):
    """The database server refuses the request, or the location does not lead to a server. Nothing was written.

    `exit_code` is 2 if the location itself is wrong, such as its port.
    """

    _fields = ("path", "reason", "advice")

    def __init__(self, path: str, reason: str, advice: str) -> None:
        super().__init__(f"{path}: {reason}: {advice}")
        self.path = path
        self.reason = reason
        self.advice = advice
        if advice == CORRECT_LOCATION:
            self.exit_code = 2


class ClaimLostError(ManifestError):
    """A claim was lost, because its session or its lease ended. Nothing was written."""

    _fields = ("path",)

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: the claim was lost, because this host was stopped or cut off; nothing was written, and another worker"
            " may have the work by now: run it again"
        )
        self.path = path
