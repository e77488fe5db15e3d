"""A folder of files, a manifest of them, and the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import Program, open_manifest, records_of
from support.records import make_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    program.kill_rest()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three files in a folder `data`."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a", encoding="ascii")
    (folder / "sub" / "b.txt").write_text("bb", encoding="ascii")
    (folder / ".hidden").write_text("ccc", encoding="ascii")
    return folder


@pytest.fixture
def stray(filled: Path) -> Path:
    """A link beside the manifest that has a manifest's name, and leads to none."""
    path = filled.with_name("a_latest.manifest.json")
    path.symlink_to("backup-2024.json")
    return path


@pytest.fixture
def filled(run: Program, tree: Path) -> Path:
    """The manifest `files_extractor` of the three files, made by the library."""
    path = run.home / "manifests" / "files_extractor.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add_many(records_of(tree))
    return path


@pytest.fixture
def path(home: Path) -> Path:
    """The manifest `files_extractor` of two records, whose files are nowhere."""
    found = home / "manifests" / "files_extractor.manifest.json"
    with open_manifest(found) as manifest:
        manifest.add_many([make_record(1), make_record(2)])
    return found
