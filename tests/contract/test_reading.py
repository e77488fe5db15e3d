"""Lookups, the records view and live metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestRecord, Observation

from .builders import QUIET, at, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

JUNK = [
    "",
    "x",
    sha("a")[:-1],
    sha("a") + "0",
    "g" * 64,
    "é" * 64,
    "０" * 64,
    sha("a") + "\n",
    "\0" * 64,
    "\ud800" * 64,
]


def _in_the_log(manager: DownloadManifestManager) -> None:
    manager.add_many([record("a", etag="e"), record("b", 1, source="other")])


def _compacted(manager: DownloadManifestManager) -> None:
    _in_the_log(manager)
    manager.save()


@pytest.fixture(params=[_in_the_log, _compacted], ids=["log", "canonical"])
def two(request: pytest.FixtureRequest, manifest: DownloadManifestManager) -> DownloadManifestManager:
    """A manifest with two records."""
    fill: Callable[[DownloadManifestManager], None] = request.param
    fill(manifest)
    return manifest


def test_get_gives_the_record(two: DownloadManifestManager) -> None:
    """A known content's record comes back as it was added."""
    assert two.get(sha("a")) == record("a", etag="e")


def test_get_of_the_unknown(two: DownloadManifestManager) -> None:
    """An unknown content is None."""
    assert two.get(sha("x")) is None


@pytest.mark.parametrize("junk", JUNK)
def test_get_of_junk(two: DownloadManifestManager, junk: str) -> None:
    """Text that is no checksum is None."""
    assert two.get(junk) is None


@pytest.mark.parametrize("junk", JUNK)
def test_has_checksum_of_junk(two: DownloadManifestManager, junk: str) -> None:
    """Text that is no checksum was never registered."""
    assert two.has_checksum(junk) is False


@pytest.mark.parametrize("junk", [*JUNK, None, 7, b"x", ("a",), object()])
def test_in_of_junk(two: DownloadManifestManager, junk: object) -> None:
    """What is no checksum is not in the manifest, whatever it is."""
    assert junk not in two


def test_has_checksum(two: DownloadManifestManager) -> None:
    """Known is true, unknown is false."""
    assert [two.has_checksum(sha(c)) for c in "abx"] == [True, True, False]


def test_has_many(two: DownloadManifestManager) -> None:
    """Those that are known, and no others."""
    assert two.has_many([sha("a"), sha("x"), sha("b"), sha("a")]) == {sha("a"), sha("b")}


def test_has_many_of_an_iterator_longer_than_one_question(two: DownloadManifestManager) -> None:
    """Any iterable is taken, of any length."""
    assert two.has_many(sha(str(number % 12_000) if number % 12_000 else "a") for number in range(24_000)) == {sha("a")}


def test_has_many_of_none_and_of_junk(two: DownloadManifestManager) -> None:
    """What is no checksum is left out, and nothing is asked."""
    assert (two.has_many([]), two.has_many(JUNK), two.has_many([*JUNK, sha("a")])) == (set(), set(), {sha("a")})


def test_has_many_answers_with_what_it_was_given(two: DownloadManifestManager) -> None:
    """So that the caller can compare."""
    assert two.has_many([sha("a").upper(), sha("x").upper()]) == {sha("a").upper()}


def test_has_many_of_a_forgotten_content(two: DownloadManifestManager) -> None:
    """It is not known any more."""
    two.forget(sha("a"))
    assert two.has_many([sha("a"), sha("b")]) == {sha("b")}


def test_in(two: DownloadManifestManager) -> None:
    """`in` agrees with `has_checksum`."""
    assert [sha(c) in two for c in "abx"] == [True, True, False]


def test_upper_case_is_normalised_by_has_checksum(two: DownloadManifestManager) -> None:
    """`has_checksum` takes upper-case hex."""
    assert two.has_checksum(sha("a").upper())


def test_upper_case_is_normalised_by_get(two: DownloadManifestManager) -> None:
    """`get` takes upper-case hex."""
    assert two.get(sha("a").upper()) == record("a", etag="e")


def test_upper_case_is_normalised_by_in(two: DownloadManifestManager) -> None:
    """`in` takes upper-case hex."""
    assert sha("a").upper() in two


def test_upper_case_is_normalised_by_the_view(two: DownloadManifestManager) -> None:
    """`records[...]` takes upper-case hex."""
    assert two.records[sha("a").upper()] == record("a", etag="e")


def test_len(two: DownloadManifestManager) -> None:
    """`len` counts contents."""
    assert len(two) == 2


def test_iteration_yields_checksums_sorted(two: DownloadManifestManager) -> None:
    """A manager iterates over its checksums, in order."""
    assert list(two) == sorted([sha("a"), sha("b")])


def test_an_empty_manifest_is_empty(manifest: DownloadManifestManager) -> None:
    """A fresh manifest has no records."""
    assert (len(manifest), list(manifest), dict(manifest.records)) == (0, [], {})


def test_records_is_a_mapping(two: DownloadManifestManager) -> None:
    """The view has all records by checksum."""
    assert dict(two.records) == {sha("a"): record("a", etag="e"), sha("b"): record("b", 1, source="other")}


def test_records_items_agree_with_lookups(two: DownloadManifestManager) -> None:
    """`items` yields what indexing gives."""
    assert list(two.records.items()) == [(c, two.records[c]) for c in two.records]


def test_records_values_agree_with_lookups(two: DownloadManifestManager) -> None:
    """`values` yields what indexing gives."""
    assert list(two.records.values()) == [two.records[c] for c in two.records]


def test_records_raise_key_error(two: DownloadManifestManager) -> None:
    """The view raises `KeyError` as any mapping does."""
    with pytest.raises(KeyError):
        two.records[sha("x")]


def test_records_raise_key_error_for_junk(two: DownloadManifestManager) -> None:
    """Text that is no checksum is a `KeyError` too."""
    with pytest.raises(KeyError):
        two.records["junk"]


def test_records_get_with_a_default(two: DownloadManifestManager) -> None:
    """`records.get` gives its default."""
    fallback = record("x")
    assert two.records.get(sha("x"), fallback) is fallback


def test_records_cannot_be_changed(two: DownloadManifestManager) -> None:
    """The view is read-only."""
    with pytest.raises(TypeError):
        two.records[sha("x")] = record("x")  # type: ignore[index]


@pytest.mark.parametrize("disturb", ["add", "forget", "update", "save", "forget and save"])
def test_an_iteration_sees_one_moment(two: DownloadManifestManager, disturb: str) -> None:
    """What is added, forgotten, updated or compacted while iterating does not show."""
    expected = dict(two.records)
    iterator = iter(two.records.items())
    seen = dict([next(iterator)])
    if disturb == "add":
        two.add_many(record(f"c{n}") for n in range(20))
    if "forget" in disturb:
        two.forget(sha("a"))
        two.forget(sha("b"))
    if disturb == "update":
        for content in "ab":
            two.update(sha(content), {"checksum": sha(content), "etag": "z", "file_path": "/z", "file_size": 9})
    if "save" in disturb:
        two.add(record("c"))
        two.save()
    seen |= dict(iterator)
    assert seen == expected


def test_an_iteration_over_checksums_sees_one_moment(two: DownloadManifestManager) -> None:
    """Iterating over the manager is as consistent as iterating over its records."""
    expected = list(two)
    iterator = iter(two)
    seen = [next(iterator)]
    two.add_many(record(f"c{n}") for n in range(20))
    two.save()
    assert [*seen, *iterator] == expected


def test_the_view_is_live(two: DownloadManifestManager) -> None:
    """A view that was taken before an add shows what was added."""
    view = two.records
    two.add(record("c"))
    assert sha("c") in view


def test_source_lookup_in_its_dataset(two: DownloadManifestManager) -> None:
    """A source is found in its dataset."""
    assert two.get_record_by_source("src", "set") == record("a", etag="e")


def test_source_lookup_in_another_dataset(two: DownloadManifestManager) -> None:
    """A source is not found in a dataset where it has nothing."""
    assert two.get_record_by_source("src", "elsewhere") is None


@pytest.mark.parametrize("unknown", ["", "nobody", "\0", "\U0001f4be", "s" * 100_000])
def test_source_lookup_of_the_unknown(two: DownloadManifestManager, unknown: str) -> None:
    """An unknown source is None."""
    assert two.get_record_by_source(unknown) is None


@pytest.mark.parametrize("unknown", ["\ud800", "src\udcff"])
def test_source_lookup_of_text_that_is_no_unicode(two: DownloadManifestManager, unknown: str) -> None:
    """A source that cannot be in any manifest is not found, and no error."""
    assert two.get_record_by_source(unknown) is None


def test_source_lookup_takes_the_latest_of_all_datasets(manifest: DownloadManifestManager) -> None:
    """Without a dataset, the latest record of the source in any dataset."""
    manifest.add(record("a", 1, dataset="x"))
    manifest.add(record("b", 3, dataset="y"))
    manifest.add(record("c", 2, dataset="z"))
    assert manifest.get_record_by_source("src") == record("b", 3, dataset="y")


def test_source_lookup_across_log_and_canonical(manifest: DownloadManifestManager) -> None:
    """An older record that is only in the log does not hide a newer one in the canonical."""
    manifest.add(record("b", 3))
    manifest.save()
    manifest.add(record("a", 1))
    assert manifest.get_record_by_source("src") == record("b", 3)


def test_a_source_named_like_two_parts_joined(manifest: DownloadManifestManager) -> None:
    """(source_id, dataset) is a pair, however its parts are spelt."""
    manifest.add(record("a", source="x_y", dataset="z"))
    manifest.add(record("b", source="x", dataset="y_z"))
    found = manifest.get_record_by_source("x", "y_z")
    assert found is not None
    assert found.checksum == sha("b")


def test_total_records_is_live(two: DownloadManifestManager) -> None:
    """`metadata.total_records` counts what is there now."""
    two.add(record("c"))
    two.forget(sha("a"))
    two.forget(sha("b"))
    assert two.metadata.total_records == 1


def test_metadata_is_a_copy(two: DownloadManifestManager) -> None:
    """Changing the metadata that was handed out changes nothing in the manifest."""
    two.metadata.total_records = 99
    assert two.metadata.total_records == 2


@pytest.mark.parametrize("change", ["add", "add_many", "forget", "update"])
def test_ts_updated_moves_with_a_change(two: DownloadManifestManager, change: str) -> None:
    """Every change of the records moves `ts_updated`."""
    before = two.metadata.ts_updated
    if change == "add":
        two.add(record("c"))
    elif change == "add_many":
        two.add_many([record("c")])
    elif change == "forget":
        two.forget(sha("a"))
    else:
        two.update(sha("a"), {"checksum": sha("a"), "etag": "z", "file_path": "/z", "file_size": 9})
    assert two.metadata.ts_updated > before


def test_ts_updated_stays_with_a_duplicate(two: DownloadManifestManager) -> None:
    """What changes nothing does not move `ts_updated`."""
    before = two.metadata.ts_updated
    two.add(record("a", etag="e"))
    assert two.metadata.ts_updated == before


def test_ts_updated_is_no_time_of_a_compaction(two: DownloadManifestManager) -> None:
    """A compaction does not move `ts_updated`."""
    two.add(record("c"))
    before = two.metadata.ts_updated
    two.save()
    assert two.metadata.ts_updated == before


@pytest.mark.files_only
def test_ts_updated_is_kept_by_reopening(two: DownloadManifestManager, opener: Opener) -> None:
    """The next opener sees the same time of the last change."""
    two.add(record("c"))
    before = two.metadata.ts_updated
    two.close()
    assert opener(None).metadata.ts_updated == before


def test_ts_created_never_moves(two: DownloadManifestManager, opener: Opener) -> None:
    """`ts_created` is what the manifest was created with."""
    two.save()
    two.close()
    assert opener().metadata.ts_created == at(0)


def test_a_reader_sees_what_a_writer_adds(opener: Opener) -> None:
    """A second opening of the same file in one process is the same manager, so an add shows at once."""
    opener().add(record("a"))
    assert len(opener()) == 1


def test_an_observation_has_the_fields_of_the_contract() -> None:
    """`Observation` says where, when and by which version."""
    assert list(Observation.model_fields) == [
        "source_id", "dataset", "file_path", "etag", "last_modified", "ts_downloaded", "version",
    ]  # fmt: skip


def test_a_record_has_the_fields_of_the_contract() -> None:
    """`ManifestRecord` has the reference fields and the three optional ones."""
    assert set(ManifestRecord.model_fields) == {
        "source_id", "dataset", "checksum", "file_path", "file_size", "etag", "ts_downloaded", "version",
        "last_modified", "also_seen", "derived_from",
    }  # fmt: skip


def test_also_seen_holds_observations(manifest: DownloadManifestManager) -> None:
    """What other sources said comes back as `Observation`s, whole."""
    manifest.add(record("a", 1, etag="e", last_modified="m", version="1.2", file_path="/p"))
    manifest.add(record("a", 2, source="other"))
    found = manifest.get(sha("a"))
    assert found is not None
    assert found.also_seen == (
        Observation(
            source_id="src",
            dataset="set",
            file_path=Path("/p"),
            etag="e",
            last_modified="m",
            ts_downloaded=at(1),
            version="1.2",
        ),
    )


def test_empty_optional_fields_are_absent_from_json(manifest: DownloadManifestManager) -> None:
    """A record's JSON has the optional fields only when they say something, and `etag` always."""
    assert manifest.add(record("a")).record.model_dump(mode="json") == {
        "source_id": "src",
        "dataset": "set",
        "checksum": sha("a"),
        "file_path": "/raw/a",
        "file_size": 2,
        "etag": None,
        "ts_downloaded": "2023-01-01T12:00:00Z",
        "version": "1.0.0",
    }


@pytest.mark.files_only
def test_the_same_words_for_both_managers(opener: Opener) -> None:
    """An add through one handle is read through another that was opened read-only afterwards."""
    with opener(options=QUIET) as manifest:
        manifest.add(record("a"))
    assert sha("a") in opener(None, read_only=True)
