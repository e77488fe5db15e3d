"""Hashes regular files, makes their bytes durable, and says what is there in the place of one."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from manifestlog.files import disk, system


class Content(NamedTuple):
    """What a file holds."""

    checksum: str
    size: int


def content_of(path: str, *, sync: bool = False) -> Content:
    """Return the SHA-256 and length of a regular file; with `sync`, its bytes then survive a power cut. Raises `OSError`."""
    fd = disk.open_read(path)
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
    """Return whether there is a regular file at `path`, with this content."""
    return disk.regular_size(path) == content.size and content_of(path) == content


def why_no_file(path: str) -> str | None:
    """Return what is at `path` instead of a regular file, and what to do, as a clause; None if it is one, or nothing."""
    if (target := system.link_target(path)) is not None:
        return f"is a symbolic link to {target}; put the file itself in its place (`cp -L` copies what a link leads to)"
    if disk.is_directory(path):
        return "is a directory; make each file in it an output"
    if disk.regular_size(path) is None and system.has_name(path):
        return "is no regular file; write one in its place"
    return None
