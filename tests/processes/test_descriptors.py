"""A manager that is closed holds nothing, although somebody still holds the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from support.integrity import file_descriptors
from support.records import QUICK, make_record, metadata

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("read_only", [False, True])
def test_close_lets_go_of_every_descriptor(path: Path, *, read_only: bool) -> None:
    """No file of the manifest stays open or mapped behind `close`."""
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(0))
        manifest.compact()
        manifest.add(make_record(1))
    del manifest
    manifest = DownloadManifestManager(path, options=QUICK, read_only=read_only)
    len(manifest)
    manifest.close()
    assert [target for target in file_descriptors().values() if str(path.parent) in target] == []
