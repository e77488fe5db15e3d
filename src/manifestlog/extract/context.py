"""The context of a worker: its manifest, fetcher, claims and settings, and the receiver of its events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifestlog.error_texts import reason
from manifestlog.extract import paths
from manifestlog.extract.claims import Claims
from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.redaction import Redactor, secrets_in_options
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import Fetcher
from manifestlog.extract.lending import Lending
from manifestlog.extract.places.protocol import Place
from manifestlog.extract.report import Event, Outcome, Result
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ManifestRecord
from manifestlog.model.safe_urls import safe_url
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.workers.grouping import Grouping
from manifestlog.workers.stop import Stop

_RECENT_S = 1.0


def _ignore(_: Event) -> None:
    """Ignore the event."""


class _RecentRoot:
    """The root of a manifest as it was at most a second ago."""

    def __init__(self) -> None:
        self._root, self._until = Path(), -math.inf

    def of(self, manifest: DownloadManifestManager) -> Path:
        if (now := time.monotonic()) >= self._until:
            self._root, self._until = manifest.root, now + _RECENT_S
        return self._root


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Everything a worker needs."""

    manifest: DownloadManifestManager
    fetcher: Fetcher
    place: Place
    claims: Claims
    defaults: Defaults
    secrets: frozenset[str] = frozenset()
    emit: Callable[[Event], None] = _ignore
    stop: Stop = field(default_factory=Stop)
    landing: Grouping[Any] | None = None
    """Groups the threads of this worker that have a complete part; None if there is only one thread."""
    shows_progress: bool = True
    """Whether `emit` takes `Started` and `Progress` too."""
    lending: Lending | None = None
    """Gets further connections for large bodies; None if each has one."""
    postpones: bool = False
    """Whether `download.advance` runs its sources: a pause then ends the turn."""
    _recent_root: _RecentRoot = field(default_factory=_RecentRoot)

    def locate(self, record: ManifestRecord) -> Path:
        """Return the path of the file of a record that was just read, without another look at the manifest.

        If the manifest was relocated in this second, that is the same file: a record leads to it under either root.
        """
        return self._recent_root.of(self.manifest) / record.file_path

    def safe_address(self, source: ETLSource) -> str:
        """Return the source's URL without any secret, for the history."""
        redactor = Redactor.of(source, self.defaults.headers, [*self.secrets, *secrets_in_options(self.defaults)])
        return redactor.without_secrets(safe_url(source.url))

    def redacted(self, source: ETLSource, error: BaseException) -> str:
        """Return the message of an error without any secret of this source.

        A path of the source keeps everything except values from the environment: it is recorded anyway, and the user
        must find the file. `?format=json` in a URL makes the word `json` a secret, which may be part of the path.
        """
        redactor = Redactor.of(source, self.defaults.headers, [*self.secrets, *secrets_in_options(self.defaults)])
        path, detail = _path_and_detail(error)
        if not path:
            return redactor.redact(detail)
        if paths.is_own(self.place.data_dir, source, path):
            return f"{Redactor.hiding(self.secrets).without_secrets(path)}: {redactor.redact(detail)}"
        return redactor.redact(f"{path}: {detail}")

    def failed(self, source: ETLSource, error: BaseException) -> Outcome:
        """Return the outcome of a source that failed with this error."""
        return Outcome(source.source_id, source.dataset, Result.FAILED, error=self.redacted(source, error))


def _path_and_detail(error: BaseException) -> tuple[str, str]:
    if isinstance(error, ExtractError | ObjectStoreError):
        return error.path, error.detail
    if isinstance(error, OSError) and error.strerror and error.filename:
        return str(error.filename), f"{reason(error)}, then run extract again"
    return "", str(error) or type(error).__name__
