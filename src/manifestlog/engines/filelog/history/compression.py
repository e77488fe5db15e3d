"""Zstandard, loaded when a pack is first written or read, because opening a manifest does not need it.

Level 1 makes these lines smaller than gzip at level 6, ten times faster, and smaller than level 3. Small hash tables
and a minimum match of seven bytes save 2 more bytes a line, because shorter matches among the digits of checksums are
random (`python -m benchmarks.compression`).
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from typing import Any


@functools.cache
def _zstd() -> Any:
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


@functools.cache
def _options() -> dict[Any, int]:
    parameter = _zstd().CompressionParameter
    return {parameter.compression_level: 1, parameter.hash_log: 12, parameter.min_match: 7}


def compress(data: bytes) -> bytes:
    """Return one Zstandard frame with this data."""
    found: bytes = _zstd().compress(data, options=_options())
    return found


def decompress(data: bytes | memoryview, bytes_max: int) -> bytes:
    """Return the data of one frame; raises `ValueError` if it cannot be read, is longer than `bytes_max`, or is cut."""
    reader = _zstd().ZstdDecompressor()
    try:
        found: bytes = reader.decompress(data, bytes_max + 1)
    except _zstd().ZstdError as error:
        raise ValueError(str(error)) from None
    if len(found) > bytes_max or not reader.eof:
        raise ValueError("it has another length than it should")
    return found


def frame_size(data: bytes | memoryview) -> int:
    """Return the size of the frame at the beginning of this data; raises `ValueError` if there is no whole frame."""
    try:
        found: int = _zstd().get_frame_size(data)
    except _zstd().ZstdError as error:
        raise ValueError(str(error)) from None
    return found
