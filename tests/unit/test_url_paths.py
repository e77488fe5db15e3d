"""Paths that are URLs: their text, their names, and what a record makes of them."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from manifestlog import ManifestRecord
from manifestlog.model import roots
from manifestlog.model.models import record_from_row, record_from_stored, row_from_record
from manifestlog.model.relocation import Move
from manifestlog.model.url_paths import UrlPath, path_of
from manifestlog.names import is_url

URL = "s3://bucket/raw/star systems/a-1.json.gz"
FOUND = UrlPath(URL)
ROW: dict[str, Any] = {
    "source_id": "a", "dataset": "d", "checksum": "ab" * 32, "file_path": URL, "file_size": 1, "etag": None,
    "ts_downloaded": "2024-01-01T00:00:00Z", "version": "1",
}  # fmt: skip


def test_its_text_is_the_url() -> None:
    assert (str(FOUND), os.fspath(FOUND), f"{FOUND}") == (URL, URL, URL)


def test_its_parts_are_named_as_a_paths_are() -> None:
    assert (FOUND.name, FOUND.suffix, str(FOUND.parent)) == ("a-1.json.gz", ".gz", "s3://bucket/raw/star systems")


@pytest.mark.parametrize(
    "made",
    [
        UrlPath("s3://bucket/raw") / "a",
        UrlPath("s3://bucket/raw").joinpath("a"),
        UrlPath("s3://bucket/raw/b").with_name("a"),
    ],
)
def test_what_is_made_of_it_is_a_url(made: Path) -> None:
    assert (str(made), type(made)) == ("s3://bucket/raw/a", UrlPath)


def test_it_survives_pickling() -> None:
    assert str(pickle.loads(pickle.dumps(FOUND))) == URL


def test_joined_to_a_directory_it_stays_itself() -> None:
    assert (str(Path("/srv/etl") / FOUND), FOUND.is_absolute()) == (URL, True)


@pytest.mark.parametrize("text", ["s3://b/k", "gs://b/k", "abfss://c/k", "sftp://host/k"])
def test_a_scheme_and_two_slashes_make_a_url(text: str) -> None:
    assert (is_url(text), str(path_of(text))) == (True, text)


@pytest.mark.parametrize("text", ["/srv/a", "a/b", "s3:/b/k", "a://b", "://b", "1s://b", "d/s3://b", "s3"])
def test_everything_else_is_a_path(text: str) -> None:
    assert (is_url(text), type(path_of(text))) == (False, type(Path()))


@pytest.mark.parametrize("made", [record_from_row, record_from_stored])
def test_a_record_keeps_its_url(made: object) -> None:
    assert callable(made)
    record = made(ROW)
    assert (str(record.file_path), row_from_record(record)["file_path"]) == (URL, URL)


def test_a_record_is_written_as_json_with_its_url() -> None:
    assert json.loads(record_from_row(ROW).model_dump_json())["file_path"] == URL


def test_a_record_may_be_made_with_the_text_of_a_url() -> None:
    assert str(ManifestRecord(**ROW).file_path) == URL


@pytest.mark.parametrize("root", ["/srv/etl", "/"])
def test_a_url_depends_on_no_root(root: str) -> None:
    assert (roots.below(root, URL), roots.stated(root, URL), roots.is_absolute(URL)) == (URL, URL, True)


@pytest.mark.parametrize(
    ("path", "moved"),
    [
        ("/srv/etl/data/raw/a", "s3://bucket/raw/a"),
        ("data/raw/a", "s3://bucket/raw/a"),
        ("/srv/etl/data/b", "/srv/etl/data/b"),
        ("data/b", "data/b"),
        ("s3://bucket/raw/c", "s3://bucket/raw/c"),
    ],
)
def test_files_move_from_a_directory_to_a_store(path: str, moved: str) -> None:
    assert Move("/srv/etl/manifests", "..", "/srv/etl/data/raw", "s3://bucket/raw").path(path) == moved


def test_a_root_that_moves_to_a_store_stays() -> None:
    move = Move("/srv/etl/manifests", "../data", "/srv/etl/data", "s3://bucket")
    assert (move.root_dir, move.path("raw/a")) == (None, "s3://bucket/raw/a")


def test_files_move_from_a_store_to_a_directory() -> None:
    assert Move("/srv/etl", ".", "s3://bucket/raw", "/srv/raw").path("s3://bucket/raw/a") == "/srv/raw/a"


def test_files_move_between_stores() -> None:
    assert Move("/srv/etl", ".", "s3://old/raw", "s3://new/raw").path("s3://old/raw/a") == "s3://new/raw/a"
