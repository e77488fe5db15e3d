"""Finds files that no record names.

Invariants:

- Paths are compared by name and by directory with links resolved, so links to a directory do not matter.
- Manifests and the working files of `extract` (parts, claims) are never reported; in an object store, nothing in
  `.parts/`.
- Memory holds one number per path of the ledger.
"""

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from manifestlog.ingest.walk import Failure, Found, Naming, Skipped, SkipReason, find
from manifestlog.names import OBJECT_PARTS, REJECTED, ManifestPaths, is_url
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.opening import Stores


class Known:
    """The paths that the ledger names."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._hashes = array("q", sorted(map(_path_hash, paths)))

    def __contains__(self, path: str) -> bool:
        wanted = _path_hash(path)
        at = bisect_left(self._hashes, wanted)
        return at < len(self._hashes) and self._hashes[at] == wanted


def _path_hash(path: str) -> int:
    if is_url(path):
        return hash(path)
    folder, name = os.path.split(path)
    return hash((_real(folder), name))


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    try:
        return os.path.realpath(folder)
    except ValueError:  # a NUL in the path: the ledger may hold any text
        return folder


def unregistered(
    folders: Sequence[str], known: Known, own: ManifestPaths, asked_to_stop: Callable[[], int]
) -> Iterator[str | Failure]:
    """Yield every unknown file below these directories, and a `Failure` for each directory that cannot be read."""
    yield from _unknown_objects([one for one in folders if is_url(one)], known, asked_to_stop)
    for one in find([one for one in folders if not is_url(one)], Naming(None, None), own):
        if asked_to_stop():
            return
        if isinstance(one, Failure):
            yield one
        elif not _is_temporary(one) and one.path not in known:
            yield one.path


def _unknown_objects(urls: Sequence[str], known: Known, asked_to_stop: Callable[[], int]) -> Iterator[str | Failure]:
    stores = Stores()
    for url in urls:
        try:
            for one in stores.of(url).list(url):
                if asked_to_stop():
                    return
                if f"/{OBJECT_PARTS}/" not in one.url and one.url not in known:
                    yield one.url
        except ObjectStoreError as error:
            yield Failure(url, error.detail)


def _is_temporary(one: Found) -> bool:
    """Return whether this is a working file, or a pipe, socket or device.

    A rejected file is reported all the same: it stays until a user has inspected it.
    """
    is_rejected = one.path.lower().endswith(REJECTED)
    return isinstance(one, Skipped) and one.why is not SkipReason.EMPTY and not is_rejected
