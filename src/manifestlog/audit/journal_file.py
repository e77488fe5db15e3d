"""Finds the verification journal of a manifest: beside a manifest in files, or in the user's cache directory for one in
a database.

Invariants:

- If the caller names a journal, it is used for any manifest. Its directory must exist.
- Each manifest has its own journal. A manifest in memory ends with its process and has none.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifestlog.manager import AbstractManifest

_DIGITS = 12


class JournalFile(NamedTuple):
    """The file of a journal."""

    path: str
    mode_from: str | None = None
    """The file whose mode and group a new journal takes over."""
    is_in_cache: bool = False
    """Whether its directory is made if it is missing."""

    @property
    def next(self) -> str:
        """The new version, written by the process that holds the lock of the journal."""
        return names.next_version(self.path)

    @property
    def directory(self) -> str:
        return os.path.dirname(self.path)


def beside(paths: names.ManifestPaths) -> JournalFile:
    """Return the journal of a manifest in files."""
    return JournalFile(paths.verified, paths.canonical)


def journal_of(manifest: AbstractManifest, named: str | None, environment: Mapping[str, str]) -> JournalFile | None:
    """Return the journal of a manifest: the one that the caller has named, or its usual one."""
    if named is not None:
        return JournalFile(os.path.abspath(named))
    if manifest.is_in_files:
        return beside(names.resolve(manifest.location.display))
    return in_cache(manifest.location.display, environment) if manifest.is_shared else None


def in_cache(location: str, environment: Mapping[str, str]) -> JournalFile:
    """Return the journal of the manifest at a URL."""
    cache = environment.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # as the specification says
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    digest = hashlib.sha256(location.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    file_name = f"{names.name_of(location)}-{digest}.verified.jsonl"
    return JournalFile(os.path.join(cache, "manifestlog", file_name), is_in_cache=True)
