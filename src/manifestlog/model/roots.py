"""Resolves the paths of a manifest, and converts paths to their stored form.

Invariants:

- A path does not depend on the working directory: a relative `file_path` is relative to the manifest's root, and a relative
  `root_dir` is relative to the manifest's directory.
- An absolute path does not depend on the root. A URL is an absolute path, and is never normalised.

Pure functions of text; they do not access the disk.
"""

from __future__ import annotations

import os
from functools import lru_cache

from manifestlog.names import is_url


@lru_cache(maxsize=256)
def root_of(root_dir: str, folder: str) -> str:
    """Return the absolute directory that paths are relative to, for a manifest in `folder`."""
    return os.path.normpath(os.path.join(folder, root_dir))


def below(root: str, path: str) -> str:
    """Return the absolute path of a recorded path."""
    # `join` gives the same result for an absolute path, and takes longer than everything else here.
    if path.startswith("/") and os.sep == "/":
        return path
    return path if is_url(path) else os.path.join(root, path)


def is_absolute(path: str) -> bool:
    """Return whether a recorded path depends on no root."""
    return os.path.isabs(path) or is_url(path)


def normal(path: str) -> str:
    """Return an absolute path without `..` and repeated slashes."""
    return path if is_url(path) else os.path.normpath(path)


def is_same(root: str, one: str, other: str) -> bool:
    """Return whether two recorded paths resolve to the same path."""
    return one == other or normal(below(root, one)) == normal(below(root, other))


def inside(folder: str, path: str) -> str | None:
    """Return the part of an absolute path below `folder`, "" for `folder` itself, and None for any other path."""
    if path == folder:
        return ""
    start = folder.rstrip(os.sep) + os.sep
    return path[len(start) :] if path.startswith(start) else None


def stated(root: str, path: str) -> str:
    """Return the stored form of an absolute path: relative if it lies below the root, else unchanged.

    Below `/` lies everything, and nothing moves with it: such a path stays absolute.
    """
    return path if root == os.sep else inside(root, path) or path


def rooted(top: str, folder: str) -> str:
    """Return `top` as the root_dir of a manifest in `folder`: relative, so both can move, unless they share only `/`."""
    return os.path.relpath(top, folder) if os.path.commonpath([top, folder]) != os.sep else top


def shared(folder: str, *names_of_data: str) -> str:
    """Return the root_dir of a manifest in `folder` for data elsewhere: the directory that contains both.

    The data directory may have several names, through links. The name with the longest common path wins.
    """
    tops = [os.path.commonpath([folder, name]) for name in names_of_data]
    top = max(tops, key=len)
    return os.path.relpath(top, folder) if top != os.sep else names_of_data[0]
