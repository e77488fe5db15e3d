"""The managers of the two kinds of manifests: downloads, and what is made of them.

`AbstractManifest` (`manager`) has everything that they share.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from manifestlog.manager import AbstractManifest
from manifestlog.model.downloads import EventLike, SourceLike, record_from_download
from manifestlog.model.events import EventKind, Query
from manifestlog.model.models import AddResult, ManifestRecord

log = logging.getLogger(__name__)


class DownloadManifestManager(AbstractManifest):
    """The manifest of downloads: which file came from which source."""

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; durable as `add` is.

        `value` must have at least `checksum` (the key), `etag`, `file_path` and `file_size`. Raises `ValueError`, which names
        missing, unknown or invalid fields, and `RecordNotFoundError` for an unknown key.
        """
        result = self._update(key, value, ("checksum", "etag", "file_path", "file_size"))
        log.warning("%s: update() changed a record by hand; use add_from_event() to register downloads", self.path)
        return result


class ProcessedManifestManager(AbstractManifest):
    """The manifest of the outputs of a transformer or loader. Each record names the inputs of its output."""

    def add_output(
        self, source: SourceLike, event: EventLike, derived_from: Iterable[str], *, live: bool | None = None
    ) -> AddResult:
        """Register an output derived from the inputs with these checksums; otherwise as `add_from_event`."""
        return self._add_event(record_from_download(source, event, self._version, derived_from), event, live)

    def pending(self, upstream: AbstractManifest) -> Iterator[ManifestRecord]:
        """Yield the records of `upstream` that no output in this manifest was ever derived from."""
        done = {checksum for record in self.records.values() for checksum in record.derived_from}
        done |= self._earlier_inputs()
        return (record for checksum, record in upstream.records.items() if checksum not in done)

    def _earlier_inputs(self) -> set[str]:
        """Return the inputs of earlier derivations of the outputs that are here; their records show the latest only."""
        found: set[str] = set()
        for event in self._engine.events(Query(other_inputs=True)):
            if event.kind is not EventKind.FAILED and event.checksum is not None and self._engine.has(event.checksum):
                found.update(event.inputs, (event.was or {}).get("derived_from") or ())
        return found

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; `value` must have `checksum`, `file_path` and `file_size`."""
        return self._update(key, value, ("checksum", "file_path", "file_size"))
