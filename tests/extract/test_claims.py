"""Claims of the extract step: the name of a file's claim, and the error for one that another worker holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog.extract.claims import Claims
from manifestlog.extract.errors import ExtractError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifestlog import DownloadManifestManager


@pytest.fixture
def ours(manifest: DownloadManifestManager, tmp_path: Path) -> Iterator[Claims]:
    with Claims(manifest, tmp_path) as claims:
        yield claims


@pytest.fixture
def theirs(manifest: DownloadManifestManager, tmp_path: Path) -> Iterator[Claims]:
    with Claims(manifest, tmp_path) as claims:
        yield claims


def test_a_file_is_claimed_by_one_name_through_any_link_to_the_directory(
    manifest: DownloadManifestManager, ours: Claims, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with Claims(manifest, tmp_path / "link") as theirs:
        assert ours.name_of(tmp_path / "systems" / "a") == theirs.name_of(tmp_path / "link" / "systems" / "a")


def test_a_file_is_claimed_by_one_name_through_any_dataset(ours: Claims, tmp_path: Path) -> None:
    (tmp_path / "bodies").symlink_to("systems")
    assert ours.name_of(tmp_path / "systems" / "a") == ours.name_of(tmp_path / "bodies" / "a")


def test_a_file_that_is_a_link_is_claimed_by_its_own_name(ours: Claims, tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to("a")
    assert ours.name_of(tmp_path / "a") != ours.name_of(tmp_path / "b")


def test_files_of_one_name_in_two_datasets_are_claimed_by_two(ours: Claims, tmp_path: Path) -> None:
    assert ours.name_of(tmp_path / "systems" / "a") != ours.name_of(tmp_path / "bodies" / "a")


def test_waiting_ends_after_its_limit(ours: Claims, theirs: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifestlog.extract.claims._WAIT_S", 0.0)
    with ours.trying("part", "a"), pytest.raises(ExtractError, match="claimed by another"), theirs.waiting("part", "a"):
        pass
