"""The simulated kernel: what happens around every system call; processes, their descriptors and their locks.

It stands one level below `manifestlog.files.disk`, in the place of the modules `os`, `fcntl` and `mmap`. So the real disk
module is under test as well, and what takes it several system calls (`publish_new`: link, unlink) has crash and switching
points between them.

Invariants:

- Every call of the engine to the system is one method, named as in `os`, here or in `syscalls`; what the simulation does not
  know is an `AttributeError`, never a real call.
- Before each call `switch` may let another process go first, and then `before(number, name, args)` may raise `Crash`,
  `Killed` or an `OSError`, or give a number: a write or read is shortened to it. After it, `after(number, name, args)` may
  raise likewise; the call has then happened, and an `OSError` is a failure that lies.
- After a `Crash` nothing runs: every further call of an old process raises `Crash`, in `finally` blocks too, and changes
  nothing. A `close` does nothing instead, and a crash at a `close` of a `__del__` shows at the next call.
- The lock of `flock` belongs to the open file description: forked processes share it, the last close or any unlock frees it.
- A process has the lowest free descriptor of its own thousand, so that a finalizer which runs late never closes another's.
"""

from __future__ import annotations

import errno
import fcntl as real_fcntl
import itertools
import os as real_os
import posixpath
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.open_managers import OpenManagers

from .disk import Inode, Node, SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable

    Before = Callable[[int, str, tuple[Any, ...]], int | None]
    After = Callable[[int, str, tuple[Any, ...]], None]

CALL_NS = 1_000
_FDS_EACH = 1_000
_thousands = itertools.count(1_000_000)  # far above any real descriptor


class Crash(BaseException):
    """The machine is off, or this process is killed: no code of an old process may go on."""


class Killed(Crash):
    """SIGKILL of one process; the others go on."""


class Stat(NamedTuple):
    st_size: int
    st_mtime_ns: int
    st_ino: int
    st_nlink: int
    st_mode: int
    st_gid: int
    st_dev: int = 0x0801


class Description:
    """An open file description: what `dup` and `fork` share."""

    __slots__ = ("append", "node", "offset", "path", "pid", "readable", "users", "writable")

    def __init__(self, node: Node, path: str, flags: int, pid: int) -> None:
        mode = flags & real_os.O_ACCMODE
        self.node = node
        self.path = path
        self.pid = pid
        self.readable = mode != real_os.O_WRONLY
        self.writable = mode != real_os.O_RDONLY
        self.append = bool(flags & real_os.O_APPEND)
        self.offset = 0
        self.users = 0


class Process:
    """A simulated process: a number, descriptors, the managers that it has open."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.dead = False
        self.first_fd = next(_thousands) * _FDS_EACH
        self.fds: dict[int, Description] = {}
        self.registry = OpenManagers()
        self.registry._hooked = True  # no hooks of the real process
        self.result: Any = None
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<process {self.pid}{' (dead)' if self.dead else ''}>"


def os_error(number: int, path: str | None = None) -> OSError:
    return (
        OSError(number, real_os.strerror(number)) if path is None else OSError(number, real_os.strerror(number), path)
    )


def _in_finalizer() -> bool:
    """Whether a `__del__` is running: what it raises is not seen by the code around it, but printed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame.f_code.co_name == "__del__"


class Kernel:
    """Processes and descriptors; `syscalls.Syscalls` has the rest of the calls."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.off = True
        self.calls = 0
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.switch: Callable[[str, tuple[Any, ...]], None] | None = None
        self.before: Before | None = None
        self.after: After | None = None

    # -- around each call ----------------------------------------------------------------------------------------------

    def _enter(self, name: str, args: tuple[Any, ...]) -> int | None:
        process = self.current
        if process is None or process.dead:
            raise Crash
        if self.switch is not None:
            self.switch(name, args)
            if process.dead:
                raise Crash
        self.calls += 1
        self.disk.clock_ns += CALL_NS
        if self.before is None:
            return None
        return self._hooked(self.before, name, args)

    def _leave(self, name: str, args: tuple[Any, ...]) -> None:
        if self.after is not None:
            self._hooked(self.after, name, args)

    def _hooked(self, hook: Callable[..., int | None], name: str, args: tuple[Any, ...]) -> int | None:
        try:
            return hook(self.calls, name, args)
        except Killed:
            if self.current is not None:
                self.end(self.current)
            raise
        except Crash:
            self.power_off()
            raise

    def power_off(self) -> None:
        """End every process without a trace; `disk` stays as it is at this moment."""
        self.off = True
        for process in self.processes:
            process.dead = True

    def end(self, process: Process) -> None:
        """A process is gone: the kernel closes its descriptors, which frees its locks unless a forked one shares them."""
        if not process.dead:
            process.dead = True
            for fd in list(process.fds):
                self._drop(process, fd)

    def describe(self, args: tuple[Any, ...]) -> str:
        """Arguments of a call for people: paths instead of descriptors, lengths instead of bytes."""
        assert self.current is not None
        shown = []
        for position, value in enumerate(args):
            found = self.current.fds.get(value) if position == 0 and isinstance(value, int) else None
            if found is not None:
                shown.append(posixpath.basename(found.path))
            else:
                shown.append(f"{len(value)} bytes" if isinstance(value, bytes | memoryview) else str(value))
        return ", ".join(shown)

    # -- descriptors ---------------------------------------------------------------------------------------------------

    def _description(self, fd: int) -> Description:
        assert self.current is not None
        try:
            return self.current.fds[fd]
        except KeyError:
            raise os_error(errno.EBADF) from None

    def _install(self, description: Description) -> int:
        process = self.current
        assert process is not None
        fd = process.first_fd
        while fd in process.fds:
            fd += 1
        process.fds[fd] = description
        description.users += 1
        return fd

    def _drop(self, process: Process, fd: int) -> None:
        description = process.fds.pop(fd)
        description.users -= 1
        if description.users == 0 and isinstance(description.node, Inode):
            description.node.locks.pop(description, None)

    def close(self, fd: int) -> None:
        process = self.current
        if process is None or process.dead:
            return
        if fd not in process.fds and fd // _FDS_EACH * _FDS_EACH != process.first_fd:
            return  # a finalizer of a process that is gone, or not running
        try:
            self._enter("close", (fd,))
            self._description(fd)
            self._drop(process, fd)
            self._leave("close", (fd,))
        except Crash:
            if not _in_finalizer():
                raise

    def fcntl(self, fd: int, command: int, _argument: int = 0) -> int:
        assert command == real_fcntl.F_DUPFD_CLOEXEC, "the simulation knows no other"
        self._enter("dup", (fd,))
        made = self._install(self._description(fd))
        self._leave("dup", (fd,))
        return made

    def flock(self, fd: int, operation: int) -> None:
        self._enter("flock", (fd, operation))
        description = self._description(fd)
        locks = description.node.locks if isinstance(description.node, Inode) else {}
        if operation & real_fcntl.LOCK_UN:
            locks.pop(description, None)
        else:
            exclusive = bool(operation & real_fcntl.LOCK_EX)
            if locks.get(description) is not exclusive:
                locks.pop(description, None)  # a change gives up the old lock first, and may get none
                if any(exclusive or theirs for theirs in locks.values()):
                    assert operation & real_fcntl.LOCK_NB, "the engine never waits in the kernel"
                    raise os_error(errno.EAGAIN)
                locks[description] = exclusive
        self._leave("flock", (fd, operation))
