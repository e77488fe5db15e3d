"""What a program says of an attempt or a run is written only if every reader will accept it; a record never suffers from it."""

from __future__ import annotations

from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from .builders import T0, sha
from .conftest import reopened

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog import AbstractManifest, DownloadManifestManager

pytestmark = pytest.mark.every_engine

SOURCE = SimpleNamespace(source_id="src", dataset="set")

WRONG: dict[str, Callable[[AbstractManifest], Any]] = {
    "a source that is a number": lambda m: m.fail(SimpleNamespace(source_id=5, dataset="set"), "x"),
    "a source that is not UTF-8": lambda m: m.fail(SimpleNamespace(source_id="a\ud800", dataset="set"), "x"),
    "seconds that are no number": lambda m: m.fail(SOURCE, "x", seconds=float("nan")),
    "endless seconds": lambda m: m.fail(SOURCE, "x", seconds=float("inf")),
    "seconds that no number holds": lambda m: m.fail(SOURCE, "x", seconds=10**400),
    "more bytes than 64 bits hold": lambda m: m.fail(SOURCE, "x", bytes=2**64),
    "a status that is text": lambda m: m.fail(SOURCE, "x", status="500"),
    "a version that is a number": lambda m: m.run("nightly", 5).__enter__(),  # type: ignore[arg-type]
    "a stage that is a number": lambda m: m.run("nightly", stage=5).__enter__(),  # type: ignore[arg-type]
    "a stage that is not UTF-8": lambda m: m.run("nightly", stage="\ud800").__enter__(),
    "a run that is a number": lambda m: m.join_run(5).__enter__(),  # type: ignore[arg-type]
    "bytes of a run that are text": lambda m: setattr(m.run("nightly"), "bytes", "1"),
    "half a byte of a run": lambda m: setattr(m.run("nightly"), "bytes", 0.5),
    "an outcome that there is not": lambda m: setattr(m.run("nightly"), "outcome", "great"),
    "a count that is not UTF-8": lambda m: m.run("nightly").count("\ud800"),
    "an unchanged source that is none": lambda m: m.run("nightly").unchanged(None, None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("said", WRONG)
def test_what_no_reader_would_accept_is_refused_before_it_is_written(
    manifest: DownloadManifestManager, said: str
) -> None:
    with pytest.raises(ValueError, match="not"):
        WRONG[said](manifest)
    with reopened(manifest) as again:
        assert list(again.history()) == []


OTHER: dict[str, dict[str, Any]] = {
    "a word as status": {"status": "done"},
    "no number as seconds": {"seconds": float("nan")},
    "a truth as status": {"status": True},
    "an address that is not UTF-8": {"url": "https://host/\udcff"},
}


@pytest.mark.parametrize("said", OTHER)
def test_an_event_that_means_something_else_by_a_name_is_registered_all_the_same(
    manifest: DownloadManifestManager, said: str
) -> None:
    manifest.add_from_event(SOURCE, finished(**OTHER[said]))
    with reopened(manifest) as again:
        assert again.has_checksum(sha("a"))


def test_a_status_may_be_one_of_the_standard_library(manifest: DownloadManifestManager) -> None:
    manifest.fail(SOURCE, "gone", status=HTTPStatus.NOT_FOUND)
    assert [event.status for event in manifest.history()] == [404]


def test_the_failure_of_a_source_without_a_name_is_listed(manifest: DownloadManifestManager) -> None:
    manifest.fail(SimpleNamespace(source_id="", dataset="set"), "no name")
    assert [failure.error for failure in manifest.failures()] == ["no name"]


def test_credentials_in_the_name_of_a_run_are_hidden(manifest: DownloadManifestManager) -> None:
    with manifest.run("load https://me:secret@host/a?key=secret"):
        pass
    assert [run.name for run in manifest.runs()] == ["load https://***@host/a?key=***"]


def finished(**more: Any) -> Any:
    """A finished download with these attributes."""
    given = {"sha256": sha("a"), "file_path": "/raw/a", "file_size_bytes": 3, "etag": None}
    return SimpleNamespace(**given, ts_download_completed=T0, **more)
