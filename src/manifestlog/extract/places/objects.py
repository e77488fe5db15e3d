"""The place of data files in an object store. `object_part` has its parts.

Invariants:

- Working objects are below `.parts/`, so that one listing finds them all.
- The next run aborts the upload of a killed process, under the claim that this process held.
- A store that ignores conditions is refused before a run begins.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from multiprocessing.context import BaseContext
from pathlib import Path
from threading import Lock

from manifestlog import names
from manifestlog.extract.claims import Claims
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.expectations import HEAD_BYTES
from manifestlog.extract.paths import SourcePaths, part_of
from manifestlog.extract.places import object_part
from manifestlog.extract.places.object_part import ObjectPart
from manifestlog.extract.places.protocol import Ends
from manifestlog.manager import AbstractManifest
from manifestlog.model.url_paths import UrlPath, path_of
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.locations import split
from manifestlog.objects.opening import context_of
from manifestlog.objects.protocol import ObjectStat, ObjectStore

_PROBE = b"manifestlog asks for this object by If-None-Match: a store must refuse to store it again\n"


class ObjectPlace:
    """A directory in a store, by its URL."""

    groups = False

    def __init__(self, data_dir: UrlPath, store: ObjectStore) -> None:
        self.data_dir: Path = data_dir
        self._store = store
        self._working = data_dir / names.OBJECT_PARTS
        self._listed: frozenset[str] | None = None
        self._listing = Lock()

    @property
    def context(self) -> BaseContext | None:
        return context_of(self._store)

    def prepare(self, manifest: AbstractManifest) -> None:
        """Check credentials, bucket and rights, and that the store refuses to replace an object on condition."""
        probe, sha256 = str(self._working / names.PROBE_NAME), hashlib.sha256(_PROBE).hexdigest()
        if self._store.create(probe, _PROBE, sha256) and self._store.create(probe, _PROBE, sha256):
            raise ExtractError(
                "the store ignores If-None-Match, so runs could replace each other's files; use a store with"
                " conditional writes, or a local directory",
                str(self.data_dir),
            )
        with Claims(manifest, self.data_dir) as claims:
            self._abort_left_over(claims)

    def _abort_left_over(self, claims: Claims) -> None:
        """Abort what killed processes have left; what a live one is at is claimed."""
        for upload in list(self._store.unfinished(str(self.data_dir))):
            path = path_of(upload.url)
            is_working = path.is_relative_to(self._working)
            kind, name = ("part", part_of(path)) if is_working else ("place", path)
            with claims.trying(kind, claims.name_of(name)) as ours:
                if ours:
                    self._store.abort(upload)

    def part(self, source: ETLSource) -> ObjectPart:
        return ObjectPart(SourcePaths.of(self.data_dir, source), self._store, self._is_listed)

    def _is_listed(self, url: str) -> bool:
        with self._listing:
            if self._listed is None:
                self._listed = frozenset(one.url for one in self._store.list(str(self._working)))
        return url in self._listed

    def size(self, path: Path) -> int | None:
        found = self._store.stat(str(path))
        return None if found is None else found.size

    def sha256(self, path: Path) -> str:
        return object_part.sha256_of(self._store, str(path))

    def ends(self, path: Path) -> Ends:
        return object_part.ends_of(self._store, str(path), self.size(path) or 0)

    def head(self, path: Path) -> bytes | None:
        with suppress(ObjectStoreError):
            if self._is_ours(path) and (length := self.size(path)):
                return b"".join(self._store.read(str(path), 0, min(length, HEAD_BYTES)))
        return None

    def sees(self, _: Path) -> bool:
        """Return False: each look would be a request, and `verify` needs one for a thousand files."""
        return False

    def is_intact(self, path: Path, length: int) -> bool:
        """Only this bucket counts: a file on the disk of one host would be no copy for the others."""
        return self._is_ours(path) and self.size(path) == length

    def _is_ours(self, path: Path) -> bool:
        return isinstance(path, UrlPath) and split(str(path))[:2] == split(str(self.data_dir))[:2]

    def has_content(self, path: Path, event: DownloadEvent) -> bool:
        return object_part.has(self._store, str(path), ObjectStat(event.file_size_bytes, event.sha256))

    def may_publish(self, path: Path, event: DownloadEvent) -> bool:
        return self.size(path) in (None, event.file_size_bytes)

    def read_note(self, name: str) -> bytes:
        url = str(self._working / name)
        return b"" if self._store.stat(url) is None else b"".join(self._store.read(url))

    def write_note(self, name: str, content: bytes) -> None:
        self._store.write(str(self._working / name), content)
