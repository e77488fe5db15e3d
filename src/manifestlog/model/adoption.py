"""Decides what a caller's metadata change in an existing manifest: a pure function of both.

Invariants:

- A manifest never changes its process. Opening it with another one is an error.
- A newer `etl_version` replaces the stored one, an older one does not.
- Another `root_dir` replaces the stored one only if no record has a relative path, which it would redirect.

It neither reads nor writes manifests; `Stored` has all that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.errors import MetadataConflictError
from manifestlog.model import roots

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.model.rows import Row


class Stored(NamedTuple):
    """The existing manifest."""

    display: str
    directory: str
    metadata: Row
    has_relative_path: Callable[[], bool]
    """Returns whether a record has a relative path. Called only if needed, because it reads all records."""


class Adoption(NamedTuple):
    """The metadata to change, and the rejected root, or None."""

    changes: dict[str, str]
    refused_root: str | None


def adopt(stored: Stored, given: Row) -> Adoption:
    """Return what the caller's metadata change. Raises `MetadataConflictError`."""
    if given["process"] != stored.metadata["process"]:
        raise MetadataConflictError(stored.display, "process", stored.metadata["process"], given["process"])
    changes: dict[str, str] = {}
    if is_newer(given["etl_version"], stored.metadata["etl_version"]):
        changes["etl_version"] = given["etl_version"]
    if is_same_root(stored, given["root_dir"]):
        return Adoption(changes, None)
    if stored.has_relative_path():
        return Adoption(changes, given["root_dir"])
    return Adoption(changes | {"root_dir": given["root_dir"]}, None)


def is_same_root(stored: Stored, root_dir: str) -> bool:
    """Return whether this `root_dir` is the same directory as the stored one."""
    before = roots.root_of(str(stored.metadata["root_dir"]), stored.directory)
    return roots.root_of(root_dir, stored.directory) == before


def is_newer(version: str, stored: str) -> bool:
    """Return whether `version` replaces `stored`. Dotted numbers compare as numbers; any other difference counts as newer."""
    numbers = [_numbers(version), _numbers(stored)]
    if None in numbers:
        return version != stored
    given, known = (n or () for n in numbers)
    width = max(len(given), len(known))
    return given + (0,) * (width - len(given)) > known + (0,) * (width - len(known))


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    if not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)
