"""Damage that comes while a reader has the manifest open: told at the next look, or of no consequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contract.builders import QUIET
from manifestlog import DamagedManifestError, DownloadManifestManager

from .corpus import ACTIVE, CANONICAL, FENCED, INDEX, NAME, SEALED
from .ground import Case, Ground
from .model import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Oracle


@pytest.fixture
def reader(ground: Ground, oracle: Oracle) -> Iterator[DownloadManifestManager]:
    ground.place(Case("sound", ground.files, (oracle.sound,)))
    with DownloadManifestManager(ground.path, read_only=True, options=QUIET) as manager:
        assert ask(manager) == oracle.sound
        yield manager


def test_an_active_segment_that_shrinks_is_reported(ground: Ground, reader: DownloadManifestManager) -> None:
    active = ground.directory / ground.corpus.named[ACTIVE]
    with active.open("r+b") as file:
        file.truncate(len(ground.files[active.name]) // 2)
    with pytest.raises(DamagedManifestError, match="shorter") as told:
        len(reader)
    assert told.value.path == str(active)


@pytest.mark.parametrize("kind", [SEALED, FENCED])
def test_a_segment_that_was_read_is_not_needed_again(
    ground: Ground, oracle: Oracle, reader: DownloadManifestManager, kind: str
) -> None:
    (ground.directory / ground.corpus.named[kind]).unlink()
    assert ask(reader) == oracle.sound


@pytest.mark.parametrize("kind", [CANONICAL, INDEX])
def test_a_file_that_loses_its_name_can_still_be_read(
    ground: Ground, oracle: Oracle, reader: DownloadManifestManager, kind: str
) -> None:
    (ground.directory / ground.corpus.named[kind]).unlink()
    assert ask(reader) == oracle.sound


def test_a_record_that_rots_is_reported_when_it_is_read(ground: Ground, reader: DownloadManifestManager) -> None:
    data = ground.files[NAME]
    with ground.path.open("r+b") as file:
        file.write(data.replace(b'"dataset":"set"', b'"dataset":"sat"'))
    with pytest.raises(DamagedManifestError, match="from what was written") as told:
        ask(reader)
    assert told.value.path == str(ground.path)
