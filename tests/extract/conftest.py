"""Fixtures of the extract step's tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from extract.builders import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration, objects as JSON, and give its path."""

    def write_it(content: Any) -> Path:
        path = tmp_path / "etl.config.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_it
