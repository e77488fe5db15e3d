"""Zstandard, loaded when a pack is first written or read: opening a manifest does not need it.

Level 1 makes these lines smaller and five times faster than gzip, and than the levels 2 to 9 (benchmarks/README.md).
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from typing import Any

_LEVEL = 1


@functools.cache
def _zstd() -> Any:
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def compress(data: bytes) -> bytes:
    """Return one Zstandard frame with this data."""
    found: bytes = _zstd().compress(data, _LEVEL)
    return found


def decompress(data: bytes | memoryview) -> bytes:
    """Return the data of a frame; raises `ValueError` if it cannot be read."""
    try:
        found: bytes = _zstd().decompress(data)
    except _zstd().ZstdError as error:
        raise ValueError(str(error)) from None
    return found
