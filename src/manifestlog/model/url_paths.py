"""Paths that are URLs, such as `s3://bucket/raw/systems.json.gz`: data files in an object store.

A plain `Path` would turn the text into `s3:/bucket/…`, which names nothing.

Invariants:

- The text of a `UrlPath` is the URL, and its parts have the names of a path's parts: `name`, `suffix`, `parent`, `/`.
- A URL is absolute: joined to a directory, it stays unchanged.
- The path in a URL is taken literally, as object stores take their keys: `%`, `#` and spaces stand for themselves.

Nothing here accesses a store. The methods of `Path` that access the disk find no such file.
"""

from __future__ import annotations

import os
from pathlib import Path, PosixPath

from manifestlog.names import is_url


class UrlPath(PosixPath):
    """A path of which `str` is a URL. The only subclass of `Path`: what reads `file_path` gets a `Path` either way."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        return str(self)

    def is_absolute(self) -> bool:
        """Return True: no URL depends on a directory."""
        return True

    def __rtruediv__(self, _: object) -> UrlPath:
        return self


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return a recorded path as a `Path`: a `UrlPath` for a URL."""
    if isinstance(path, UrlPath):
        return path
    text = os.fspath(path)
    return UrlPath(text) if is_url(text) else Path(text)
