"""`trace`: from a content back to its downloads, and to everything that was made of it, over several manifests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from manifestlog import (
    DownloadManifestManager,
    Event,
    ManifestOptions,
    ProcessedManifestManager,
    UnknownContentError,
    manifest_path,
    trace,
)

from .builders import META, QUIET, T0, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifestlog.history import Recorded


class Pipeline(NamedTuple):
    """A download, a file made from it, and one made from that."""

    downloads: DownloadManifestManager
    cleaned: ProcessedManifestManager
    reports: ProcessedManifestManager


@pytest.fixture
def pipeline(directory: Path) -> Iterator[Pipeline]:
    metadata = META.model_copy(update={"root_dir": directory})
    with (
        DownloadManifestManager(manifest_path(directory, "x", "download"), metadata, options=QUIET) as downloads,
        ProcessedManifestManager(manifest_path(directory, "x", "clean"), metadata, options=QUIET) as cleaned,
        ProcessedManifestManager(manifest_path(directory, "x", "report"), metadata, options=QUIET) as reports,
    ):
        event = SimpleNamespace(
            sha256=sha("raw"),
            file_path="raw/raw.csv",
            file_size_bytes=3,
            etag='"v1"',
            ts_download_completed=T0,
            url="https://user:secret@example.org/raw.csv?key=secret",
            status=200,
        )
        downloads.add_from_event(SimpleNamespace(source_id="raw", dataset="d"), event)
        with cleaned.run("nightly", "2", stage="clean"):
            cleaned.add(record("clean", 1, "clean", derived_from=(sha("raw"),), file_path=directory / "clean.parquet"))
        reports.add(record("report", 2, "report", derived_from=(sha("clean"),)))
        yield Pipeline(downloads, cleaned, reports)


def test_up_leads_to_the_download(pipeline: Pipeline) -> None:
    found = trace(pipeline, checksum=sha("report"), down=False)
    assert list(found.contents) == [sha("report"), sha("clean"), sha("raw")]


def test_a_download_has_its_address_etag_and_time(pipeline: Pipeline) -> None:
    (raw,) = trace(pipeline, checksum=sha("report")).contents[sha("raw")]
    assert (raw.etag, raw.ts_downloaded, raw.status) == ('"v1"', "2023-01-01T12:00:00Z", 200)
    assert raw.url is not None
    assert raw.url.startswith("https://")
    assert "secret" not in raw.url


def test_down_leads_to_everything_made_of_it(pipeline: Pipeline) -> None:
    found = trace(pipeline, checksum=sha("raw"), up=False)
    assert list(found.contents) == [sha("raw"), sha("clean"), sha("report")]


def test_the_derivation_names_stage_and_run(pipeline: Pipeline) -> None:
    (first, *_) = trace(pipeline, checksum=sha("raw"), up=False).derivations
    assert (first.manifest, first.stage, first.run is not None) == ("x_clean", "clean", True)


@pytest.mark.parametrize("spelling", ["clean.parquet", "./clean.parquet", "sub/../clean.parquet"])
def test_a_relative_path_begins_at_the_root(pipeline: Pipeline, spelling: str) -> None:
    assert trace(pipeline, path=spelling).starts == (sha("clean"),)


def test_an_absolute_path_is_found(pipeline: Pipeline, directory: Path) -> None:
    assert trace(pipeline, path=directory / "clean.parquet").starts == (sha("clean"),)


def test_a_path_below_the_working_directory_is_found(
    pipeline: Pipeline, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory / "..")
    assert trace(pipeline, path=f"{directory.name}/raw/raw.csv").starts == (sha("raw"),)


def test_each_history_is_asked_once_for_each_step(pipeline: Pipeline) -> None:
    outputs = [f"c{number}" for number in range(20)]
    pipeline.cleaned.add_many(record(name, 3, name, derived_from=(sha("raw"),)) for name in outputs)
    pipeline.reports.add_many(record(f"r {name}", 4, name, derived_from=(sha(name),)) for name in outputs)
    asked: list[str] = []

    def watched(manifest: Recorded) -> Any:
        def history(**wanted: Any) -> Iterator[Event]:
            asked.append(manifest.location.name)
            return manifest.history(**wanted)

        return SimpleNamespace(location=manifest.location, snapshot=manifest.snapshot, history=history)

    found = trace(map(watched, pipeline), checksum=sha("raw"), up=False)
    assert (len(found.contents), asked.count("x_report")) == (1 + 21 + 21, 3)


def test_of_several_contents_at_a_path_the_latest_counts(pipeline: Pipeline, directory: Path) -> None:
    pipeline.cleaned.add(record("clean2", 9, "clean", file_path=directory / "clean.parquet"))
    assert trace(pipeline, path="clean.parquet").starts == (sha("clean2"),)


def test_a_source_means_its_latest_content(pipeline: Pipeline) -> None:
    assert trace(pipeline, source_id="raw").starts == (sha("raw"),)


def test_an_earlier_derivation_is_found(pipeline: Pipeline) -> None:
    pipeline.cleaned.add(record("clean", 5, "clean", derived_from=(sha("other"),)))
    assert {*trace(pipeline, checksum=sha("clean"), down=False).contents} == {sha("clean"), sha("raw"), sha("other")}


def test_a_forgotten_output_is_found_in_the_history(pipeline: Pipeline) -> None:
    pipeline.reports.forget(sha("report"))
    (report,) = trace(pipeline, checksum=sha("clean"), up=False).contents[sha("report")]
    assert not report.recorded


def test_an_input_that_no_manifest_knows_is_named(pipeline: Pipeline) -> None:
    pipeline.downloads.forget(sha("raw"))
    pipeline.reports.add(record("r2", 3, "r2", derived_from=(sha("nowhere"),)))
    assert trace(pipeline, checksum=sha("r2")).contents[sha("nowhere")] == ()


def test_without_a_history_the_records_answer(directory: Path) -> None:
    options = ManifestOptions(durability=QUIET.durability, auto_compact=False, compact_on_close=False, history="off")
    with ProcessedManifestManager(manifest_path(directory, "y", "clean"), META, options=options) as made:
        made.add(record("clean", 1, derived_from=(sha("raw"),)))
        made.compact()
        made.compact()
        assert list(trace([made], checksum=sha("raw")).contents) == [sha("raw"), sha("clean")]


@pytest.mark.parametrize(
    "asked", [{"checksum": sha("no")}, {"path": "no.csv"}, {"path": "\ud800"}, {"path": "\0"}, {"source_id": "no"}]
)
def test_what_nobody_knows_is_an_error(pipeline: Pipeline, asked: dict[str, str]) -> None:
    with pytest.raises(UnknownContentError, match="no manifest"):
        trace(pipeline, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{}, {"checksum": sha("a"), "path": "a"}, {"checksum": "junk"}])
def test_a_question_that_is_none_is_refused(pipeline: Pipeline, asked: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"one of|not a checksum"):
        trace(pipeline, **asked)  # type: ignore[arg-type]
