"""Opens the store of a URL. The libraries of stores are extras, imported here when they are needed."""

from __future__ import annotations

import importlib
import multiprocessing
from typing import TYPE_CHECKING, cast

from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.locations import OTHERS, S3, SCHEMES, split

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from manifestlog.objects.protocol import ObjectStore


def open_store(url: str, *, connections: int = 10) -> ObjectStore:
    """Return the store that this URL lies in, for up to so many requests at once. It sends none yet.

    Raises `ObjectStoreError` for an unknown scheme, or without the library that the scheme needs.
    """
    scheme, bucket, _ = split(url)
    if scheme in S3:
        kind, extra = "manifestlog.objects.s3:S3Store", "s3"
    elif scheme in OTHERS:
        kind, extra = "manifestlog.objects.other_stores:OtherStore", OTHERS[scheme]
    else:
        raise ObjectStoreError(f"no object store has this scheme; expected {SCHEMES}", url)
    module, _, name = kind.partition(":")
    try:
        opened = cast("Callable[[str, int], ObjectStore]", getattr(importlib.import_module(module), name))
    except ImportError as error:
        needs = f"{scheme}:// needs {error.name}; install it: pip install 'manifestlog[{extra}]'"
        raise ObjectStoreError(needs, url) from None
    return opened(f"{url.partition('://')[0]}://{bucket}", connections)


def context_of(*stores: ObjectStore) -> BaseContext | None:
    """Return how a process that has used these stores starts others that use them; None if they may fork."""
    return None if all(store.forks for store in stores) else multiprocessing.get_context("spawn")


class Stores:
    """The stores of many URLs, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], ObjectStore] = {}

    @property
    def context(self) -> BaseContext | None:
        """How to start processes that use these stores; None if they may fork."""
        return context_of(*self._opened.values())

    def of(self, url: str) -> ObjectStore:
        """Return the store of a URL; raises `ObjectStoreError`."""
        place = split(url)[:2]
        if place not in self._opened:
            self._opened[place] = open_store(url)
        return self._opened[place]
