"""Runs of sources through the whole extract step in this process, and access to what they leave."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.builders import source
from manifestlog.extract import Defaults, PipelineOrchestrator, Waiting
from manifestlog.extract.claims import Claims
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.fetchers.dispatch import RemoteFetcher
from manifestlog.extract.places.opening import place_of
from manifestlog.names import CLAIMS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog import DownloadManifestManager, ManifestRecord
    from manifestlog.extract import ETLSource, Event, Outcome, RunReport
    from support.nginx import Nginx

FAST: dict[str, Any] = {"jobs": 1, "connections": 1, "backoff_s": 0.0, "retries": 3, "timeout_read_s": 20.0}
"""One source after the other, and no pauses unless a server asks for one; a test that needs a timeout sets its own."""


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pattern(size_bytes: int, seed: int = 0) -> bytes:
    """Return bytes without repetition: a block at the wrong position changes the checksum."""
    return random.Random(seed).randbytes(size_bytes)


NOON = 1_704_110_400
"""Monday, 1 January 2024, 12:00 GMT."""


class Put:
    """Puts files on the server."""

    def __init__(self, folder: Path, real: Nginx) -> None:
        self.folder, self.real, self.seconds = folder, real, NOON

    def __call__(self, name: str, body: bytes) -> str:
        """Write the body under this name, one second later than the last one; return its URL."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (self.seconds, self.seconds))
        self.seconds += 1
        return f"{self.real.url}/{name}"


@dataclass
class Here:
    """A manifest, a data directory, and the events of the runs."""

    manifest: DownloadManifestManager
    data_dir: Path
    events: list[Event] = field(default_factory=list)

    def run(self, *sources: ETLSource, secrets: Iterable[str] = (), fetcher: Any = None, **defaults: Any) -> RunReport:
        """Run these sources in this process."""
        wanted = Defaults(**FAST | defaults)
        orchestrator = PipelineOrchestrator(
            self.manifest,
            fetcher,
            data_dir=self.data_dir,
            defaults=wanted,
            on_event=self.events.append,
            secrets=secrets,
        )
        return orchestrator.run(sources)

    def one(self, one_source: ETLSource, **defaults: Any) -> Outcome:
        """Run one source."""
        (outcome,) = self.run(one_source, **defaults).outcomes
        return outcome

    def fetch(self, url: str, *, source_id: str = "a", dataset: str = "systems", **defaults: Any) -> Outcome:
        """Run the source at this URL."""
        return self.one(source(url, source_id=source_id, dataset=dataset), **defaults)

    def context(self, claims: Claims, **more: Any) -> WorkerContext:
        """Return the context of a worker."""
        defaults = Defaults(**FAST)
        return WorkerContext(
            self.manifest,
            RemoteFetcher(defaults),
            place_of(self.data_dir),
            claims,
            defaults,
            emit=self.events.append,
            **more,
        )

    @property
    def files(self) -> list[str]:
        """Everything in the data directory except the claims file, sorted."""
        found = (path for path in self.data_dir.rglob("*") if path.is_file() and path.name != CLAIMS_NAME)
        return sorted(path.relative_to(self.data_dir).as_posix() for path in found)

    @property
    def part(self) -> Path:
        """The only part."""
        (part,) = self.data_dir.rglob("*.part")
        return part

    @property
    def waits(self) -> list[Waiting]:
        return [event for event in self.events if isinstance(event, Waiting)]

    def record(self, source_id: str = "a", dataset: str = "systems") -> ManifestRecord:
        record = self.manifest.get_record_by_source(source_id, dataset)
        assert record is not None
        return record

    def body(self, source_id: str = "a", dataset: str = "systems") -> bytes:
        """Return the bytes of a source's file."""
        return self.record(source_id, dataset).file_path.read_bytes()

    def check(self) -> None:
        """Check that the file of every record and observation has the recorded content."""
        for checksum, record in self.manifest.records.items():
            for path in (record.file_path, *(seen.file_path for seen in record.also_seen)):
                assert path.is_absolute()
                assert path.is_relative_to(self.data_dir)
                content = path.read_bytes()
                assert (sha256(content), len(content)) == (checksum, record.file_size)
