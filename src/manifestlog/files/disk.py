"""The only module that calls the operating system: open, read, append, sync, replace, list, remove.

Invariants:

- No file is ever rewound or truncated while somebody may rely on its bytes: files grow, are replaced by rename, or go.
- Every descriptor is close-on-exec and follows no symbolic link in its last part.
- Nothing here retries a failed sync: after one, the kernel may call lost pages clean (PostgreSQL's "fsyncgate", 2018).

Other modules call it qualified (`disk.append(…)`), so that a simulated disk can take its place by replacing these names.
It knows nothing of manifests, and raises plain `OSError`s.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat as stat_bits
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 1 << 20
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_REST_S = 50e-6
_COMMON = os.O_CLOEXEC | os.O_NOFOLLOW
_MODE = 0o666  # the umask decides, as for any file a user makes: a 0600 manifest would lock its other writers out


class Stamp(NamedTuple):
    """What tells two versions of one path apart without reading them."""

    size: int
    mtime_ns: int
    inode: int


def _above_standard_streams(fd: int) -> int:
    # A descriptor 0-2 would receive somebody's stray print; SQLite lost databases to that ("How To Corrupt", 2.2).
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def open_read(path: str) -> int:
    """Open an existing file for reading."""
    return _above_standard_streams(os.open(path, os.O_RDONLY | _COMMON))


def open_append(path: str) -> int:
    """Open an existing file for reading and appending."""
    return _above_standard_streams(os.open(path, os.O_RDWR | os.O_APPEND | _COMMON))


def open_lock(path: str, like: str | None = None) -> int:
    """Open a lock file, made when missing; its content is nobody's business. A new one gets mode and group of `like`."""
    flags = os.O_RDWR | _COMMON
    if like is not None:
        with contextlib.suppress(FileNotFoundError):
            return _above_standard_streams(os.open(path, flags))
        with contextlib.suppress(FileExistsError):
            return _create(path, flags | os.O_CREAT | os.O_EXCL, like)
    return _above_standard_streams(os.open(path, flags | os.O_CREAT, _MODE))


def create(path: str, like: str | None = None) -> int:
    """Make a file that must not exist yet; with `like`, take over that file's mode and, where allowed, its group."""
    return _create(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _COMMON, like)


def _create(path: str, flags: int, like: str | None) -> int:
    old = None
    if like is not None:
        with contextlib.suppress(OSError):
            old = os.stat(like)
    # Never wider than the old file, not even for the moment before the mode is set: who opens it then keeps it open.
    mode = _MODE if old is None else stat_bits.S_IMODE(old.st_mode) & _MODE
    fd = _above_standard_streams(os.open(path, flags, mode))
    if old is not None:
        with contextlib.suppress(OSError):
            with contextlib.suppress(PermissionError):
                os.fchown(fd, -1, old.st_gid)
            os.fchmod(fd, stat_bits.S_IMODE(old.st_mode))
    return fd


def close(fd: int) -> None:
    os.close(fd)


def size(fd: int) -> int:
    """Length of an open file: one system call, and the cheapest there is."""
    return os.lseek(fd, 0, os.SEEK_END)


def stamp(fd: int) -> Stamp:
    found = os.fstat(fd)
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def path_stamp(path: str) -> Stamp | None:
    """Stamp of the file at `path`, or None when there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def exists(path: str) -> bool:
    return path_stamp(path) is not None


def is_linked(fd: int) -> bool:
    """Whether the open file still has a name."""
    return os.fstat(fd).st_nlink > 0


def read(fd: int, count: int, offset: int) -> bytes:
    """`count` bytes from `offset`, fewer only at the end of the file."""
    data = os.pread(fd, count, offset)
    if len(data) == count or not data:
        return data
    # A short read is no end of file (LevelDB issue 1285): only an empty one is.
    parts = [data]
    got = len(data)
    while got < count and (data := os.pread(fd, count - got, offset + got)):
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def blocks(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end` in blocks that fit in memory; ends early where the file does."""
    while start < end and (block := read(fd, min(BLOCK_BYTES, end - start), start)):
        yield block
        start += len(block)


def append(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` at the end of the file; on an error part of it may be there."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def truncate(fd: int, length: int) -> None:
    """Take back an unfinished append; never anything that a reader may have accepted."""
    os.ftruncate(fd, length)


def sync_data(fd: int) -> None:
    """Make the file's bytes and length survive a power cut."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the drive's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_directory(path: str) -> None:
    """Make names in a directory (created, renamed, removed) survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(source: str, target: str) -> None:
    """Put `source` in `target`'s place; whoever has the old file open keeps it."""
    os.replace(source, target)


def publish_new(source: str, target: str) -> None:
    """Give `source` the name `target`, which must be free; raises `FileExistsError` when it is not."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links on this file system (FAT, some network mounts); the append lock keeps others away.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "segment exists", target) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def yield_gil() -> None:
    """Let the other threads of this process run; for who computes long, every half millisecond or so.

    CPython takes the GIL from its holder after 5 ms only, and a writer asks for it after each of its system calls. A sleep of
    no length would hand it over to nobody: its holder has it back before another thread is awake.
    """
    if threading.active_count() > 1:
        time.sleep(_REST_S)


def list_names(directory: str) -> list[str]:
    return os.listdir(directory)


def make_directory(path: str, like: str | None = None) -> None:
    """Make a directory, and those above it that are missing; on return each new name survives a power cut.

    With `like`, a new one takes over that one's mode and, where allowed, its group.
    """
    above = os.path.dirname(path)
    if not exists(path):
        make_directory(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            if like is not None:
                _take_over(path, like)
    # One that was there may be another process's, who has not come to its own sync. One that was there for long may
    # lie in a directory that we may not read.
    with contextlib.suppress(PermissionError):
        sync_directory(above)


def make_passing_directory(path: str) -> None:
    """Make a directory that nobody misses after a power cut."""
    os.mkdir(path)


def _take_over(path: str, like: str) -> None:
    old = os.stat(like)
    with contextlib.suppress(PermissionError):
        os.chown(path, -1, old.st_gid)
    os.chmod(path, stat_bits.S_IMODE(old.st_mode))


def map_read(fd: int) -> mmap.mmap:
    """Map a whole file; only for files that are replaced and never shrink, as a truncated map kills the process."""
    return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)


def lock_shared(fd: int) -> None:
    """Be one of those who hold this file; the kernel forgets it with the descriptor.

    A hint, so it never waits: `held_by_others` may just be looking.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def held_by_others(fd: int) -> bool:
    """Stop holding this file, and say whether somebody else still does."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no such locks here: nothing is known of others
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def lock_holder(path: str) -> str | None:
    """Who holds the kernel lock on this file, as far as the kernel tells: `process 1234 (python3)`."""
    try:
        found = os.stat(path)
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        with open("/proc/locks", encoding="ascii") as table:
            pids = [line.split()[4] for line in table if line.split()[5] == place and "->" not in line]
        if not pids:
            return None
        with open(f"/proc/{int(pids[0])}/comm", encoding="utf-8", errors="replace") as comm:
            return f"process {pids[0]} ({comm.read().strip()})"
    except (OSError, IndexError, ValueError):
        return None  # no /proc, or the holder is gone or in another container


# -- what the folder is like -------------------------------------------------------------------------------------------


class Space(NamedTuple):
    """What is left for this user; `free_inodes` is None where files are not counted."""

    free_bytes: int
    free_inodes: int | None


class Access(NamedTuple):
    """Who may do what with a file or directory."""

    mode: int
    owner: int
    writable: bool
    """Whether this process may write it."""


def device(path: str) -> int:
    """The number of the device that `path` lies on."""
    return os.stat(path).st_dev


def links(path: str) -> int:
    """How many names the file at `path` has."""
    return os.stat(path).st_nlink


def mount_table() -> str:
    """What is mounted where, as the kernel lists it; empty where there is no such list."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            return table.read()
    except OSError:
        return ""


def space(path: str) -> Space:
    """How much room there is where `path` lies."""
    found = os.statvfs(path)
    return Space(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def access(path: str) -> Access:
    """Mode and owner of `path`, links followed."""
    found = os.stat(path)
    return Access(stat_bits.S_IMODE(found.st_mode), found.st_uid, os.access(path, os.W_OK))


def our_user() -> int:
    """The user whose rights this process has."""
    return os.geteuid()


def link(source: str, target: str) -> None:
    """Give a file a second name."""
    os.link(source, target, follow_symlinks=False)


def remove_directory(path: str) -> None:
    """Remove a directory with the files in it; none of them is a directory."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            remove(os.path.join(path, name))
        os.rmdir(path)
