"""Reads the root of a manifest and a snapshot of its rows, for an audit.

Invariants:

- The manifest is only read.
- Rows are read one by one and not kept, so a manifest of any size fits in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from manifestlog.audit.journal import VerificationJournal
from manifestlog.audit.plan import Level, VerifyPlan, expected_files
from manifestlog.manager import AbstractManifest
from manifestlog.managers import DownloadManifestManager
from manifestlog.options import ManifestOptions


@contextmanager
def opened(
    manifest: AbstractManifest | str | os.PathLike[str], options: ManifestOptions | None
) -> Iterator[AbstractManifest]:
    """Return an open manifest unchanged; open one at a path read-only, and close it at the end."""
    if isinstance(manifest, AbstractManifest):
        yield manifest
        return
    with DownloadManifestManager(manifest, options=options, read_only=True) as found:  # reads a manifest of any kind
        yield found


class LedgerFiles:
    """The files that a manifest names. Relative paths, and absolute ones below `former`, are resolved below `root`."""

    def __init__(self, manifest: AbstractManifest, root: str | None, former: str | None) -> None:
        self._manifest = manifest
        stored = str(manifest.root)
        self._root = os.path.abspath(root) if root else stored
        self._former = None
        if root:
            self._former = os.path.abspath(former) if former else stored

    def plan(self, level: Level, journal: VerificationJournal) -> VerifyPlan:
        """Return all files, in the order of verification."""
        found = self._manifest.snapshot()
        plan = VerifyPlan(found.row, self._root, self._former)
        plan.fill(found.rows(), lambda expected: journal.when(expected, level))
        journal.forget()
        return plan

    def paths(self) -> Iterator[str]:
        """Yield every path that a record names now, including records added during the run."""
        for row in self._manifest.snapshot().rows():
            yield from (expected.path for _, expected in expected_files(row, self._root, self._former))
