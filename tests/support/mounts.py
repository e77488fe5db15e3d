"""File systems of a test's own, mounted where nobody else sees them: small ones, and such that become read-only.

Invariants:

- Mounting is done in a child process, in a mount namespace of its own: when it ends, however it does, nothing is left.
- What cannot be mounted here (no right to, no loop devices) is skipped, and the reason says so.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.children import children
from support.integrity import checked
from support.records import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link

_CLONE_NEWNS = 0x0002_0000
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Mounted:
    """A mounted file system, and the path of a test's manifest on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "manifests" / NAME
        self._filler = root / "filler"

    # -- room, in whole pages: the kernel gives a file in memory no less ----------------------------------------------

    def fill(self, spare_pages: int = 0) -> None:
        """Leave room for so many pages and not a byte more, apart from what is left in the last page of each file."""
        gc.collect()  # a deleted file that somebody still has open would give its pages back later
        with self._filler.open("ab", buffering=0) as file:
            file.write(bytes(os.statvfs(self.root).f_bfree * PAGE_BYTES))
            assert os.statvfs(self.root).f_bfree == 0
            file.truncate(max(0, self._filler.stat().st_size - spare_pages * PAGE_BYTES))

    def empty(self) -> None:
        """Give back all room."""
        self._filler.unlink(missing_ok=True)

    # -- read-only -----------------------------------------------------------------------------------------------------

    def remount(self, options: str) -> None:
        run("mount", "-o", f"remount,{options}", os.fspath(self.root))

    def mount_again(self, device: str, options: str) -> None:
        run("umount", os.fspath(self.root))
        run("mount", "-o", options, device, os.fspath(self.root))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def _be_alone() -> None:
    gc.collect()
    gc.freeze()  # `fill` collects often, and what was inherited need not be looked through again
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")
    run("mount", "--make-rprivate", "/")


def on_tmpfs(_link: Link, root: Path, body: Callable[..., object], size_bytes: int, *args: object) -> object:
    """For a child: run `body(mounted, *args)` on a file system in memory of this size, and check the manifests there."""
    _be_alone()
    run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},huge=never", "tmpfs", os.fspath(root))
    mounted = Mounted(root)
    with checked(mounted.path.parent):
        return body(mounted, *args)


def on_ext4(link: Link, root: Path, body: Callable[..., object], *args: object) -> object:
    """For a child: run `body(mounted, device, *args)` on an ext4 that becomes read-only at an error, as servers have it."""
    del link
    _be_alone()
    image = root.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    run("mkfs.ext4", "-q", os.fspath(image))
    device = run("losetup", "--find", "--show", os.fspath(image)).strip()
    try:
        run("mount", "-o", "errors=remount-ro", device, os.fspath(root))
        mounted = Mounted(root)
        with checked(mounted.path.parent):
            result = body(mounted, device, *args)
        run("umount", os.fspath(root))
        return result
    finally:
        run("losetup", "--detach", device)


def nothing(*_: object) -> None:
    """For a child: only mount."""


@functools.cache
def why_not(kind: Callable[..., object], *args: Any) -> str | None:
    """Why a child cannot mount this kind of file system here; None when it can."""
    with tempfile.TemporaryDirectory() as where, children() as start:
        root = Path(where) / "mnt"
        root.mkdir()
        child = start(kind, root, nothing, *args)
        child.join()
        said = child.said()
        text = getattr(said[-1], "text", None) if said else "no answer"
        return text.strip().splitlines()[-1] if text else None


def need(kind: Callable[..., object], *args: Any) -> None:
    """Skip the test when this cannot be mounted here."""
    reason = why_not(kind, *args)
    if reason:
        pytest.skip(f"a file system of the test's own cannot be mounted here: {reason}")
