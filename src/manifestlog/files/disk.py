"""The only module that touches files: open, read, append, lock, sync, replace, list, remove.

Invariants:

- A file grows, is replaced by a rename, or is removed. It is never truncated below bytes that a reader may have accepted.
- Every descriptor is close-on-exec, and no path may end in a symbolic link.
- A failed sync is never retried: the kernel may then report lost pages as clean (PostgreSQL's "fsyncgate", 2018).
- The error of a call that has only a descriptor names the file too, if the system tells its path.

Other modules call it qualified (`disk.append(…)`), so that a simulated disk can replace these names.
It knows nothing of manifests and raises plain `OSError`s. What else the system can tell is asked in `system`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat as stat_bits
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.files import system

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 1 << 20
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REST_S = 50e-6
_COMMON = os.O_CLOEXEC | os.O_NOFOLLOW
_BYTE_LOCK = "hhqqi4x"  # `struct flock` of 64-bit Linux: type, whence, start, length, pid
# Open file description locks: closing another descriptor of the file would release process locks (fcntl(2)).
_SET_BYTE_LOCK = getattr(fcntl, "F_OFD_SETLK", None)
BYTE_LOCKS_ARE_APART = _SET_BYTE_LOCK is not None
"""Whether a byte lock belongs to an open file, and leaves the other kind (`lock_shared`, filelock) alone."""
_MODE = 0o666  # the umask decides, as for any file: a 0600 manifest would lock out its other writers


class Stamp(NamedTuple):
    """What tells two versions of a file apart without reading them."""

    size: int
    mtime_ns: int
    inode: int


def _above_standard_streams(fd: int) -> int:
    # A stray print would write into a descriptor 0-2; SQLite lost databases that way ("How To Corrupt", 2.2).
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def open_read(path: str) -> int:
    """Open an existing regular file for reading; raises `OSError`, without waiting, for anything else of this name."""
    return _open_regular(path, os.O_RDONLY)


def open_append(path: str) -> int:
    """Open an existing regular file for reading and appending; raises `OSError` for anything else of this name."""
    return _open_regular(path, os.O_RDWR | os.O_APPEND)


def _open_regular(path: str, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | _COMMON)  # a FIFO would wait for its other end
    except BlockingIOError:  # a file server holds a lease on it, which it gives up to those who wait
        fd = os.open(path, flags | _COMMON)
    try:
        mode = os.fstat(fd).st_mode
        if not stat_bits.S_ISREG(mode):
            what = "Is a directory" if stat_bits.S_ISDIR(mode) else "not a regular file"
            raise OSError(errno.EISDIR, what, path)  # noqa: TRY301 -- its descriptor is closed below
    except BaseException:
        os.close(fd)
        raise
    return _above_standard_streams(fd)


def open_lock(path: str, mode_from: str | None = None) -> int:
    """Open the lock file, creating it if needed with the mode and group of `mode_from`."""
    flags = os.O_RDWR | _COMMON
    if mode_from is not None:
        with contextlib.suppress(FileNotFoundError):
            return _above_standard_streams(os.open(path, flags))
        with contextlib.suppress(FileExistsError):
            return _create(path, flags | os.O_CREAT | os.O_EXCL, mode_from)
    return _above_standard_streams(os.open(path, flags | os.O_CREAT, _MODE))


def create(path: str, mode_from: str | None = None) -> int:
    """Create a file that must not exist yet; with `mode_from`, copy that file's mode and, where allowed, its group."""
    return _create(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _COMMON, mode_from)


def _create(path: str, flags: int, mode_from: str | None) -> int:
    old = None
    if mode_from is not None:
        with contextlib.suppress(OSError):
            old = os.stat(mode_from)
    # Never wider than the old file, even before the mode is set: a process that opens it in that moment keeps it open.
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
    """Return the length of an open file in bytes, with the cheapest system call there is."""
    return os.lseek(fd, 0, os.SEEK_END)


def stamp(fd: int) -> Stamp:
    found = os.fstat(fd)
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def path_stamp(path: str) -> Stamp | None:
    """Return the stamp of the file at `path`, or None if there is no file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def exists(path: str) -> bool:
    return path_stamp(path) is not None


def is_linked(fd: int) -> bool:
    """Return whether the open file still has a name."""
    return os.fstat(fd).st_nlink > 0


def read(fd: int, count: int, offset: int) -> bytes:
    """Read `count` bytes from `offset`; fewer only at the end of the file."""
    try:
        data = os.pread(fd, count, offset)
        if len(data) == count or not data:
            return data
        # Only an empty read is the end of the file, a short one is not (LevelDB issue 1285).
        parts, got = [data], len(data)
        while got < count and (data := os.pread(fd, count - got, offset + got)):
            parts.append(data)
            got += len(data)
    except OSError as error:
        system.name_file(error, fd)
        raise
    return b"".join(parts)


def blocks(fd: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `end` in blocks that fit in memory; stop early at the end of the file."""
    while start < end and (block := read(fd, min(BLOCK_BYTES, end - start), start)):
        yield block
        start += len(block)


def append(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` at the end of the file. After an error, part of it may be there."""
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])
    except OSError as error:
        system.name_file(error, fd)
        raise


def truncate(fd: int, length: int) -> None:
    """Remove an unfinished append. Never call it for bytes that a reader may have accepted."""
    os.ftruncate(fd, length)


def sync_data(fd: int) -> None:
    """Make the file's bytes and length survive a power cut."""
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync only reaches the drive's cache
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            getattr(os, "fdatasync", os.fsync)(fd)
    except OSError as error:
        system.name_file(error, fd)
        raise


def sync_file(path: str) -> None:
    """Make the bytes of a regular file survive a power cut."""
    fd = open_read(path)
    try:
        sync_data(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make changes to the names in a directory (created, renamed, removed) survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(source: str, target: str) -> None:
    """Rename `source` to `target`, replacing it. A process that has the old file open keeps it."""
    os.replace(source, target)


def publish_new(source: str, target: str) -> None:
    """Rename `source` to `target`, which must be free; raises `FileExistsError` if it is not."""
    if link_new(source, target):
        os.unlink(source)


def link_new(source: str, target: str) -> bool:
    """Give `source` the second name `target`, which must be free, or rename it where there are no hard links.

    Return whether `source` is still its name. Raises `FileExistsError`.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # This file system has no hard links (FAT, some network mounts); the append lock keeps other writers out.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "the name is taken", target) from None
        os.rename(source, target)
        return False
    return True


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def yield_gil() -> None:
    """Let the other threads of this process run. Long computations call it about every half millisecond.

    CPython takes the GIL from its holder only after 5 ms, and a writer asks for it after each system call. A sleep of
    zero length would not help: the holder takes the GIL back before another thread is awake.
    """
    if threading.active_count() > 1:
        time.sleep(_REST_S)


def list_names(directory: str) -> list[str]:
    return os.listdir(directory)


def make_directory(path: str, mode_from: str | None = None) -> None:
    """Create a directory and its missing parents. On return each new name survives a power cut.

    With `mode_from`, a new directory copies the mode and, where allowed, the group of that one.
    """
    above = os.path.dirname(path)
    if not exists(path):
        make_directory(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            if mode_from is not None:
                _take_over(path, mode_from)
    # Also for an existing directory: its creator may not have synced yet. The parent of an old one may be unreadable.
    with contextlib.suppress(PermissionError):
        sync_directory(above)


def make_passing_directory(path: str) -> None:
    """Create a temporary directory; it need not survive a power cut."""
    os.mkdir(path)


def make_passing_directories(path: str) -> None:
    """Create a temporary directory and its missing parents; they need not survive a power cut."""
    os.makedirs(path, exist_ok=True)


def _take_over(path: str, mode_from: str) -> None:
    old = os.stat(mode_from)
    with contextlib.suppress(PermissionError):
        os.chown(path, -1, old.st_gid)
    os.chmod(path, stat_bits.S_IMODE(old.st_mode))


def map_read(fd: int) -> mmap.mmap:
    """Map a whole file. Only for files that never shrink: truncating a mapped file kills the process."""
    return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)


def lock_shared(fd: int) -> None:
    """Take a shared lock on this file until its descriptor is closed; never wait, as it is a hint (see `held_by_others`)."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def held_by_others(fd: int) -> bool:
    """Release the shared lock on this file, and return whether another process still holds one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # the file system has no locks of this kind, so other holders are unknown
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def lock_byte(fd: int, position: int) -> bool:
    """Lock one byte of this file if it is free; return whether it is locked now. The kernel releases it with the descriptor."""
    try:
        _change_byte_lock(fd, fcntl.F_WRLCK, position)
    except (BlockingIOError, PermissionError):  # some systems raise the second one
        return False
    return True


def is_byte_locked(fd: int, position: int) -> bool:
    """Return whether another open file holds a lock on this byte; take none. Only if `BYTE_LOCKS_ARE_APART`."""
    asked = struct.pack(_BYTE_LOCK, fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    return bool(struct.unpack(_BYTE_LOCK, answer)[0] != fcntl.F_UNLCK)


def unlock_byte(fd: int, position: int) -> None:
    _change_byte_lock(fd, fcntl.F_UNLCK, position)


def _change_byte_lock(fd: int, kind: int, position: int) -> None:
    if _SET_BYTE_LOCK is not None:
        fcntl.fcntl(fd, _SET_BYTE_LOCK, struct.pack(_BYTE_LOCK, kind, os.SEEK_SET, position, 1, 0))
    else:
        operation = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.lockf(fd, operation, 1, position)


def overwrite(fd: int, data: bytes) -> None:
    """Replace the content of a lock file, which nothing depends on: a crash may leave any part of it."""
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def link(source: str, target: str) -> None:
    """Give a file a second name."""
    os.link(source, target, follow_symlinks=False)


def is_directory(path: str) -> bool:
    """Return whether there is a directory at `path`; a link to one does not count."""
    try:
        return stat_bits.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def regular_size(path: str) -> int | None:
    """Return the length of the regular file at `path`; None if there is none. A link to one does not count."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat_bits.S_ISREG(found.st_mode) else None


def remove_tree(path: str) -> None:
    """Remove a file, or a directory with everything in it. Links are removed, never followed."""
    try:
        remove(path)
    except (IsADirectoryError, PermissionError):  # some systems raise the second one
        for name in os.listdir(path):
            remove_tree(os.path.join(path, name))
        os.rmdir(path)


def remove_directory(path: str) -> None:
    """Remove a directory and the files in it. It must not contain directories."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            remove(os.path.join(path, name))
        os.rmdir(path)
