"""Fixtures of the tests on file systems of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import mounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Start

SMALL_BYTES = 2 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a file system is mounted."""
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


@pytest.fixture
def on_tmpfs(root: Path, start: Start) -> Callable[..., Any]:
    """Run `body(mounted, *args)` in a child that has a small file system in memory; gives what it returns."""
    mounts.need(mounts.on_tmpfs, SMALL_BYTES)

    def run(body: Callable[..., object], *args: object) -> Any:
        return start(mounts.on_tmpfs, root, body, SMALL_BYTES, *args).result(300)

    return run


@pytest.fixture
def on_ext4(root: Path, start: Start) -> Callable[..., Any]:
    """Run `body(mounted, device, *args)` in a child that has an ext4 which becomes read-only when it finds an error."""
    mounts.need(mounts.on_ext4)

    def run(body: Callable[..., object], *args: object) -> Any:
        return start(mounts.on_ext4, root, body, *args).result(300)

    return run
