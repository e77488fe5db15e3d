"""Calls of the system that fail: the n-th that can fail in this way, once or from then on; and what must not follow a failed sync.

Invariants:

- A call fails before it does anything; a `close` fails after it, as the kernel's does.
- A short write or read is no failure: half of it is done.
- Whatever happens later, a file whose sync has failed in a process is not synced by it again, and gets nothing but a seal.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from .kernel import os_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from .disk import Node
    from .kernel import Process
    from .machine import Machine

_SEGMENT = re.compile(r"\.wal-(\d+)\.jsonl")
_SYNCS = frozenset({"fsync", "fdatasync"})
_NAMES = frozenset({"link", "unlink", "rename", "mkdir"})
_LOOKS = frozenset({"stat", "fstat", "listdir", "lseek", "pread", "mmap"})
_WRITES = frozenset({"write", "ftruncate"})


def _creates(name: str, args: tuple[Any, ...]) -> bool:
    return name == "open" and bool(args[1] & os.O_CREAT)


def _opens_to_write(name: str, args: tuple[Any, ...]) -> bool:
    return name == "open" and bool(args[1] & (os.O_CREAT | os.O_ACCMODE))


def _takes_space(name: str, args: tuple[Any, ...]) -> bool:
    return name in _SYNCS | {"write", "link", "rename", "mkdir"} or _creates(name, args)


def _changes(name: str, args: tuple[Any, ...]) -> bool:
    return name in _WRITES | _NAMES | {"fchmod"} or _opens_to_write(name, args)


class Fault(NamedTuple):
    """A way to fail: its name, the calls that can, and the error (None: half is done)."""

    name: str
    hits: Callable[[str, tuple[Any, ...]], bool]
    error: int | type[BaseException] | None


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("EIO", lambda name, _: name != "sleep", errno.EIO),
        Fault("ENOSPC", _takes_space, errno.ENOSPC),
        Fault("EDQUOT", _takes_space, errno.EDQUOT),
        Fault("EINTR", lambda name, _: name in _SYNCS | _WRITES | {"open", "pread", "flock", "close"}, errno.EINTR),
        Fault("EROFS", _changes, errno.EROFS),
        Fault("EMFILE", lambda name, _: name in ("open", "dup"), errno.EMFILE),
        Fault("ENOLCK", lambda name, _: name == "flock", errno.ENOLCK),
        Fault("EACCES", lambda name, _: name in _NAMES | {"open", "stat", "listdir"}, errno.EACCES),
        Fault("short write", lambda name, _: name == "write", None),
        Fault("short read", lambda name, _: name == "pread", None),
        Fault("no memory", lambda name, _: name in ("write", "pread", "mmap", "listdir"), MemoryError),
    )
}


class Failing:
    """Hooks for a machine: lets calls fail while `armed`, and watches files whose sync has failed, always."""

    def __init__(self, machine: Machine, fault: Fault, number: int, *, sticky: bool) -> None:
        self.machine = machine
        self.fault = fault
        self.number = number
        self.sticky = sticky
        self.armed = True
        self.seen = 0
        self.hit = False
        self._distrusted: dict[tuple[Process, int], str] = {}
        machine.before, machine.after = self.before, self.after

    def pardon(self) -> bool:
        """The manager is gone; gives whether a segment's failed sync is known to nobody: the disk took no seal either."""
        names = self.machine.disk.files()
        numbers = {int(found[1]) for name in names if (found := _SEGMENT.search(name))}
        left = {int(found[1]) for path in self._distrusted.values() if (found := _SEGMENT.search(path))}
        self._distrusted.clear()
        return max(numbers, default=0) in left

    def _is_hit(self, name: str, args: tuple[Any, ...]) -> bool:
        if not (self.armed and self.fault.hits(name, args)):
            return False
        self.seen += 1
        hit = self.seen >= self.number if self.sticky else self.seen == self.number
        self.hit |= hit
        return hit

    def before(self, _number: int, name: str, args: tuple[Any, ...]) -> int | None:
        """The kernel's hook before each call."""
        self._watch(name, args)
        if name == "close" or not self._is_hit(name, args):
            return None
        error = self.fault.error
        if error is None:
            length = len(args[1]) if name == "write" else args[1]
            return max(1, length // 2)
        if name in _SYNCS:
            node, process = self._node(args[0])
            self._distrusted[process, node.number] = process.fds[args[0]].path
        raise self._error()

    def after(self, _number: int, name: str, args: tuple[Any, ...]) -> None:
        """The kernel's hook behind each call."""
        if name == "close" and self._is_hit(name, args) and self.fault.error is not None:
            raise self._error()

    def _error(self) -> BaseException:
        error = self.fault.error
        assert error is not None
        return os_error(error) if isinstance(error, int) else error()

    def _node(self, fd: int) -> tuple[Node, Process]:
        process = self.machine.current
        assert process is not None
        return process.fds[fd].node, process

    def _watch(self, name: str, args: tuple[Any, ...]) -> None:
        if not self._distrusted or name not in _SYNCS | {"write"}:
            return
        node, process = self._node(args[0])
        path = self._distrusted.get((process, node.number), "")
        if ".wal-" in path:
            assert name == "write", f"{path} is synced again after a failed sync"
            assert bytes(args[1]).startswith(b'{"op":"seal"'), f"{path} is appended to after a failed sync"
