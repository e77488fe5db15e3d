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


def inside(folder: str, path: str) -> str | None:
    """The rest of an absolute path that lies in `folder`, "" for the folder itself; None for a path elsewhere."""
    if path == folder:
        return ""
    start = folder.rstrip(os.sep) + os.sep
    return path[len(start) :] if path.startswith(start) else None


def stated(root: str, path: str) -> str:
    """An absolute path as it is written down: relative when it lies below the root, else as it is."""
    return inside(root, path) or path


def rooted(top: str, folder: str) -> str:
    """`top` as the root_dir of a manifest in `folder`: relative, so that both can move, unless they have only `/` in common."""
    return os.path.relpath(top, folder) if os.path.commonpath([top, folder]) != os.sep else top


def shared(folder: str, *names_of_data: str) -> str:
    """The root_dir of a manifest in `folder` for data elsewhere: the folder that both are in.

    The data's folder may have several names, through links; the one that has the most in common counts.
    """
    tops = [os.path.commonpath([folder, name]) for name in names_of_data]
    top = max(tops, key=len)
    return os.path.relpath(top, folder) if top != os.sep else names_of_data[0]
