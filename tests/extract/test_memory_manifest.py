"""Runs with a manifest in memory: all records reach it, however many workers are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import Here, pattern
from manifestlog import DownloadManifestManager
from support.records import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Put


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with DownloadManifestManager("memory:systems_download", metadata()) as manifest:
        found = Here(manifest, tmp_path / "data")
        yield found
        found.check()


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_record_reaches_the_manifest(here: Here, put: Put, jobs: int) -> None:
    sources = [source(put(f"{name}.json", pattern(1_000, seed)), source_id=name) for seed, name in enumerate("abc")]
    here.run(*sources, jobs=jobs)
    assert len(here.manifest) == 3


def test_a_second_run_finds_nothing_new(here: Here, put: Put) -> None:
    url = put("a.json", pattern(1_000))
    assert [here.fetch(url, jobs=2).result for _ in range(2)] == ["new", "unchanged"]


def test_more_workers_than_it_can_use_cause_a_warning(here: Here, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    here.fetch(put("a.json", pattern(1_000)), jobs=2)
    assert "lives in this process" in caplog.text


def test_claims_and_skips_work_without_a_claims_file(here: Here, put: Put) -> None:
    here.fetch(put("a.json", pattern(1_000)))
    assert [path.name for path in here.data_dir.iterdir()] == ["systems"]
