"""What an opener's metadata changes in a manifest that exists: a pure function of both.

Invariants:

- A manifest keeps its process for ever; an opener with another one is refused.
- A newer `etl_version` is taken over, an older one changes nothing that is stored.
- Another `root_dir` is taken over only where no record has a relative path, which would lead elsewhere.

It reads no manifest (`Stored` has what it needs) and writes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.errors import MetadataConflictError
from manifestlog.model import roots

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.model.rows import Row


class Stored(NamedTuple):
    """The manifest as it is."""

    display: str
    directory: str
    metadata: Row
    has_relative_path: Callable[[], bool]
    """Whether a record names a relative path; asked only where the answer matters, because it reads all records."""


class Adoption(NamedTuple):
    """What to change, and which root was not taken over (None: none was refused)."""

    changes: dict[str, str]
    refused_root: str | None


def adopt(stored: Stored, given: Row) -> Adoption:
    """What the opener's metadata changes; raises `MetadataConflictError`."""
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
    """Whether this `root_dir` means the stored one."""
    before = roots.root_of(str(stored.metadata["root_dir"]), stored.directory)
    return roots.root_of(root_dir, stored.directory) == before


def is_newer(version: str, stored: str) -> bool:
    """Whether `version` replaces `stored`: dotted numbers compare as numbers, anything else is newer when different."""
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
