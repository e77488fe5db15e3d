"""What only a manifest in memory does: it ends with its manager, and no file is touched."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestError, ManifestNotFoundError

from .builders import META, record, sha

if TYPE_CHECKING:
    from pathlib import Path

HERE = "memory:systems_download"


def test_it_ends_with_its_manager() -> None:
    with DownloadManifestManager(HERE, META) as manifest:
        manifest.add(record("a"))
    with DownloadManifestManager(HERE, META) as again:
        assert len(again) == 0


def test_it_touches_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DownloadManifestManager(HERE, META) as manifest:
        manifest.add(record("a"))
        manifest.save()
    assert list(tmp_path.iterdir()) == []


def test_the_same_name_is_the_same_manifest() -> None:
    with DownloadManifestManager(HERE, META) as manifest, DownloadManifestManager("memory://systems_download") as again:
        assert again is manifest


def test_another_name_is_another_manifest() -> None:
    with DownloadManifestManager(HERE, META) as one, DownloadManifestManager("memory:bodies_download", META) as other:
        one.add(record("a"))
        assert sha("a") not in other


def test_without_metadata_there_is_none() -> None:
    with pytest.raises(ManifestNotFoundError, match="memory:systems_download"):
        DownloadManifestManager(HERE)


def test_a_bad_name_says_the_rule() -> None:
    with pytest.raises(ValueError, match="two or more parts"):
        DownloadManifestManager("memory:x", META)


def test_it_cannot_be_sent_to_another_process() -> None:
    with DownloadManifestManager(HERE, META) as manifest, pytest.raises(ManifestError, match="this process"):
        pickle.dumps(manifest)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ManifestError, match=r"gopher: unknown scheme; .* memory:"):
        DownloadManifestManager("gopher://host/systems_download", META)
