"""Stages whose inputs are in an object store: fetched for the time of the work, and compared with their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ProcessedManifestManager
from manifestlog.model.url_paths import path_of
from manifestlog.stages import CommandWork, Pipeline, Stage, valid
from stages.home import DOWNLOADS, FAST, PARSED, T0, Home, record

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog.stages import Item
    from support.s3 import Folder


@pytest.fixture
def pipeline(tmp_path: Path, s3_folder: Folder) -> Home:
    """A pipeline with one download, which is in a bucket."""
    home = Home.at(tmp_path)
    home.download()
    url = path_of(f"{s3_folder.url}/raw/set/a.txt")
    s3_folder.put("raw/set/a.txt", b"one")
    with DownloadManifestManager(home.path(DOWNLOADS), options=FAST) as manifest:
        manifest.add(record("a", b"one", url, T0))
    return home


def upper(item: Item) -> bytes:
    return item.path.read_bytes().upper()


def test_a_function_reads_a_copy(pipeline: Home) -> None:
    assert pipeline.run(upper).done == 1
    assert pipeline.outputs() == {"set/a.txt": "ONE"}


def test_a_command_reads_a_copy(pipeline: Home) -> None:
    argv = ("sh", "-c", 'tr a-z A-Z <"$1" >"$2"', "sh", "{input}", "{output}")
    found = pipeline.run_stage(Stage(DOWNLOADS, PARSED, CommandWork(argv), output_dir=pipeline.data))
    assert (found.done, pipeline.outputs()) == (1, {"set/a.txt": "ONE"})


def test_a_loop_reads_a_copy(pipeline: Home) -> None:
    with Pipeline(pipeline.manifests, options=FAST) as loop:
        for item in loop.stage(PARSED, of=DOWNLOADS, output_dir=pipeline.data).claim():
            with item.output() as out:
                out.write(item.path.read_text(encoding="ascii").upper())
    assert pipeline.outputs() == {"set/a.txt": "ONE"}


def test_nothing_is_left_of_the_copy(pipeline: Home) -> None:
    pipeline.run(upper)
    assert pipeline.leftovers() == []


def test_what_is_judged_keeps_its_url(pipeline: Home, s3_folder: Folder) -> None:
    pipeline.run(lambda _: valid())
    with ProcessedManifestManager(pipeline.path(PARSED), read_only=True) as manifest:
        assert [str(one.file_path) for one in manifest.records.values()] == [f"{s3_folder.url}/raw/set/a.txt"]


def test_an_object_that_is_missing_fails_with_its_url(pipeline: Home, s3_folder: Folder) -> None:
    s3_folder.delete("raw/set/a.txt")
    (failure,) = pipeline.run(upper).failures
    assert (
        failure.error == f"the input {s3_folder.url}/raw/set/a.txt is missing; restore it, or run `manifestlog forget`"
    )


def test_an_object_with_other_content_fails(pipeline: Home, s3_folder: Folder) -> None:
    s3_folder.put("raw/set/a.txt", b"two")
    (failure,) = pipeline.run(upper).failures
    assert str(failure.error).endswith("a.txt is not what was recorded: run `manifestlog verify`")
    assert pipeline.leftovers() == []
