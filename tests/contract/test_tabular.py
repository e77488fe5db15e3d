"""Rows, columns and Arrow batches: what the models have, as plain values."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, ManifestError, ManifestRecord

from .builders import record, sha

if TYPE_CHECKING:
    from manifestlog.model.rows import Row

pytestmark = pytest.mark.every_engine

NAMES = list(ManifestRecord.model_fields)
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


@pytest.fixture
def mixed(manifest: DownloadManifestManager) -> DownloadManifestManager:
    """A manifest of every kind of record, some in the canonical, some in the log, one in both, and one forgotten."""
    manifest.add_many(record(str(number), number, etag="e") for number in range(20))
    manifest.save()
    manifest.add(record("3", 30, source="other", last_modified="Mon"))
    manifest.add(record("x", 31, derived_from=(sha("3"), sha("4"))))
    manifest.forget(sha("5"))
    return manifest


def _plain(found: ManifestRecord) -> Row:
    return {name: value or None for name, value in found.model_dump(mode="json").items()}


def _models(manifest: DownloadManifestManager) -> list[Row]:
    return [{name: _plain(one).get(name) for name in NAMES} for one in manifest.records.values()]


def test_rows_are_what_the_canonical_file_has(mixed: DownloadManifestManager) -> None:
    assert list(mixed.rows()) == [one.model_dump(mode="json") for one in mixed.records.values()]


def test_rows_with_columns_have_exactly_these(mixed: DownloadManifestManager) -> None:
    assert list(mixed.rows(NAMES)) == _models(mixed)


def test_columns_come_in_the_order_asked_for(mixed: DownloadManifestManager) -> None:
    assert list(next(mixed.rows(["version", "checksum"]))) == ["version", "checksum"]


def test_column_batches_have_the_values_of_the_rows(mixed: DownloadManifestManager) -> None:
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    for batch in mixed.column_batches():
        for name, values in batch.items():
            found[name] += values
    assert found == {name: [row[name] for row in _models(mixed)] for name in NAMES}


def test_an_empty_manifest_has_no_batch(manifest: DownloadManifestManager) -> None:
    assert list(manifest.column_batches()) == []


@pytest.mark.parametrize("call", ["rows", "column_batches", "arrow_batches"])
def test_an_unknown_column_is_named(manifest: DownloadManifestManager, call: str) -> None:
    with pytest.raises(ValueError, match="no column 'size', only source_id, "):
        getattr(manifest, call)(["checksum", "size"])


def test_rows_are_of_one_moment(mixed: DownloadManifestManager) -> None:
    found = mixed.rows(["checksum"])
    mixed.forget(sha("1"))
    assert sha("1") in [row["checksum"] for row in found]


@needs_pyarrow
def test_arrow_batches_have_the_values_of_the_models(mixed: DownloadManifestManager) -> None:
    found = mixed.arrow_batches(["checksum", "file_size", "ts_downloaded", "etag", "derived_from"]).read_all()
    assert found.to_pylist() == [
        {
            "checksum": one.checksum,
            "file_size": one.file_size,
            "ts_downloaded": one.ts_downloaded,
            "etag": one.etag,
            "derived_from": list(one.derived_from) or None,
        }
        for one in mixed.records.values()
    ]


@needs_pyarrow
def test_arrow_batches_have_other_observations(mixed: DownloadManifestManager) -> None:
    found = mixed.arrow_batches(["also_seen"]).read_all().column("also_seen").to_pylist()
    seen = [[dict(was) for was in one.also_seen] for one in mixed.records.values()]
    expected = [[was | {"file_path": str(was["file_path"])} for was in several] or None for several in seen]
    assert found == expected


@needs_pyarrow
def test_arrow_batches_of_an_empty_manifest_have_a_schema(manifest: DownloadManifestManager) -> None:
    assert manifest.arrow_batches().schema.names == NAMES


def test_arrow_batches_without_pyarrow_say_what_to_install(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ManifestError, match=r"pip install 'manifestlog\[arrow\]'"):
        manifest.arrow_batches()
