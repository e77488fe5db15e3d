"""Hashes files, and makes their bytes durable."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from manifestlog.files import disk


class Content(NamedTuple):
    """What a file holds."""

    checksum: str
    size: int


def content_of(path: str, *, sync: bool = False) -> Content:
    """Return the SHA-256 and length of a regular file; with `sync`, its bytes then survive a power cut. Raises `OSError`."""
    fd = disk.open_regular(path)
    try:
        size = disk.size(fd)
        found = hashlib.sha256()
        for block in disk.blocks(fd, 0, size):
            found.update(block)
        if sync:
            disk.sync_data(fd)
        return Content(found.hexdigest(), size)
    finally:
        disk.close(fd)


def has_content(path: str, content: Content) -> bool:
    """Return whether the file at `path` has this content."""
    found = disk.path_stamp(path)
    return found is not None and found.size == content.size and content_of(path) == content
