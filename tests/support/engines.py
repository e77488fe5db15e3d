"""The file engine behind a manager, for tests of what only it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.engines.filelog.engine import FileEngine

if TYPE_CHECKING:
    from manifestlog import AbstractManifest


def engine_of(manager: AbstractManifest) -> FileEngine:
    """The engine of an open manager; a manifest in plain files is kept by no other."""
    engine = manager._engine
    assert isinstance(engine, FileEngine)
    return engine
