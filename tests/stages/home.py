"""A pipeline on the disk: a manifest of downloads with its files, and the stages that tests run over it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from manifestlog import (
    DownloadManifestManager,
    Durability,
    ETLProcess,
    ManifestMetadata,
    ManifestOptions,
    ManifestRecord,
    ProcessedManifestManager,
)
from manifestlog.stages import FunctionWork, Stage, run_stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manifestlog import Event
    from manifestlog.stages import StageReport

T0 = datetime(2024, 1, 1, tzinfo=UTC)
FAST = ManifestOptions(durability=Durability.PROCESS_KILL, auto_compact=False)
DOWNLOADS, PARSED = "x_download", "x_parse"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Home:
    """A directory with `manifests/`, `raw/` and `data/`."""

    root: Path

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def path(self, name: str) -> Path:
        return self.manifests / f"{name}.manifest.json"

    @classmethod
    def at(cls, path: Path) -> Home:
        """Return an empty pipeline in this directory, for a test that is run with a safeguard switched off."""
        found = cls(path)
        found.manifests.mkdir(parents=True, exist_ok=True)
        return found

    def download(self, *contents: tuple[str, str], minute: float = 0, dataset: str = "set") -> list[str]:
        """Deliver these contents (source, text), each a minute after the one before; return their checksums."""
        metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1", root_dir=self.root)
        records = []
        for number, (source, text) in enumerate(contents):
            path = self.root / "raw" / dataset / f"{source}-{sha(text.encode())[:6]}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            when = T0 + timedelta(minutes=minute + number)
            records.append(record(source, text.encode(), path, when, dataset))
        with DownloadManifestManager(self.path(DOWNLOADS), metadata, options=FAST) as manifest:
            manifest.add_many(records)
        return [one.checksum for one in records]

    def stage(self, function: Callable[..., Any] | str | None, **settings: Any) -> Stage:
        """Return a stage over the downloads."""
        work = None if function is None else FunctionWork(function)
        given = {"upstream": DOWNLOADS, "manifest": PARSED, "work": work, "output_dir": self.data} | settings
        return Stage(**given)

    def run(self, function: Callable[..., Any], *, options: ManifestOptions = FAST, **settings: Any) -> StageReport:
        """Run a stage over the downloads, in this process."""
        return self.run_stage(self.stage(function, **settings), options=options)

    def run_stage(self, stage: Stage, **how: Any) -> StageReport:
        return run_stage(stage, self.manifests, **{"options": FAST, **how})

    def outputs(self, manifest: str = PARSED) -> dict[str, str]:
        """Return the text of every recorded output by its path below `data`; a record without its file raises."""
        with ProcessedManifestManager(self.path(manifest), read_only=True) as found:
            paths = [found.locate(one) for one in found.records.values()]
        return {str(path.relative_to(self.data)): path.read_text(encoding="utf-8") for path in paths}

    def events(self, manifest: str = PARSED, **wanted: Any) -> list[Event]:
        with ProcessedManifestManager(self.path(manifest), read_only=True) as found:
            return list(found.history(**wanted))

    def leftovers(self) -> list[str]:
        """Return what is in the working directories, but for logs."""
        work = self.data / ".manifestlog.work"
        return sorted(str(path.relative_to(work)) for path in work.glob("*/*") if path.name != "logs")


def record(source: str, data: bytes, path: Path, when: datetime, dataset: str = "set") -> ManifestRecord:
    return ManifestRecord(
        source_id=source,
        dataset=dataset,
        checksum=sha(data),
        file_path=path,
        file_size=len(data),
        ts_downloaded=when,
        version="1",
    )


def coded(home: Home, body: str) -> Any:
    """Return a function with this body, in a module of its own."""
    script = home.root / "code_of_stage.py"
    script.write_text(f"from manifestlog.stages import *\ndef work(item):\n    return {body}\n", encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(compile(script.read_text(encoding="utf-8"), script, "exec"), scope)
    return scope["work"]
