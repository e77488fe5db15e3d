"""The exceptions of copies and replicas; part of the tree in `errors`."""

from __future__ import annotations

from manifestlog.errors import TO_READ, ManifestError, ReadOnlyError


class ManifestExistsError(ManifestError):
    """A copy would overwrite the records of another manifest. Nothing was changed."""

    _fields = ("path", "reason")

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}; a copy overwrites nothing, and nothing was changed: name another place, or move this manifest away"
        )
        self.path = path
        self.reason = reason


class ReplicaError(ReadOnlyError):
    """A write to a replica, which only its mirror may change."""

    _fields = ("path", "source")

    def __init__(self, path: str, source: str) -> None:
        ManifestError.__init__(self, f"{path}: this is a replica of {source}: write there{TO_READ}")
        self.path = path
        self.source = source
        self.past = False
