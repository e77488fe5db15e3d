"""Which file system a folder lies on, and what that means for locks and for what survives; text in, words out.

Invariants:

- A file system on a disk of this machine is never called anything else: its device has a major number of its own.
- What is not known is called local. A warning that is wrong is worse than none: nobody reads the next one.

It reads no files: the kernel's table comes from `storage/disk`.
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
    """What a file system promises."""

    LOCAL = "local"
    NETWORK = "network"
    """Other machines see it too, and a lock may hold on one of them only."""
    MEMORY = "memory"
    """Nothing survives a power cut."""
    OVERLAY = "overlay"
    """A container's own layer: it goes with the container."""


def may_be_remote(device: int) -> bool:
    """Whether a look into the table of mounts is worth it: what lies on a block device is local."""
    return os.major(device) == 0


def file_system(table: str, device: int, path: str) -> str | None:
    """The type of the file system with this device number, as `/proc/self/mountinfo` names it.

    Some (btrfs, overlay) give their files other numbers than their mount has: then the innermost mount point above
    `path` (absolute, links resolved) counts. None when the table says nothing of either.
    """
    found = table.find(f" {os.major(device)}:{os.minor(device)} ")
    if found >= 0:
        return _type_in(table[found : table.find("\n", found)])
    above = ("", "")
    for line in table.splitlines():
        fields = line.split(" ", 5)
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4]) if len(fields) > 5 else ""
        # A later mount hides an earlier one at the same place.
        if point.startswith("/") and _is_inside(path, point) and len(point) >= len(above[0]):
            above = point, line
    return _type_in(above[1])


def _type_in(line: str) -> str | None:
    return line.partition(" - ")[2].partition(" ")[0] or None


def _is_inside(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def kind(file_system_type: str | None) -> Kind:
    """What a file system of this type promises."""
    if file_system_type in _MEMORY:
        return Kind.MEMORY
    if file_system_type in _OVERLAY:
        return Kind.OVERLAY
    if file_system_type in _NETWORK or (_is_fuse(file_system_type) and file_system_type not in _LOCAL_FUSE):
        return Kind.NETWORK
    return Kind.LOCAL


def _is_fuse(file_system_type: str | None) -> bool:
    return file_system_type is not None and (file_system_type == "fuse" or file_system_type.startswith("fuse."))
