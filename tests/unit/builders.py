"""Rows for the unit tests."""

from __future__ import annotations

import hashlib
from typing import Any

from manifestlog.model.rows import Row


def sha(text: str) -> str:
    """The checksum of a content."""
    return hashlib.sha256(text.encode()).hexdigest()


def row(content: str = "a", minute: int = 0, source: str = "src", dataset: str = "set", **more: Any) -> Row:
    """A normal row."""
    return {
        "source_id": source,
        "dataset": dataset,
        "checksum": sha(content),
        "file_path": f"/raw/{content}",
        "file_size": 2,
        "etag": None,
        "ts_downloaded": f"2023-01-01T12:{minute:02d}:00Z",
        "version": "1",
    } | more
