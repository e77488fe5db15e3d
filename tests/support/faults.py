"""Faults on demand: die before the n-th call to the disk, or let a call fail."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGING = (
    "create", "append", "truncate", "sync_data", "sync_directory", "replace", "publish_new", "remove", "make_directory",
)  # fmt: skip
"""The functions of `disk` that change what is on it, or what of it is kept."""


def die(*_args: object, **_kwargs: object) -> None:
    """End this process as a power switch would: no `finally`, no `atexit`."""
    signal.raise_signal(signal.SIGKILL)


def before(owner: Any, name: str, action: Callable[..., object]) -> None:
    """From now on `action` sees the arguments of every call of `owner.name` first. For children only: never undone."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        action(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(owner, name, wrapped)


def die_before_call(number: int) -> None:
    """Die before the `number`-th call, counted from now, that changes the disk."""
    left = [number]

    def count(*_args: object, **_kwargs: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    for name in CHANGING:
        before(disk, name, count)
