"""The answers about replicas of a driver whose engine cannot have any; the driver uses them as its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from manifestlog.errors import ManifestError

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Location, Replica
    from manifestlog.options import ManifestOptions


def replica(location: Location) -> None:
    """Return None: no manifest of this engine is a replica."""
    del location


def set_replica(location: Location, replica: Replica) -> NoReturn:  # noqa: ARG001 -- the protocol's
    """Refuse: no manifest of this engine is a replica."""
    raise ManifestError(f"{location.display}: a replica is a manifest in files")


def open_replica(location: Location, options: ManifestOptions) -> NoReturn:
    """Refuse: no manifest of this engine is a replica."""
    del options
    raise ManifestError(f"{location.display}: a replica is a manifest in files")
