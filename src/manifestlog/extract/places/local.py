"""The place of data files in a local or mounted directory. `part_file` has its parts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from manifestlog import names
from manifestlog.extract import data_files
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.expectations import HEAD_BYTES
from manifestlog.extract.part_file import PartFile
from manifestlog.extract.paths import SourcePaths
from manifestlog.extract.places.leftovers import Leftovers
from manifestlog.extract.places.protocol import Ends
from manifestlog.manager import AbstractManifest
from manifestlog.model.url_paths import UrlPath


class LocalPlace:
    """A directory, by its absolute path."""

    groups = True
    context = None

    def __init__(self, data_dir: Path, *, is_shared: bool = False) -> None:
        """`is_shared`: whether workers of other hosts write there, which may be stopped and go on."""
        self.data_dir = data_dir
        self._is_shared = is_shared
        self._leftovers = None if is_shared else Leftovers()

    def prepare(self, manifest: AbstractManifest) -> None:
        """Forget what was there: a directory is made when it is needed, and each source cleans up its own files."""
        del manifest
        self._leftovers = None if self._is_shared else Leftovers()

    def part(self, source: ETLSource) -> PartFile:
        paths = SourcePaths.of(self.data_dir, source)
        return PartFile(paths, loads=False, is_shared=self._is_shared, leftovers=self._leftovers)

    def size(self, path: Path) -> int | None:
        return data_files.size_of(path)

    def sha256(self, path: Path) -> str:
        return data_files.sha256_of(path)

    def ends(self, path: Path) -> Ends:
        return data_files.ends_of(path)

    def head(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(HEAD_BYTES)
        except OSError:
            return None

    def sees(self, path: Path) -> bool:
        return not isinstance(path, UrlPath)

    def is_intact(self, path: Path, length: int) -> bool:
        """Parts and rejected files, which older versions registered, do not count."""
        try:
            return not names.working_suffix(path.name) and path.stat().st_size == length
        except OSError:
            return False  # also without permission to look: then this source stores its own copy

    def has_content(self, path: Path, event: DownloadEvent) -> bool:
        return (
            path.is_file()
            and data_files.size_of(path) == event.file_size_bytes
            and data_files.sha256_of(path) == event.sha256
        )

    def may_publish(self, path: Path, event: DownloadEvent) -> bool:
        return not path.exists() or self.has_content(path, event)

    def read_note(self, name: str) -> bytes:
        with suppress(FileNotFoundError):
            return (self.data_dir / name).read_bytes()
        return b""

    def write_note(self, name: str, content: bytes) -> None:
        fd = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(fd, content, 0)
            os.ftruncate(fd, len(content))
        finally:
            os.close(fd)
