"""Reads files of the local disk: their length, their ends, their checksum. It changes none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from manifestlog.extract.expectations import HEAD_BYTES, TAIL_BYTES
from manifestlog.extract.places.protocol import Ends


def size_of(path: Path) -> int | None:
    """Return the length of a file, or None if it is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def ends_of(path: Path) -> Ends:
    """Return the length of a file, and its first and last bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(fd).st_size
        return Ends(length, os.pread(fd, HEAD_BYTES, 0), os.pread(fd, TAIL_BYTES, max(0, length - TAIL_BYTES)))
    finally:
        os.close(fd)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
