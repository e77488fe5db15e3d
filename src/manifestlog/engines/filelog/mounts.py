"""Classifies the file system of a directory from the kernel's mount table: local, network, memory or overlay.

Invariants:

- A file system on a disk of this machine is always local: its device has a nonzero major number.
- An unknown file system counts as local: a false warning would make users ignore the next one.

It reads no files: the caller passes the mount table (`files.system`).
"""

from __future__ import annotations

import os
import re
from enum import StrEnum

_ESCAPED = re.compile(r"\\([0-7]{3})")
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})  # fmt: skip
_MEMORY = frozenset({"ramfs", "tmpfs"})
_OVERLAY = frozenset({"aufs", "overlay", "overlayfs"})
_LOCAL_FUSE = frozenset({
    "fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.ntfs-3g",
})  # fmt: skip


class Kind(StrEnum):
    """What a file system guarantees."""

    LOCAL = "local"
    NETWORK = "network"
    """Other machines share it, and a lock may hold on one of them only."""
    MEMORY = "memory"
    """Nothing survives a power cut."""
    OVERLAY = "overlay"
    """A container's own layer: it is deleted with the container."""


def may_be_remote(device: int) -> bool:
    """Return whether the mount table must be read: a file system on a block device is local."""
    return os.major(device) == 0


def file_system(table: str, device: int, path: str) -> str | None:
    """Return the type of the file system with this device number, as named in `/proc/self/mountinfo`.

    Some file systems (btrfs, overlay) give their files another device number than their mount. Then the innermost mount
    point above `path` (absolute, links resolved) counts. Return None if neither is in the table.
    """
    found = table.find(f" {os.major(device)}:{os.minor(device)} ")
    if found >= 0:
        return _type_in(table[found : table.find("\n", found)])
    above = ("", "")
    for line in table.splitlines():
        fields = line.split(" ", 5)
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4]) if len(fields) > 5 else ""
        # A later mount hides an earlier one at the same mount point.
        if point.startswith("/") and _is_inside(path, point) and len(point) >= len(above[0]):
            above = point, line
    return _type_in(above[1])


def _type_in(line: str) -> str | None:
    return line.partition(" - ")[2].partition(" ")[0] or None


def _is_inside(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def kind(file_system_type: str | None) -> Kind:
    """Return what a file system of this type guarantees."""
    if file_system_type in _MEMORY:
        return Kind.MEMORY
    if file_system_type in _OVERLAY:
        return Kind.OVERLAY
    if file_system_type in _NETWORK or (_is_fuse(file_system_type) and file_system_type not in _LOCAL_FUSE):
        return Kind.NETWORK
    return Kind.LOCAL


def _is_fuse(file_system_type: str | None) -> bool:
    return file_system_type is not None and (file_system_type == "fuse" or file_system_type.startswith("fuse."))
