"""A small manifest with everything in it, the same bytes every time, and its relatives: older files, a twin, a namesake.

Invariants:

- Nothing in the files comes from the clock or from chance, so a failing case can be named by file, offset and bit.
- The manifest has a canonical with index, a sealed segment, one that was fenced behind a torn tail, and an active one,
  whose first lines are known to be synced and whose last lines are not.
"""

from __future__ import annotations

import itertools
import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from contract.builders import META, QUIET, files_of, meta, record, segments_of, sha
from manifestlog import DownloadManifestManager, Durability, ManifestOptions
from manifestlog.engines.filelog import engine as store
from manifestlog.engines.filelog.compaction import steps as compactor
from manifestlog.engines.filelog.log import wal
from support.engines import engine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog import ManifestMetadata

NAME = "systems_download.manifest.json"
SYNCED = ManifestOptions(durability=Durability.POWER_CUT, auto_compact=False, compact_on_close=False)
TORN = b'{"op":"put","ts":"2026-01-01T13:00:00.000000Z","record":{"source_id":"torn","data'

CANONICAL, INDEX, SEALED, FENCED, ACTIVE = "canonical", "index", "sealed", "fenced", "active"
KINDS = (CANONICAL, INDEX, SEALED, FENCED, ACTIVE)


@dataclass
class Corpus:
    """The files of a manifest by name, and what earlier moments of it left."""

    files: dict[str, bytes]
    named: dict[str, str]
    covered: dict[str, bytes]
    """Segments that the canonical holds, as they lay there before they were deleted."""
    earlier: list[dict[str, bytes]] = field(default_factory=list)
    """All files, at moments before: a canonical of before, a segment that was shorter."""


@contextmanager
def _same_every_time(seed: int) -> Iterator[None]:
    numbers = itertools.count(1)
    chance = random.Random(seed)

    def now_text() -> str:
        number = next(numbers)
        return f"2026-01-01T12:{number // 60:02d}:{number % 60:02d}.{seed:06d}Z"

    with (
        patch.object(store, "now_text", now_text),
        patch.object(compactor, "now_text", now_text),
        patch.object(compactor, "time", SimpleNamespace(perf_counter=lambda: 0.0)),
        patch.object(wal, "secrets", SimpleNamespace(randbits=chance.getrandbits)),
    ):
        yield


def _rotate(manager: DownloadManifestManager) -> None:
    engine_of(manager).session.transact(lambda state: state.start_log().rotate())


def build(directory: Path, name: str = NAME, *, seed: int = 1, born: ManifestMetadata = META) -> Corpus:
    """Make the manifest in an empty directory, and read its files."""
    directory.mkdir(parents=True)
    path = directory / name
    with _same_every_time(seed):
        return _build(path, born)


def _build(path: Path, born: ManifestMetadata) -> Corpus:
    def options_of(options: ManifestOptions, metadata: ManifestMetadata | None = None) -> DownloadManifestManager:
        return DownloadManifestManager(path, metadata, options=options)

    earlier = []
    with options_of(QUIET, born) as manager:
        manager.add(record("a", 0, "edsm", etag='"a1"'))
        manager.add(record("forgotten", 1, "eddb"))
        earlier.append(files_of(path.parent))
        manager.save()
        earlier.append(files_of(path.parent))
        manager.add(record("shared", 2, "spansh", last_modified="Wed, 01 May 2024 12:02:00 GMT"))
        manager.add(record("shared", 3, "edsm", dataset="bodies"))
        manager.add(record("tied one", 4, "tied"))
        manager.add(record("tied two", 4, "tied"))
        manager.add(record("made", 5, "maker", derived_from=(sha("a"), sha("shared"))))
        _rotate(manager)
        covered = {segment.name: segment.read_bytes() for segment in segments_of(path.parent)[:-1]}
        manager.save()
        earlier.append(files_of(path.parent))
    with options_of(SYNCED) as manager:
        manager.add(record("a", 6, "edsm", etag='"a2"'))
        manager.forget(sha("forgotten"))
        manager.add_many([record("batch one", 7, "batch"), record("batch two", 7, "batch", derived_from=(sha("a"),))])
        earlier.append(files_of(path.parent))
        _rotate(manager)
        earlier.append(files_of(path.parent))
        manager.add(record("Übergröße 🪐", 8.5, "ünï/cöde"))
    with segments_of(path.parent)[-1].open("ab") as active:
        active.write(TORN)
    earlier.append(files_of(path.parent))
    with options_of(SYNCED, meta(etl_version="1.10.0", ts_created=born.ts_created)) as manager:
        manager.add(record("shared", 9, "third"))
        manager.add(record("new", 10, "eddb", version="1.10.0"))
        manager.add_many([record("new too", 11, "eddb"), record("tied three", 4, "tied")])
        manager.forget(sha("batch one"))
        manager.add(record("last synced", 12, "edsm"))
    earlier.append(files_of(path.parent))
    with options_of(QUIET) as manager:
        manager.add(record("loose one", 13, "edsm"))
        earlier.append(files_of(path.parent))
        manager.add(record("loose two", 14, "loose"))
        manager.add(record("a", 15, "edsm", etag='"a3"'))
    return Corpus(files_of(path.parent), _named(path), covered, earlier)


def _named(path: Path) -> dict[str, str]:
    names = [segment.name for segment in segments_of(path.parent)]
    index = path.name.replace(".json", ".idx")
    return dict(zip(KINDS, [path.name, index, *names], strict=True))


def renamed(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """The files of another manifest under this one's names."""
    stem = NAME.removesuffix("json")
    other = name.removesuffix("json")
    return {stem + key.removeprefix(other): data for key, data in files.items()}


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """(offset, line with its newline) of everything in a segment."""
    found, offset = [], 0
    for line in data.splitlines(keepends=True):
        found.append((offset, line))
        offset += len(line)
    return found


Row = dict[str, Any]
