"""The simulated disk: what was written, what was synced, and what a power cut may leave of it.

Invariants:

- A file's content and its names are apart: syncing a file keeps its bytes and no name, syncing a directory keeps names and no
  bytes.
- `data` and `entries` are what running processes see. `durable` is what certainly survives. `pending` is what came since, in
  order (`sequence`), each of which a power cut may keep, lose or cut, independently of the others.
- Contents are immutable `bytes`, so a copy of a whole disk shares them and costs some ten microseconds.
- A rename is one change, within a directory or between two; it is certain when each directory that it touches was synced.

It knows no processes, descriptors or error numbers but those of paths (`kernel`), and chooses no crash states (`crash`).
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

EPOCH_NS = 1_767_225_600_000_000_000  # 2026-01-01, UTC
MTIME_STEP_NS = 4_000_000
"""Modification times are as coarse as a kernel's tick, so that two changes may well have one time."""


class Write(NamedTuple):
    """Bytes put at an offset; with `data=None`, the file cut or extended to that length."""

    sequence: int
    offset: int
    data: bytes | None

    def on(self, content: bytes) -> bytes:
        """The content after it; a gap before it reads as NULs."""
        offset, data = self.offset, self.data
        if data is None:
            return content[:offset].ljust(offset, b"\0")
        if offset == len(content):
            return content + data
        return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


class Inode:
    """A file: its bytes and what hangs on them, whatever its names."""

    __slots__ = (
        "data",
        "durable",
        "gid",
        "locks",
        "mapped",
        "mode",
        "mtime_ns",
        "nlink",
        "number",
        "pending",
        "sync_failed",
    )

    def __init__(self, number: int, mtime_ns: int, mode: int = 0o644) -> None:
        self.number = number
        self.mtime_ns = mtime_ns
        self.mode = mode
        self.gid = 0
        self.nlink = 0
        self.data = b""
        self.durable = b""
        self.pending: list[Write] = []
        self.locks: dict[object, bool] = {}
        """Open file description → whether its `flock` is exclusive."""
        self.mapped = False
        self.sync_failed = False
        """The kernel calls lost pages clean: a later sync says yes, and keeps nothing (PostgreSQL's "fsyncgate")."""

    def same(self, data: bytes, durable: bytes, pending: list[Write]) -> Inode:
        """This file with other bytes, nobody having it open."""
        made = Inode(self.number, self.mtime_ns, self.mode)
        made.gid, made.data, made.durable, made.pending = self.gid, data, durable, pending
        made.sync_failed = self.sync_failed and bool(pending)
        return made


class Directory:
    """Names; `durable` are those that certainly survive."""

    __slots__ = ("durable", "entries", "gid", "mode", "mtime_ns", "nlink", "number")

    def __init__(self, number: int, mtime_ns: int) -> None:
        self.number = number
        self.mtime_ns = mtime_ns
        self.mode = 0o755
        self.gid = 0
        self.nlink = 2
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}


Node = Inode | Directory


class NameChange:
    """One change of names: in each of these directories a name now means a node, or nothing."""

    __slots__ = ("changes", "sequence", "unsynced")

    def __init__(self, sequence: int, changes: tuple[tuple[Directory, str, Node | None], ...]) -> None:
        self.sequence = sequence
        self.changes = changes
        self.unsynced = {directory.number for directory, _, _ in changes}
        """Numbers of the directories that were not synced since; empty: it is certain."""


def _os_error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class SimDisk:
    """A disk with one directory tree; directories given to the constructor are there durably from the start."""

    def __init__(self, *directories: str) -> None:
        self.clock_ns = EPOCH_NS
        self.boots = 0
        self._sequence = 0
        self._numbers = 1
        self.root = Directory(1, EPOCH_NS)
        self.pending: list[NameChange] = []
        for path in directories:
            at = ""
            for part in path.strip("/").split("/"):
                at += "/" + part
                if self.find(at) is None:
                    self.make_directory(at)
        for directory in self.all_directories():
            self.sync(directory)

    # -- looking -------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Node | None:
        """The node at an absolute path, or None."""
        try:
            return self.node(path)
        except OSError:
            return None

    def node(self, path: str) -> Node:
        """The node at an absolute path; raises ENOENT and ENOTDIR as the kernel does."""
        node: Node | None = self.root
        for part in path.split("/"):
            if part:
                if not isinstance(node, Directory):
                    raise _os_error(errno.ENOTDIR, path)
                node = node.entries.get(part)
                if node is None:
                    raise _os_error(errno.ENOENT, path)
        assert node is not None
        return node

    def place(self, path: str) -> tuple[Directory, str]:
        """The directory that has, or would have, this name."""
        head, _, name = path.rpartition("/")
        directory = self.node(head)
        if not isinstance(directory, Directory):
            raise _os_error(errno.ENOTDIR, path)
        return directory, name

    def all_directories(self) -> list[Directory]:
        found = [self.root]
        for directory in found:
            found += [node for node in directory.entries.values() if isinstance(node, Directory)]
        return found

    def all_inodes(self) -> list[Inode]:
        """Every file that has a name."""
        return [inode for _, inode in _walk(self.root, "")]

    def files(self) -> dict[str, bytes]:
        """Path → content, as running processes see it; for checks, calls nothing."""
        return {path: inode.data for path, inode in _walk(self.root, "")}

    def digest(self, unread: str | None = None) -> bytes:
        """Tells disks apart by what a process that starts now would find: paths, file identities, bytes.

        Of files with `unread` in their names only the names count: nobody ever reads them.
        """
        hasher = hashlib.blake2b(digest_size=16)
        for path, inode in _walk(self.root, ""):
            if unread is not None and unread in path:
                hasher.update(f"{path}\0".encode())
                continue
            hasher.update(f"{path}\0{inode.number}\0{len(inode.data)}\0".encode())
            hasher.update(inode.data)
        return hasher.digest()

    # -- changing: what the kernel does with a system call --------------------------------------------------------------

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def now_mtime(self) -> int:
        return self.clock_ns - self.clock_ns % MTIME_STEP_NS

    def new_inode(self, mode: int) -> Inode:
        self._numbers += 1
        return Inode(self._numbers, self.now_mtime(), mode)

    def make_directory(self, path: str) -> None:
        directory, name = self.place(path)
        self._numbers += 1
        self.rename_entries((directory, name, Directory(self._numbers, self.now_mtime())))

    def write(self, inode: Inode, offset: int, data: bytes | None) -> None:
        """Put bytes at an offset, or with `data=None` set the length."""
        assert not inode.mapped, "a file that somebody has mapped is changed: its readers may be killed"
        change = Write(self._next(), offset, data)
        inode.data = change.on(inode.data)
        inode.mtime_ns = self.now_mtime()
        inode.pending.append(change)

    def rename_entries(self, *changes: tuple[Directory, str, Node | None]) -> None:
        """Let names mean other nodes (None: nothing), in one change."""
        for directory, name, node in changes:
            old = directory.entries.pop(name, None)
            if isinstance(old, Inode):
                old.nlink -= 1
            if node is not None:
                directory.entries[name] = node
                if isinstance(node, Inode):
                    node.nlink += 1
            directory.mtime_ns = self.now_mtime()
        self.pending.append(NameChange(self._next(), changes))

    def sync(self, node: Node) -> None:
        """Make a file's bytes, or a directory's names, certain."""
        if isinstance(node, Inode):
            if not node.sync_failed:
                node.durable = node.data
                node.pending.clear()
            return
        for change in self.pending:
            change.unsynced.discard(node.number)
        # Kept in order: a certain change behind an uncertain one waits here, and is applied to every crash state.
        while self.pending and not self.pending[0].unsynced:
            _apply(self.pending.pop(0).changes)

    # -- copies --------------------------------------------------------------------------------------------------

    def copy(self) -> SimDisk:
        """The same disk with nobody having anything open: what a kill of every process leaves, un-synced data included.

        What was un-synced stays so; a later power cut may still take it.
        """
        memo: dict[int, Node] = {}

        def twin(node: Node) -> Node:
            made = memo.get(id(node))
            if made is None:
                if isinstance(node, Inode):
                    made = node.same(node.data, node.durable, node.pending.copy())
                    made.nlink = node.nlink
                    memo[id(node)] = made
                else:
                    memo[id(node)] = made = Directory(node.number, node.mtime_ns)
                    made.entries = {name: twin(child) for name, child in node.entries.items()}
                    made.durable = {name: twin(child) for name, child in node.durable.items()}
            return made

        disk = self.bare()
        root = twin(self.root)
        assert isinstance(root, Directory)
        disk.root = root
        for change in self.pending:
            changes = tuple((twin(d), name, node and twin(node)) for d, name, node in change.changes)
            made = NameChange(change.sequence, changes)  # type: ignore[arg-type]  # a directory's twin is one
            made.unsynced = change.unsynced.copy()
            disk.pending.append(made)
        return disk

    def settle(self) -> None:
        """Make everything certain that is on it."""
        for inode in self.all_inodes():
            self.sync(inode)
        for directory in self.all_directories():
            self.sync(directory)

    def bare(self) -> SimDisk:
        """An empty disk that counts on where this one stands."""
        disk = SimDisk()
        disk.clock_ns, disk.boots = self.clock_ns, self.boots
        disk._sequence, disk._numbers = self._sequence, self._numbers
        return disk

    def export(self, target: Path) -> None:
        """Write every file to a real folder, for checks that read real files."""
        for path, content in self.files().items():
            place = target / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def _apply(changes: tuple[tuple[Directory, str, Node | None], ...]) -> None:
    for directory, name, node in changes:
        if node is None:
            directory.durable.pop(name, None)
        else:
            directory.durable[name] = node


def _walk(directory: Directory, path: str) -> list[tuple[str, Inode]]:
    found: list[tuple[str, Inode]] = []
    for name, node in sorted(directory.entries.items()):
        if isinstance(node, Inode):
            found.append((f"{path}/{name}", node))
        else:
            found += _walk(node, f"{path}/{name}")
    return found
