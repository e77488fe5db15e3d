"""Functions for worker processes, which import them by name. What they do is written down by appending to a file."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog.stages import Item

DIARY = "MANIFESTLOG_TEST_DIARY"


def note(text: str) -> None:
    """Append a line to the diary, which survives any kill."""
    fd = os.open(os.environ[DIARY], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def upper(item: Item) -> bytes:
    note(f"{item.source_id}")
    return item.path.read_bytes().upper()


def exclusive(item: Item, output: Path) -> None:
    """Fail if another process works on the same input at this moment."""
    lock = f"{os.environ[DIARY]}.{item.source_id}"
    fd = os.open(lock, os.O_CREAT | os.O_RDWR)
    try:
        os.lockf(fd, os.F_TLOCK, 0)
    except OSError:
        note(f"both work on {item.source_id}")
        raise
    time.sleep(0.002)
    output.write_bytes(os.urandom(4) + item.path.read_bytes())
    note(item.source_id)
    os.close(fd)


def unsteady(item: Item, output: Path) -> None:
    """Fail at every fourth attempt or so, and write that down first."""
    if os.urandom(1)[0] < 64:
        note(f"{item.source_id} fails")
        raise OSError("not now")
    exclusive(item, output)


def noop(item: Item) -> None:
    """Do nothing."""


def who(item: Item) -> bytes:
    note(str(os.getpid()))
    time.sleep(0.01)
    return item.source_id.encode()


def die_of_b(item: Item) -> bytes:
    """End the worker at one input, whatever handlers there are."""
    note(item.source_id)
    if item.source_id == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return item.source_id.encode()


def flaky(item: Item) -> bytes:
    """Fail at the first two attempts."""
    note(f"{item.source_id} {item.attempt}")
    if item.attempt < 3:
        raise OSError("not yet")
    return item.source_id.encode()


def hang(item: Item) -> None:
    note(item.source_id)
    while True:
        with suppress(Exception):
            time.sleep(60)


async def gather(item: Item) -> bytes:
    """Be in work together with others."""
    note(f"in {item.source_id}")
    await asyncio.sleep(0.2)
    note(f"out {item.source_id}")
    return item.source_id.encode()


async def hang_async(item: Item) -> None:
    note(item.source_id)
    await asyncio.sleep(600)


async def boom_async(item: Item) -> Any:
    raise ValueError("no header")


def slow(item: Item) -> bytes:
    note(item.source_id)
    time.sleep(0.3)
    return item.source_id.encode()
