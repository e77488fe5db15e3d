"""What a path in a manifest means: where it leads, and how a path is written down.

Invariants:

- A path means one thing wherever the caller stands: a relative `file_path` begins at the manifest's root, and a relative
  `root_dir` begins at the manifest's own folder. Nothing here asks for the working folder.
- An absolute path is itself, whatever the root.

Texts in, texts out; no disk is touched.
"""

from __future__ import annotations

import os
from functools import lru_cache


@lru_cache(maxsize=256)
def root_of(root_dir: str, folder: str) -> str:
    """The absolute folder at which relative paths begin, for a manifest that lies in `folder`."""
    return os.path.normpath(os.path.join(folder, root_dir))


def below(root: str, path: str) -> str:
    """Where a recorded path leads."""
    # `join` says the same of a path that begins like this, and takes longer than the rest of it all.
    return path if path.startswith("/") and os.sep == "/" else os.path.join(root, path)


def is_same(root: str, one: str, other: str) -> bool:
    """Whether two recorded paths lead to one place, however each is written."""
    return one == other or os.path.normpath(below(root, one)) == os.path.normpath(below(root, other))
