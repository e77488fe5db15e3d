"""A pipeline in a checked directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.integrity import checked

from .home import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty pipeline, whose manifests are checked when the test is over."""
    with checked(tmp_path / "manifests"):
        yield Home(tmp_path)
