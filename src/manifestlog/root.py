"""Resolves the relative paths of a manifest, and converts paths to the form that its records store.

Invariants:

- A path does not depend on the working directory: it is relative to the manifest's `root_dir`, and a relative `root_dir`
  is relative to the manifest's own directory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manifestlog.model import roots
from manifestlog.model.rows import observations

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Engine


def root_of(engine: Engine) -> str:
    """Return the absolute directory that relative paths are relative to."""
    return roots.root_of(str(engine.metadata()["root_dir"]), engine.location.directory)


def stated(engine: Engine, path: str) -> str:
    """Return an absolute path as a record stores it: relative if it lies below the root, else unchanged."""
    root = root_of(engine)
    folder, name = os.path.split(path)
    found = roots.stated(root, path)
    if os.path.isabs(path) and (found == path or os.pardir in path.split(os.sep)):
        found = roots.stated(root, os.path.join(os.path.realpath(folder), name))  # the root has its links resolved
    return path if os.path.isabs(found) else found


def has_relative_path(engine: Engine) -> bool:
    """Return whether a record has a relative path, which a change of the root would redirect. Reads all records."""
    rows = engine.snapshot().rows()
    return any(not roots.is_absolute(seen["file_path"]) for row in rows for seen in observations(row))
