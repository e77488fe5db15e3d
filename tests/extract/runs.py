"""Whole runs of the extract step in a directory of their own, and what they leave."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.program import Result, finish
from cli.test_add import is_alive
from extract.builders import raw_config
from manifestlog import DownloadManifestManager
from support.integrity import checked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DATASET = "dumps"
NOTHING = dict.fromkeys(["new", "changed", "alias", "reverted", "refreshed", "unchanged", "claimed", "failed"], 0)


def entry(url: str, **more: Any) -> dict[str, Any]:
    """Return a source as in a configuration file, named after the last segment of its URL."""
    return {"source_id": url.rpartition("/")[2], "dataset": DATASET, "url": url} | more


def counts(result: Result) -> dict[str, int]:
    """Return the nonzero counts of a run's `--json`."""
    return {name: result.json[name] for name in NOTHING if result.json[name]}


@dataclass(frozen=True)
class Home:
    """A directory with a configuration, and the results of its runs."""

    folder: Path

    def configure(self, *sources: dict[str, Any], **defaults: Any) -> Path:
        path = self.folder / "etl.config.json"
        path.write_text(json.dumps(raw_config(*sources, defaults=defaults)), encoding="utf-8")
        return path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifests" / "systems_download.manifest.json"

    @property
    def data(self) -> Path:
        return self.folder / "data" / "raw"

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start `manifestlog extract etl.config.json --json` in its own session, as a shell would."""
        return self.start_python("-m", "manifestlog", "extract", "etl.config.json", "--json", *map(str, arguments))

    def start_python(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: object) -> Result:
        return finish(self.start(*arguments))

    def files(self) -> list[Path]:
        """Return everything in the data directory except the claims file."""
        return sorted(path for path in self.data.rglob("*") if path.is_file() and path.name != ".manifestlog.claims")

    def parts(self) -> list[Path]:
        return [path for path in self.files() if path.name.endswith(".part")]

    def part_bytes(self, *names: str) -> int:
        """Return the size of the parts of these sources, or of all."""
        paths = [path for path in self.parts() if not names or path.name.partition(".")[0] in names]
        return sum(map(_size, paths))

    def contents(self) -> Counter[bytes]:
        """Return the SHA-256 of every file, with its number of copies."""
        return Counter(hashlib.sha256(path.read_bytes()).digest() for path in self.files())

    def check(self, expected: Mapping[str, bytes]) -> None:
        """Check that every source is registered with its content, every content is stored once, and nothing else is
        there.
        """
        wanted = {name: hashlib.sha256(body).hexdigest() for name, body in expected.items()}
        with checked(self.manifest.parent), DownloadManifestManager(self.manifest, read_only=True) as manifest:
            sightings = list(_sightings(manifest))
        assert {name: said for name, _, said in sightings} == wanted
        for name, path, said in sightings:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == said, name
        assert self.contents() == Counter(dict.fromkeys(map(bytes.fromhex, wanted.values()), 1))
        assert {path for _, path, _ in sightings} == set(self.files())


def members(process: subprocess.Popen[str]) -> list[int]:
    """Return the living processes of a session, including grandchildren."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if _session(pid) == process.pid and is_alive(pid)]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was just published
        return 0


def _sightings(manifest: DownloadManifestManager) -> Iterator[tuple[str, Path, str]]:
    """Yield (source, file, checksum) of every observation."""
    for checksum in manifest:
        record = manifest.get(checksum)
        assert record is not None
        yield record.source_id, manifest.locate(record), checksum
        for seen in record.also_seen:
            yield seen.source_id, manifest.locate(seen), checksum
