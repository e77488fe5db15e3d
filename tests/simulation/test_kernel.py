"""An honesty check: random sequences of calls get the same answers and error numbers from the simulated and the real kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
from typing import TYPE_CHECKING, Any

import pytest

from .disk import SimDisk
from .machine import simulated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ["a", "b", "c", "d", "d/x", "a/x", "missing/x"]
FLAGS = [
    os.O_RDONLY,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDWR | os.O_APPEND,
    os.O_WRONLY | os.O_APPEND,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
]
LOCKS = [fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN]


class Side:
    """One of the two kernels, with its folder and its descriptors by number of opening."""

    def __init__(self, system: Any, locks: Any, folder: str) -> None:
        self.system = system
        self.locks = locks
        self.folder = folder
        self.fds: list[int] = []

    def do(self, call: str, *args: Any) -> object:
        """Answer or error number, in words that do not depend on the side."""
        try:
            return getattr(self, "_" + call)(*args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def _open(self, name: str, flags: int) -> None:
        self.fds.append(self.system.open(f"{self.folder}/{name}", flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666))

    def _dup(self, at: int) -> None:
        self.fds.append(self.locks.fcntl(self.fds[at], fcntl.F_DUPFD_CLOEXEC, 3))

    def _close(self, at: int) -> None:
        self.system.close(self.fds.pop(at))

    def _on(self, call: str, at: int, *args: Any) -> object:
        found = getattr(self.system, call)(self.fds[at], *args)
        return _plain(found) if call == "fstat" else found

    def _flock(self, at: int, operation: int) -> None:
        self.locks.flock(self.fds[at], operation)

    def _names(self, call: str, *names: str) -> object:
        more = {"follow_symlinks": False} if call == "link" else {}
        found = getattr(self.system, call)(*(f"{self.folder}/{name}" for name in names), **more)
        if call == "stat":
            return _plain(found)
        return sorted(found) if call == "listdir" else found


def _plain(found: Any) -> object:
    kind = stat.S_IFMT(found.st_mode)
    return (kind, found.st_size, found.st_nlink) if kind == stat.S_IFREG else kind


def _calls(rng: random.Random, count: int) -> Iterator[tuple[Any, ...]]:
    one_name, two_names = ["unlink", "stat", "listdir", "mkdir"], ["rename", "replace", "link"]
    for _ in range(count):
        at = rng.randrange(1 << 16)
        yield rng.choice(
            [
                ("open", rng.choice(NAMES), rng.choice(FLAGS)),
                ("open", rng.choice(NAMES), rng.choice(FLAGS)),
                ("close", at),
                ("dup", at),
                ("on", "write", at, rng.randbytes(rng.randrange(6))),
                ("on", "write", at, rng.randbytes(rng.randrange(6))),
                ("on", "pread", at, rng.randrange(20), rng.randrange(-1, 20)),
                ("on", "lseek", at, rng.randrange(-2, 9), rng.randrange(3)),
                ("on", "ftruncate", at, rng.randrange(-1, 12)),
                ("on", "fstat", at),
                ("flock", at, rng.choice(LOCKS)),
                ("flock", at, rng.choice(LOCKS)),
                ("names", rng.choice(one_name), rng.choice(NAMES)),
                ("names", rng.choice(two_names), rng.choice(NAMES), rng.choice(NAMES)),
            ]
        )


def _settle(call: tuple[Any, ...], fds: list[int], folder: Path) -> tuple[Any, ...] | None:
    """The call with a descriptor that there is; None for what the simulation does not claim to know."""
    if call[0] != "names" and call[0] != "open":
        place = 2 if call[0] == "on" else 1
        at = call[place] % len(fds) if fds else -1
        if at < 0 or ({"lseek", "flock"} & set(call[:2]) and stat.S_ISDIR(os.fstat(fds[at]).st_mode)):
            return None  # each file system has its own idea of an offset in a directory
        return (*call[:place], at, *call[place + 1 :])
    if call[1] in ("rename", "replace") and (folder / call[2]).is_dir():
        return None  # directories are not renamed
    return call


@pytest.mark.parametrize("seed", range(40))
def test_the_simulated_kernel_answers_as_the_real_one(tmp_path: Path, seed: int) -> None:
    with simulated(SimDisk("/d")) as machine:
        real, sim = Side(os, fcntl, str(tmp_path)), Side(machine, machine.fcntl_module, "/d")
        done = []
        try:
            for call in _calls(random.Random(seed), 250):
                settled = _settle(call, real.fds, tmp_path)
                if settled is None:
                    continue
                one, other = real.do(*settled), sim.do(*settled)
                done.append((settled, one, other))
                assert one == other, done[-12:]
        finally:
            for fd in real.fds:
                os.close(fd)
        found = {
            f"/d/{path.relative_to(tmp_path)}": path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
        }
        assert machine.disk.files() == found
