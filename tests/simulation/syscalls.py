"""The system calls on files and names, in the place of the modules `os`, `fcntl` and `mmap`.

Invariants:

- Arguments, answers and error numbers are the kernel's; `test_disk.py` compares both on random sequences.
- There are no symbolic links, no permissions, and directories are not renamed.
- A map is a copy of the file's bytes; from then on a change of the file is an `AssertionError`.
"""

from __future__ import annotations

import errno
import fcntl as real_fcntl
import io
import mmap as real_mmap
import os as real_os
import posixpath
import stat as stat_bits
from types import SimpleNamespace

from .disk import Directory, Inode, Node
from .kernel import Description, Kernel, Stat, os_error


class Syscalls(Kernel):
    """System calls of the running process; in the place of the module `os`."""

    O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE = real_os.O_RDONLY, real_os.O_WRONLY, real_os.O_RDWR, real_os.O_ACCMODE
    O_CREAT, O_EXCL, O_APPEND, O_TRUNC = real_os.O_CREAT, real_os.O_EXCL, real_os.O_APPEND, real_os.O_TRUNC
    O_CLOEXEC, O_NOFOLLOW, O_DIRECTORY = real_os.O_CLOEXEC, real_os.O_NOFOLLOW, real_os.O_DIRECTORY
    O_NONBLOCK = real_os.O_NONBLOCK
    SEEK_SET, SEEK_CUR, SEEK_END = real_os.SEEK_SET, real_os.SEEK_CUR, real_os.SEEK_END
    major, minor, fspath = staticmethod(real_os.major), staticmethod(real_os.minor), staticmethod(real_os.fspath)

    def __init__(self) -> None:
        super().__init__()
        self.path = SimpleNamespace(
            join=posixpath.join, split=posixpath.split, basename=posixpath.basename, dirname=posixpath.dirname,
            realpath=posixpath.normpath, abspath=posixpath.normpath, lexists=self._exists, exists=self._exists,
        )  # fmt: skip
        self.fcntl_module = SimpleNamespace(
            flock=self.flock, fcntl=self.fcntl, F_DUPFD_CLOEXEC=real_fcntl.F_DUPFD_CLOEXEC,
            LOCK_SH=real_fcntl.LOCK_SH, LOCK_EX=real_fcntl.LOCK_EX, LOCK_NB=real_fcntl.LOCK_NB,
            LOCK_UN=real_fcntl.LOCK_UN,
        )  # fmt: skip
        self.mmap_module = SimpleNamespace(mmap=self._map, ACCESS_READ=real_mmap.ACCESS_READ)

    def getpid(self) -> int:
        """No scheduling point: it changes nothing and cannot fail."""
        return self.current.pid if self.current is not None else 0

    def readlink(self, path: str) -> str:
        """No scheduling point either: it is only asked for the path of an open file, and this machine has no `/proc`."""
        raise os_error(errno.ENOENT, path)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        self._enter("open", (path, flags))
        disk = self.disk
        directory, name = disk.place(path)
        node = directory.entries.get(name) if name else directory
        if node is None:
            if not flags & real_os.O_CREAT:
                raise os_error(errno.ENOENT, path)
            node = disk.new_inode(mode & ~0o022)
            disk.rename_entries((directory, name, node))
        elif flags & real_os.O_CREAT and flags & real_os.O_EXCL:
            raise os_error(errno.EEXIST, path)
        if isinstance(node, Directory):
            if flags & (real_os.O_ACCMODE | real_os.O_CREAT):
                raise os_error(errno.EISDIR, path)
        elif flags & real_os.O_DIRECTORY:
            raise os_error(errno.ENOTDIR, path)
        elif flags & real_os.O_TRUNC and node.data:
            disk.write(node, 0, None)
        fd = self._install(Description(node, path, flags, self.getpid()))
        self._leave("open", (path, flags))
        return fd

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def _file(self, fd: int) -> Inode:
        node = self._description(fd).node
        if not isinstance(node, Inode):
            raise os_error(errno.EISDIR)
        return node

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        limit = self._enter("pread", (fd, count, offset))
        if not self._description(fd).readable:
            raise os_error(errno.EBADF)
        if offset < 0:
            raise os_error(errno.EINVAL)
        data = self._file(fd).data[offset : offset + (count if limit is None else min(limit, count))]
        self._leave("pread", (fd, count, offset))
        return data

    def write(self, fd: int, data: bytes | memoryview) -> int:
        limit = self._enter("write", (fd, data))
        description = self._description(fd)
        if not description.writable:
            raise os_error(errno.EBADF)
        inode = self._file(fd)
        written = bytes(data if limit is None else data[:limit])
        if written:
            if description.append:
                description.offset = len(inode.data)
            self.disk.write(inode, description.offset, written)
            description.offset += len(written)
        self._leave("write", (fd, data))
        return len(written)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        self._enter("lseek", (fd, offset, whence))
        description = self._description(fd)
        node = description.node
        size = len(node.data) if isinstance(node, Inode) else 0
        at = offset + (0, description.offset, size)[whence]
        if at < 0:
            raise os_error(errno.EINVAL)
        description.offset = at
        self._leave("lseek", (fd, offset, whence))
        return at

    def ftruncate(self, fd: int, length: int) -> None:
        self._enter("ftruncate", (fd, length))
        description = self._description(fd)
        if not description.writable or length < 0:
            raise os_error(errno.EINVAL)
        self.disk.write(self._file(fd), length, None)
        self._leave("ftruncate", (fd, length))

    def _sync(self, name: str, fd: int) -> None:
        node = self._description(fd).node if self.current and fd in self.current.fds else None
        try:
            self._enter(name, (fd,))
        except OSError:
            if isinstance(node, Inode):
                node.sync_failed = True
            raise
        self.disk.sync(self._description(fd).node)
        self._leave(name, (fd,))

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    # -- what is known of a node ---------------------------------------------------------------------------------------

    def _stat(self, node: Node) -> Stat:
        if isinstance(node, Inode):
            kind, size = stat_bits.S_IFREG, len(node.data)
        else:
            kind, size = stat_bits.S_IFDIR, 4096
        return Stat(size, node.mtime_ns, node.number, node.nlink, kind | node.mode, node.gid)

    def fstat(self, fd: int) -> Stat:
        self._enter("fstat", (fd,))
        found = self._stat(self._description(fd).node)
        self._leave("fstat", (fd,))
        return found

    def stat(self, path: str) -> Stat:
        self._enter("stat", (path,))
        found = self._stat(self.disk.node(path))
        self._leave("stat", (path,))
        return found

    lstat = stat

    def _exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def fchmod(self, fd: int, mode: int) -> None:
        self._enter("fchmod", (fd, mode))
        self._description(fd).node.mode = mode
        self._leave("fchmod", (fd, mode))

    def fchown(self, fd: int, _uid: int, gid: int) -> None:
        self._enter("fchown", (fd, gid))
        self._description(fd).node.gid = gid
        self._leave("fchown", (fd, gid))

    def chmod(self, path: str, mode: int) -> None:
        self._enter("chmod", (path, mode))
        self.disk.node(path).mode = mode
        self._leave("chmod", (path, mode))

    def chown(self, path: str, _uid: int, gid: int) -> None:
        self._enter("chown", (path, gid))
        self.disk.node(path).gid = gid
        self._leave("chown", (path, gid))

    # -- names ---------------------------------------------------------------------------------------------------------

    def _entry(self, path: str) -> tuple[Directory, str, Node]:
        directory, name = self.disk.place(path)
        node = directory.entries.get(name)
        if node is None:
            raise os_error(errno.ENOENT, path)
        return directory, name, node

    def link(self, source: str, target: str, *, follow_symlinks: bool = True) -> None:
        assert not follow_symlinks
        self._enter("link", (source, target))
        _, _, node = self._entry(source)
        directory, name = self.disk.place(target)
        if name in directory.entries:
            raise os_error(errno.EEXIST, target)
        if isinstance(node, Directory):
            raise os_error(errno.EPERM, source)
        self.disk.rename_entries((directory, name, node))
        self._leave("link", (source, target))

    def unlink(self, path: str) -> None:
        self._enter("unlink", (path,))
        directory, name, node = self._entry(path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        self.disk.rename_entries((directory, name, None))
        self._leave("unlink", (path,))

    def rename(self, source: str, target: str) -> None:
        self._enter("rename", (source, target))
        self.disk.place(source)  # the kernel looks for both places before it looks into either
        place, new_name = self.disk.place(target)
        directory, name, node = self._entry(source)
        assert isinstance(node, Inode), "directories are not renamed"
        old = place.entries.get(new_name)
        if source.startswith(target + "/"):
            raise os_error(errno.ENOTEMPTY, source)
        if isinstance(old, Directory):
            raise os_error(errno.EISDIR, source)
        if old is not node:  # of two names of one file, neither goes
            self.disk.rename_entries((directory, name, None), (place, new_name, node))
        self._leave("rename", (source, target))

    replace = rename

    def listdir(self, path: str) -> list[str]:
        self._enter("listdir", (path,))
        node = self.disk.node(path)
        if not isinstance(node, Directory):
            raise os_error(errno.ENOTDIR, path)
        found = list(reversed(node.entries))  # a directory has no order
        self._leave("listdir", (path,))
        return found

    def mkdir(self, path: str, _mode: int = 0o777) -> None:
        self._enter("mkdir", (path,))
        directory, name = self.disk.place(path)
        if name in directory.entries:
            raise os_error(errno.EEXIST, path)
        self.disk.make_directory(path)
        self._leave("mkdir", (path,))

    def makedirs(self, path: str, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        """As `os.makedirs`: several calls, a crash may fall between them."""
        head = posixpath.dirname(path)
        if head not in ("", "/") and not self._exists(head):
            self.makedirs(head, exist_ok=True)
        try:
            self.mkdir(path, mode)
        except FileExistsError:
            if not exist_ok or not stat_bits.S_ISDIR(self.stat(path).st_mode):
                raise

    # -- the modules beside `os` -----------------------------------------------------------------------------------------

    def _map(self, fd: int, length: int, *, access: int) -> bytes:
        assert (length, access) == (0, real_mmap.ACCESS_READ), "the simulation maps whole files, for reading"
        self._enter("mmap", (fd,))
        inode = self._file(fd)
        if not inode.data:
            raise ValueError("cannot mmap an empty file")
        inode.mapped = True
        self._leave("mmap", (fd,))
        return inode.data

    def open_text(self, path: str, **_: object) -> io.StringIO:
        """In the place of `open`, for what the kernel tells of locks and processes; no scheduling point."""
        if path == "/proc/locks":
            lines = [
                f"1: FLOCK  ADVISORY  {'WRITE' if exclusive else 'READ'} {holder.pid} 08:01:{inode.number} 0 EOF\n"
                for inode in self.disk.all_inodes()
                for holder, exclusive in inode.locks.items()
                if isinstance(holder, Description)
            ]
            return io.StringIO("".join(lines))
        if path.endswith("/comm"):
            return io.StringIO("simulated\n")
        raise os_error(errno.ENOENT, path)
