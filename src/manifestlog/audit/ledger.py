"""What an audit asks of a manifest: its root, and its rows at one moment.

Invariants:

- A manifest is only read.
- Rows are asked for one by one, and none is kept: a manifest of any size streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from manifestlog.audit.journal import VerificationJournal
from manifestlog.audit.plan import Level, VerifyPlan, files_of
from manifestlog.manager import AbstractManifest, DownloadManifestManager
from manifestlog.options import ManifestOptions


@contextmanager
def opened(
    manifest: AbstractManifest | str | os.PathLike[str], options: ManifestOptions | None
) -> Iterator[AbstractManifest]:
    """An open manifest as it is; one at a path opened to read, and closed again."""
    if isinstance(manifest, AbstractManifest):
        yield manifest
        return
    with DownloadManifestManager(manifest, options=options, read_only=True) as found:  # reads a manifest of any kind
        yield found


class LedgerFiles:
    """The files that a manifest names; relative paths begin at `root`, absolute ones below `former` are looked for there, too."""

    def __init__(self, manifest: AbstractManifest, root: str | None, former: str | None) -> None:
        self._manifest = manifest
        stored = str(manifest.root)
        self._root = os.path.abspath(root) if root else stored
        self._former = None
        if root:
            self._former = os.path.abspath(former) if former else stored

    def plan(self, level: Level, journal: VerificationJournal) -> VerifyPlan:
        """All files, in the order in which to look at them."""
        found = self._manifest.snapshot()
        plan = VerifyPlan(found.row, self._root, self._former)
        plan.fill(found.checksums(), lambda expected: journal.when(expected, level))
        journal.forget()
        return plan

    def paths(self) -> Iterator[str]:
        """Every path that a record names, as of now: with what was registered while files were looked at."""
        for row in self._manifest.snapshot().rows():
            yield from (expected.path for _, expected in files_of(row, self._root, self._former))
