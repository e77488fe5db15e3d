"""Lists the files in object stores, once per directory: one request per thousand files instead of one per file.

Invariants:

- A listing is made after the plan, so an object that the plan's records name existed before it.
- Memory holds two numbers per object.
- If a directory cannot be listed, only its own files are unreadable.
"""

from __future__ import annotations

import errno
import posixpath
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from multiprocessing.context import BaseContext

from manifestlog.audit.plan import Expected, FileStat
from manifestlog.names import is_url
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.opening import Stores
from manifestlog.objects.protocol import Listed

_MISSING = FileStat(error=errno.ENOENT)


class Listing:
    """The sizes of the objects in some directories of object stores, without their subdirectories."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._stores = Stores()
        self._sizes: dict[str, _Sizes] = {}
        self._failed: dict[str, FileStat] = {}
        for one in sorted(directories):
            try:
                self._sizes[one] = _Sizes(_inside(one, self._stores.of(one).list(one)))
            except ObjectStoreError as error:
                self._failed[one] = FileStat(error=errno.EIO, why=error.detail)

    @property
    def context(self) -> BaseContext | None:
        """How to start processes that read these files; None for Python's default."""
        return self._stores.context

    def completed(self, expected: Expected) -> Expected:
        """Return the file with what the listing says of it; a local file unchanged."""
        if not is_url(expected.path):
            return expected
        directory = posixpath.dirname(expected.path)
        if (failed := self._failed.get(directory)) is not None:
            return expected._replace(listed=failed)
        size = self._sizes[directory].of(expected.path)
        return expected._replace(listed=_MISSING if size is None else FileStat(size=size))


def _inside(directory: str, found: Iterable[Listed]) -> Iterator[Listed]:
    return (one for one in found if posixpath.dirname(one.url) == directory)


class _Sizes:
    """Sizes by the hashes of URLs."""

    def __init__(self, found: Iterable[Listed]) -> None:
        hashes, sizes = array("q"), array("q")
        for one in found:
            hashes.append(hash(one.url))
            sizes.append(one.size)
        order = sorted(range(len(hashes)), key=hashes.__getitem__)
        self._hashes = array("q", (hashes[number] for number in order))
        self._sizes = array("q", (sizes[number] for number in order))

    def of(self, url: str) -> int | None:
        wanted = hash(url)
        at = bisect_left(self._hashes, wanted)
        return self._sizes[at] if at < len(self._hashes) and self._hashes[at] == wanted else None
