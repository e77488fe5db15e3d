"""The engine of an earlier time: a manifest as it was, read-only.

Invariants:

- It answers from one snapshot, so nothing changes it.
- Every write raises `ReadOnlyError`.

Each engine makes the snapshot; this module wraps it as an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from manifestlog.engines.protocol import Capability, Location, Snapshot
from manifestlog.engines.reports import LogStatus
from manifestlog.errors import ManifestClosedError, ManifestError, ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.model.rows import Row
    from manifestlog.options import ManifestOptions


class PastEngine:
    """One manifest as it was at an earlier time."""

    capabilities: frozenset[Capability] = frozenset()
    read_only = True

    def __init__(self, location: Location, options: ManifestOptions, snapshot: Snapshot, moment: str) -> None:
        self.location = location._replace(key=f"{location.key}@{moment}", display=f"{location.display}@{moment}")
        self.options = options
        self.closed = False
        self._snapshot = snapshot

    def snapshot(self) -> Snapshot:
        if self.closed:
            raise ManifestClosedError(self.location.display)
        return self._snapshot

    def has(self, checksum: str) -> bool:
        return self.snapshot().row(checksum) is not None

    def has_many(self, checksums: Sequence[str]) -> set[str]:
        return set(filter(self.has, checksums))

    def get(self, checksum: str) -> Row | None:
        return self.snapshot().row(checksum)

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        return self.snapshot().latest(source_id, dataset)

    def count(self) -> int:
        return len(self.snapshot())

    def metadata(self) -> Row:
        return self.snapshot().metadata

    def log_status(self) -> LogStatus:
        return LogStatus(0, 0, 0, 0, None, "", 0.0)

    def close(self) -> None:
        self.closed = True

    def before_fork(self) -> None:
        """Do nothing: nothing here changes."""

    after_fork_in_parent = after_fork_in_child = before_fork

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ReadOnlyError(self.location.display, past=True)

    claims = holders = add = add_batch = add_batches = update = forget = set_metadata = rewrite = _refuse
    record_event = record_events = replay = sync = compact = _refuse

    def _no_history(self, *_: object) -> NoReturn:
        raise ManifestError(f"{self.location.display}: this is one moment; ask the manifest itself for its history")

    events = events_after = start = cursor = present = image = reach = as_of = _no_history
    followers = set_follower = remove_follower = _no_history
