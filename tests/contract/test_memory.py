"""What only a manifest in memory does: it ends with its manager, and no file is touched."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    DownloadManifestManager,
    ManifestError,
    ManifestNotFoundError,
    audit,
    copy_manifest,
    maintenance,
    mirror_manifest,
)
from manifestlog.engines import memory_records
from manifestlog.locating import manifests_in
from manifestlog.model import codec
from manifestlog.model.batches import encoded

from .builders import META, QUIET, record, sha
from .copies import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HERE = "memory:systems_download"


class Reading:
    """`codec`, with a list of what is read."""

    def __init__(self, read: list[bytes]) -> None:
        self._read = read

    def __getattr__(self, name: str) -> Any:
        return getattr(codec, name)

    def loads(self, raw: bytes) -> Any:
        self._read.append(raw)
        return codec.loads(raw)


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


@pytest.mark.parametrize("place", ["memory:", "memory:x", "memory://", "memory:/systems_download"])
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(DownloadManifestManager, id="open"),
        pytest.param(lambda place: copy_manifest(place, "x_copy.manifest.json"), id="copy"),
        pytest.param(lambda place: mirror_manifest(place, "mirrors"), id="mirror"),
        pytest.param(maintenance.status, id="status"),
        pytest.param(maintenance.check, id="check"),
        pytest.param(maintenance.repair, id="repair"),
        pytest.param(audit.run, id="verify"),
        pytest.param(manifests_in, id="manifests"),
        pytest.param(lambda place: list(maintenance.diagnose(place)), id="diagnose"),
    ],
)
def test_a_location_without_a_name_says_what_one_looks_like(use: Callable[[str], object], place: str) -> None:
    with pytest.raises(ValueError, match=f"^'{place}' is not a manifest in memory, .* such as memory:systems_download"):
        use(place)


def test_a_replica_is_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "systems_download.manifest.json"
    with DownloadManifestManager(path, META), pytest.raises(ValueError, match="is not a manifest in memory"):
        mirror_manifest(path, "memory:")


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda: copy_manifest(HERE, "x_copy.manifest.json"), id="copy"),
        pytest.param(lambda: mirror_manifest(HERE, "mirrors"), id="mirror"),
        pytest.param(lambda: maintenance.status(HERE).error, id="status"),
    ],
)
def test_what_opens_a_manifest_by_its_location_says_that_its_manager_is_needed(use: Callable[[], object]) -> None:
    with DownloadManifestManager(HERE, META):
        try:
            error = use()
        except ManifestNotFoundError as raised:
            error = raised
    assert "only through the manager that has it open" in str(error)


def test_it_cannot_be_sent_to_another_process() -> None:
    with DownloadManifestManager(HERE, META) as manifest, pytest.raises(ManifestError, match="this process"):
        pickle.dumps(manifest)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ManifestError, match=r"gopher: unknown scheme; .* memory:"):
        DownloadManifestManager("gopher://host/systems_download", META)


@pytest.mark.parametrize("known", [10, 100])
def test_adding_to_a_source_reads_as_little_however_many_contents_it_has(
    monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    with DownloadManifestManager(HERE, META) as manifest:
        manifest.add_many(record(f"c{number}", number) for number in range(known))
        read: list[bytes] = []
        monkeypatch.setattr(memory_records, "codec", Reading(read))
        manifest.add(record("new", known))
        assert len(read) < 10


def test_a_batch_that_fails_leaves_everything_as_it_was() -> None:
    """An addition of it fails when two others are there."""
    with DownloadManifestManager(HERE, META) as manifest:
        manifest.add_many([record("a"), record("b", 1)])
        before = list(manifest.rows()), manifest.metadata, manifest.cursor
        changed = [encoded(one, QUIET) for one in (record("a", 2, source="other"), record("c", 3))]
        with pytest.raises(TypeError):
            engine_of(manifest).add_batch([*changed, (b"{", sha("d"), None)])  # type: ignore[list-item] # that is its fault
        assert (list(manifest.rows()), manifest.metadata, manifest.cursor) == before
