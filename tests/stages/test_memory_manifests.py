"""Stages over manifests in memory: whoever runs them keeps both open. Otherwise the message says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestMetadata,
    ManifestNotFoundError,
    ProcessedManifestManager,
)
from manifestlog.stages import FunctionWork, Item, Pipeline, Stage, StageError, pending_items, run_stage
from manifestlog.stages.by_hand import ByHand
from manifestlog.stages.unused import readers_of

from .home import T0, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DOWNLOADS, PARSED = "memory:x_download", "memory:x_parse"


def upper(item: Item) -> bytes:
    return item.path.read_bytes().upper()


def of(process: ETLProcess, root: Path) -> ManifestMetadata:
    return ManifestMetadata(process=process, etl_version="1", root_dir=root)


@pytest.fixture
def downloads(tmp_path: Path) -> Iterator[DownloadManifestManager]:
    """One record, in a manifest that is open."""
    (tmp_path / "a.txt").write_text("one")
    with DownloadManifestManager(DOWNLOADS, of(ETLProcess.EXTRACTOR, tmp_path)) as manifest:
        manifest.add(record("a", b"one", tmp_path / "a.txt", T0))
        yield manifest


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(DOWNLOADS, PARSED, FunctionWork(upper), output_dir=tmp_path / "data")


@pytest.mark.usefixtures("downloads")
def test_a_stage_records_in_a_manifest_that_is_open(stage: Stage, tmp_path: Path) -> None:
    with ProcessedManifestManager(PARSED, of(ETLProcess.TRANSFORMER, tmp_path)) as manifest:
        assert (run_stage(stage).done, len(manifest), run_stage(stage).done) == (1, 1, 0)


@pytest.mark.usefixtures("downloads")
def test_a_manifest_that_would_end_with_the_run_is_refused_before_anything_is_done(stage: Stage) -> None:
    with pytest.raises(StageError, match=r"manifest: memory:x_parse would end with this call, .* keep it open"):
        run_stage(stage)
    assert not stage.output_dir.exists()


@pytest.mark.usefixtures("downloads")
def test_everything_is_pending_for_a_manifest_that_is_not_open(stage: Stage) -> None:
    assert [one.source_id for one in pending_items(stage)] == ["a"]


def test_an_upstream_manifest_that_is_not_open_is_missing(stage: Stage) -> None:
    with pytest.raises(ManifestNotFoundError, match=r"memory:x_download: .* only through the manager that has it open"):
        run_stage(stage)


@pytest.mark.usefixtures("downloads")
def test_a_loop_takes_the_records_of_a_manifest_that_is_open(tmp_path: Path) -> None:
    with (
        ProcessedManifestManager(PARSED, of(ETLProcess.TRANSFORMER, tmp_path)) as manifest,
        Pipeline(tmp_path) as pipeline,
    ):
        for item in pipeline.stage("parse", of=DOWNLOADS, output_dir=tmp_path / "data").claim():
            item.output_path.write_bytes(upper(item))
        assert len(manifest) == 1


@pytest.mark.parametrize("location", ["memory:", "memory:x"])
def test_a_stage_without_the_name_of_its_manifest_shows_what_was_given(location: str) -> None:
    with pytest.raises(StageError, match=f"^manifest: {location}: '.*' is not a manifest name"):
        Stage(DOWNLOADS, location)


def _in_a_loop(place: str, of: str) -> Any:
    with Pipeline(place) as pipeline:
        return pipeline.stage("x_parse", of=of)


@pytest.mark.parametrize("place", ["memory:", "memory://"])
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda place: run_stage("x_download", "x_parse", upper, place), id="run"),
        pytest.param(lambda place: pending_items(Stage("x_download", "x_parse"), place), id="pending"),
        pytest.param(lambda place: _in_a_loop(place, "x_download"), id="loop"),
        pytest.param(lambda place: _in_a_loop(place, "download"), id="loop by the last part of a name"),
        pytest.param(
            lambda place: ByHand(manifest="x_parse", upstream="x_download", directory=place).pending(), id="by hand"
        ),
        pytest.param(lambda place: readers_of("x_download", place), id="readers"),
    ],
)
def test_memory_is_no_directory(use: Callable[[str], object], place: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not a manifest in memory, which is in no directory: .* memory:systems_down"
    ):
        use(place)
