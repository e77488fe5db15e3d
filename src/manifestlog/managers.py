"""The managers of the two kinds of manifests: downloads, and what is made of them.

`AbstractManifest` (`manager`) has everything that they share.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from manifestlog.manager import AbstractManifest, open_already
from manifestlog.model.attempts import derivation_details
from manifestlog.model.downloads import EventLike, SourceLike, record_from_download
from manifestlog.model.events import EventKind
from manifestlog.model.models import AddResult, ManifestRecord, record_from_stored
from manifestlog.pending import pending

log = logging.getLogger(__name__)


class DownloadManifestManager(AbstractManifest):
    """The manifest of downloads: which file came from which source."""

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`. As durable as `add`.

        `value` must have at least `checksum` (the key), `etag`, `file_path` and `file_size`. Raises `ValueError`, which names
        missing, unknown or invalid fields, and `RecordNotFoundError` for an unknown key.
        """
        result = self._update(key, value, ("checksum", "etag", "file_path", "file_size"))
        log.warning(
            "%s: update() changed a record by hand; use add_from_event() to register downloads",
            self._engine.location.display,
        )
        return result


class ProcessedManifestManager(AbstractManifest):
    """The manifest of the outputs of a transformer or loader. Each record names the inputs of its output."""

    def add_output(
        self, source: SourceLike, event: EventLike, derived_from: Iterable[str], *, live: bool | None = None
    ) -> AddResult:
        """Register an output derived from the inputs with these checksums; otherwise as `add_from_event`."""
        return self._add_event(record_from_download(source, event, self._version, derived_from), event, live)

    def add_derivations(self, derivations: Iterable[Mapping[str, Any]]) -> None:
        """Record derivations that leave no new record, with one sync. As durable as `add`.

        Each has `inputs` (checksums), `source_id`, `dataset` and `version`, and as far as they apply `checksum` (a known
        output that was made again), `started`, `seconds`, `judgement` and `reason`. Without a checksum, the inputs led to
        no output. They are no longer pending. Raises `ValueError` as `fail`, with nothing written.
        """
        some = [self._run.joined(derivation_details(one)) or {} for one in derivations]
        if some:
            self._engine.record_events(EventKind.DERIVED, some)

    def pending(self, upstream: AbstractManifest) -> Iterator[ManifestRecord]:
        """Yield the records of `upstream` from which no output in this manifest was ever derived, sorted by checksum.

        The first call reads both manifests; later calls of this manager read only the events since then.
        """
        looks = self.__dict__.setdefault("_looks", {})
        return map(record_from_stored, pending(upstream._engine, self._engine, looks))  # noqa: SLF001 -- also a manager

    def update(self, key: str, value: Mapping[str, Any]) -> AddResult:
        """Replace fields of the record with checksum `key`; `value` must have `checksum`, `file_path` and `file_size`."""
        return self._update(key, value, ("checksum", "file_path", "file_size"))


def reader_of(path: str | os.PathLike[str]) -> AbstractManifest:
    """Return the manager that this process has open for a manifest, whatever its class and options, or open it to read.

    Whoever receives it closes it. Raises as the constructor.
    """
    found = open_already(path)
    return ProcessedManifestManager(path, read_only=True) if found is None else found  # one without records is false
