"""Traces a content through several manifests: back to its downloads, and forward to everything made from it.

Invariants:

- It sees each manifest at one moment: that of the call.
- It finds a derivation by its output and by its inputs, whether a record shows it or only the history.
- It reads each history once for each step away from the start, for all contents of that step.

`model.lineage` explores; this module finds the start, and provides the facts from the manifests.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manifestlog.errors import UnknownContentError
from manifestlog.model import codec, roots
from manifestlog.model.lineage import Delivery, Derivation, Lineage, deliveries_in, derivations_in, explore
from manifestlog.model.rows import observations, required_checksum, sort_key
from manifestlog.names import is_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manifestlog.engines.protocol import Snapshot
    from manifestlog.history import Recorded
    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row

_SEARCHED_MAX = 16
"""Of more contents, every record is looked at: a search takes a part of that time for each."""


def trace(
    manifests: Iterable[Recorded],
    *,
    checksum: str | None = None,
    path: str | os.PathLike[str] | None = None,
    source_id: str | None = None,
    dataset: str | None = None,
    up: bool = True,
    down: bool = True,
) -> Lineage:
    """Return what a content was made from (`up`) and what was made from it (`down`), in all these manifests.

    Give a checksum, a path, or a source, which means its latest content. A relative path begins at the working directory
    or at a manifest's root; of several contents that had this path, the latest counts.
    Raises `UnknownContentError` if no manifest knows it, `ValueError`, `DamagedManifestError`.
    """
    ledger = _Ledger(manifests)
    if [checksum, path, source_id].count(None) != 2:
        raise ValueError("give exactly one of checksum, path and source_id")
    if checksum is not None:
        starts = ledger.of_checksum(checksum)
    elif path is not None:
        starts = ledger.of_path(os.fspath(path))
    else:
        starts = ledger.of_source(str(source_id), dataset)
    if not starts:
        raise UnknownContentError(f"{checksum or path or source_id}")
    return explore(starts, ledger, up=up, down=down)


class _Manifest:
    """What one manifest knows, at one moment."""

    def __init__(self, manifest: Recorded) -> None:
        self.name = manifest.location.name
        self.snapshot: Snapshot = manifest.snapshot()
        self.root = roots.root_of(str(self.snapshot.metadata["root_dir"]), manifest.location.directory)
        self._manifest = manifest
        self._events: dict[str, list[Event]] = {}
        self._users: dict[str, list[str]] = {}

    def row(self, checksum: str) -> Row | None:
        raw = self.snapshot.encoded(checksum)
        return None if raw is None else codec.loads(raw)

    def read(self, checksums: Iterable[str]) -> None:
        """Read the events of these contents, and those that name them as an input, in one pass over the history."""
        new: dict[str, list[Event]] = {checksum: [] for checksum in checksums if checksum not in self._events}
        for event in self._manifest.history(checksums=new) if new else ():
            for checksum in new.keys() & {event.checksum, *event.inputs}:
                new[checksum].append(event)
        self._events |= new

    def events(self, checksum: str) -> list[Event]:
        """Return the events of this content, and those that name it as an input."""
        self.read([checksum])
        return self._events[checksum]

    def knows(self, checksum: str) -> bool:
        return self.row(checksum) is not None or bool(self.events(checksum)) or any(True for _ in self.users(checksum))

    def read_users(self, checksums: Iterable[str]) -> None:
        """Find the outputs whose records name one of these contents as an input, in one pass over the records."""
        new: dict[str, list[str]] = {checksum: [] for checksum in checksums if checksum not in self._users}
        if not new:
            return
        few = len(new) <= _SEARCHED_MAX
        found = self.snapshot.containing(list(map(str.encode, new))) if few else self.snapshot.records()
        for output, raw in found:
            for one in codec.inputs_of(raw):
                if one in new:
                    new[one].append(output)
        self._users |= {checksum: sorted(outputs) for checksum, outputs in new.items()}

    def users(self, checksum: str) -> Iterator[Row]:
        """Yield the rows that this content was an input of."""
        self.read_users([checksum])
        for output in self._users[checksum]:
            row = self.row(output)
            if row is not None:
                yield row

    def with_path(self, path: str) -> Iterator[tuple[Row, Row]]:
        """Yield (observation, row) of what had this path."""
        name = codec.dumps(os.path.basename(path))[1:-1]
        wanted = {path}
        if not is_url(path):
            wanted = {os.path.abspath(path), os.path.realpath(path), os.path.normpath(os.path.join(self.root, path))}
        for _, raw in self.snapshot.containing([name]):
            row = codec.loads(raw)
            for seen in observations(row):
                if roots.normal(roots.below(self.root, seen["file_path"])) in wanted:
                    yield seen, row


class _Ledger:
    """What several manifests know."""

    def __init__(self, manifests: Iterable[Recorded]) -> None:
        self._manifests = [_Manifest(one) for one in manifests]

    def of_checksum(self, text: str) -> list[str]:
        checksum = required_checksum(text)
        return [checksum] if any(one.knows(checksum) for one in self._manifests) else []

    def of_path(self, path: str) -> list[str]:
        if "\0" in path or path != path.encode("utf-8", "ignore").decode():
            return []  # no file has such a name, or no manifest can hold it
        found = [(sort_key(seen), row["checksum"]) for one in self._manifests for seen, row in one.with_path(path)]
        return [max(found)[1]] if found else []

    def of_source(self, source_id: str, dataset: str | None) -> list[str]:
        rows = (one.snapshot.latest(source_id, dataset) for one in self._manifests)
        return [row["checksum"] for row in rows if row is not None]

    def _read(self, checksums: Sequence[str]) -> None:
        for one in self._manifests:
            one.read(checksums)

    def deliveries(self, checksums: Sequence[str]) -> list[list[Delivery]]:
        self._read(checksums)
        return [self._deliveries(checksum) for checksum in checksums]

    def _deliveries(self, checksum: str) -> list[Delivery]:
        found: list[Delivery] = []
        for one in self._manifests:
            own = (event for event in one.events(checksum) if event.checksum == checksum)
            told = deliveries_in(one.name, one.row(checksum), own)
            found += [delivery._replace(file_path=roots.below(one.root, delivery.file_path)) for delivery in told]
        return found

    def made_by(self, checksums: Sequence[str]) -> list[Derivation]:
        self._read(checksums)
        return [one for checksum in checksums for one in self._made_by(checksum)]

    def _made_by(self, checksum: str) -> list[Derivation]:
        found: list[Derivation] = []
        for one in self._manifests:
            row = one.row(checksum)
            own = (event for event in one.events(checksum) if event.checksum == checksum)
            found += derivations_in(one.name, [] if row is None else [row], own)
        return found

    def made_of(self, checksums: Sequence[str]) -> list[Derivation]:
        self._read(checksums)
        for one in self._manifests:
            one.read_users(checksums)
        return [one for checksum in checksums for one in self._made_of(checksum)]

    def _made_of(self, checksum: str) -> list[Derivation]:
        found: list[Derivation] = []
        for one in self._manifests:
            uses = (event for event in one.events(checksum) if checksum in event.inputs)
            found += derivations_in(one.name, one.users(checksum), uses)
        return found
