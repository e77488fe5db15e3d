"""Fixtures of the extract step's tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from extract.running import Here, Put
from extract.runs import Home
from extract.stores import PART, There
from manifestlog.extract import part_file
from manifestlog.extract.places import sink
from manifestlog.model.url_paths import UrlPath
from support import s3
from support.badserver import misbehaving
from support.nginx import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.builders import Write
    from manifestlog import DownloadManifestManager
    from support.badserver import BadServer
    from support.nginx import Nginx
    from support.s3 import S3, Folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration, objects as JSON, and return its path."""

    def write_it(content: Any) -> Path:
        path = tmp_path / "etl.config.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_it


@pytest.fixture
def here(manifest: DownloadManifestManager, tmp_path: Path) -> Iterator[Here]:
    """Runs on the test's manifest; after the test, every record's file is checked."""
    found = Here(manifest, tmp_path / "data")
    yield found
    found.check()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """A real S3 server."""
    with s3.serving() as found:
        yield found


@pytest.fixture
def s3_folder(s3_server: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    """A directory on it for this test, which programs find by the environment."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    return s3_server.folder(tmp_path.name)


@pytest.fixture
def there(s3_folder: Folder, manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch) -> Iterator[There]:
    """Runs whose files go there, in small parts; after the test, the object of every record is checked."""
    monkeypatch.setattr(sink, "PART_BYTES", PART)
    found = There(manifest, UrlPath(f"{s3_folder.url}/raw"))
    found.bucket = s3_folder
    yield found
    found.check()


@pytest.fixture
def bad() -> Iterator[BadServer]:
    """A server that misbehaves."""
    with misbehaving() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A directory with a configuration, for runs of the program."""
    return Home(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory nginx serves."""
    path = tmp_path / "served"
    path.mkdir()
    return path


@pytest.fixture
def real(folder: Path) -> Iterator[Nginx]:
    """A server that behaves."""
    with serving(folder) as server:
        yield server


@pytest.fixture
def put(folder: Path, real: Nginx) -> Put:
    """Put a file on the server that behaves: `put(name, body)` returns its URL."""
    return Put(folder, real)


@pytest.fixture
def no_small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every body as a large one, which has a state from its first byte."""
    monkeypatch.setattr(part_file, "SMALL_BYTES", 0)
