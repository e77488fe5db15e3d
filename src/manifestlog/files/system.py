"""Queries the operating system about the surroundings of files: free space, permissions, mounts, and other processes.

Invariants:

- It changes nothing. If the system gives no answer, the result is None or empty, unless a docstring names an error.

Other modules call it qualified (`system.space(…)`), so that a simulated machine can replace these names. It makes no
decisions.
"""

from __future__ import annotations

import contextlib
import os
import stat as stat_bits
from typing import NamedTuple


class Space(NamedTuple):
    """Free space for this user; `free_inodes` is None where the file system has no inode limit."""

    free_bytes: int
    free_inodes: int | None


class Access(NamedTuple):
    """The permissions of a file or directory."""

    mode: int
    owner: int
    writable: bool
    """Whether this process may write to it."""


def device(path: str) -> int:
    """Return the device number of the file system that holds `path`."""
    return os.stat(path).st_dev


def link_target(path: str) -> str | None:
    """Return where the symbolic link at `path` leads, as it says; None if it is none."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def has_name(path: str) -> bool:
    """Return whether there is anything of this name, a link to nothing included."""
    return os.path.lexists(path)


def files_below(path: str) -> list[str]:
    """Return the paths of everything below a directory that is no directory, sorted. No link is followed."""
    found: list[str] = []
    for directory, directories, names in os.walk(path):
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        found += [os.path.join(directory, name) for name in (*names, *links)]
    return sorted(found)


def links(path: str) -> int:
    """Return the number of names (hard links) of the file at `path`."""
    return os.stat(path).st_nlink


def name_file(error: OSError, fd: int) -> None:
    """Add the path of an open file to the error of a call that did not know it, where the system tells it (not on macOS)."""
    path = link_target(f"/proc/self/fd/{fd}")
    if error.filename is None and path is not None and os.path.isabs(path):  # not a pipe or a socket
        error.filename = path


def mount_table() -> str:
    """Return the kernel's mount table; empty if the system has none."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            return table.read()
    except OSError:
        return ""


def process_stat(pid: int) -> bytes:
    """Return what the system says of a process, as `/proc/<pid>/stat` has it; raises `OSError` if there is none."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read()


def space(path: str) -> Space:
    """Return the free space of the file system that holds `path`."""
    found = os.statvfs(path)
    return Space(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def access(path: str) -> Access:
    """Return the mode and owner of `path`, following links."""
    found = os.stat(path)
    return Access(stat_bits.S_IMODE(found.st_mode), found.st_uid, os.access(path, os.W_OK))


def our_user() -> int:
    """Return the user id that decides what this process may do."""
    return os.geteuid()


def byte_lock_holders(path: str) -> dict[int, int]:
    """Return which process has locked which byte of this file, by the byte; only what this user may see.

    A program that was started with the descriptor has the same locks: then it is the process with the lowest number.
    """
    found: dict[int, int] = {}
    try:
        wanted = os.stat(path)
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    except OSError:
        return found
    for pid in pids:
        for position in _byte_locks(pid, wanted):
            found.setdefault(position, pid)
    return found


def _byte_locks(pid: int, wanted: os.stat_result) -> list[int]:
    """Return the bytes of a file that a process has locked, by what `/proc` says of its descriptors."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), wanted):
                    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
                        found += [int(line.split()[-1]) for line in info if line.startswith("lock:")]
    return found


def lock_holder(path: str) -> str | None:
    """Return the holder of the `flock` on this file, such as `process 1234 (python3)`; None if unknown."""
    try:
        found = os.stat(path)
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        with open("/proc/locks", encoding="ascii") as table:
            locks = [line.split() for line in table if " FLOCK " in line and "->" not in line]  # none that waits
        pids = [pid for _, _, _, _, pid, inode, *_ in locks if inode == place]
        with open(f"/proc/{int(pids[0])}/comm", encoding="utf-8", errors="replace") as comm:
            return f"process {pids[0]} ({comm.read().strip()})"
    except (OSError, IndexError, ValueError):
        return None  # no /proc, or the holder has ended or runs in another container
