"""Where the relative paths of an open manifest begin, and how a path is stated in its records.

Invariants:

- A path means one thing wherever the caller stands: it begins at the manifest's `root_dir`, and a relative `root_dir` begins
  at the manifest's own directory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manifestlog.model import roots
from manifestlog.model.rows import observations

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Engine


def root_of(engine: Engine) -> str:
    """The absolute directory at which relative paths begin."""
    return roots.root_of(str(engine.metadata()["root_dir"]), engine.location.directory)


def stated(engine: Engine, path: str) -> str:
    """An absolute path as a record should state it: relative when it lies below the root, else as it is."""
    root = root_of(engine)
    folder, name = os.path.split(path)
    found = roots.stated(root, path)
    if os.path.isabs(path) and (found == path or os.pardir in path.split(os.sep)):
        found = roots.stated(root, os.path.join(os.path.realpath(folder), name))  # the root has its links resolved
    return path if os.path.isabs(found) else found


def has_relative_path(engine: Engine) -> bool:
    """Whether a record names a relative path, which leads elsewhere when the root changes. Reads all records."""
    rows = engine.snapshot().rows()
    return any(not os.path.isabs(seen["file_path"]) for row in rows for seen in observations(row))
