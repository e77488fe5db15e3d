"""`repair` of a canonical file that is damaged in any way: what comes back, and what is said of the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager
from support.damage import ALL, FORGOTTEN, IN_CANONICAL, files, fill, flip, line_of, mend, named, stored
from support.integrity import segments
from support.records import MANUAL, NAME, checksum, make_record, metadata

ONLY_CANONICAL = {checksum(n) for n in IN_CANONICAL} - {checksum(FORGOTTEN)}
ONLY_LOG = ALL - ONLY_CANONICAL


@pytest.fixture
def path(directory: Path) -> Path:
    return fill(directory / NAME)


@pytest.fixture
def no_index(path: Path) -> Path:
    files(path)["index"].unlink()
    return path


def _changed(number: int, etag: str) -> dict[str, object]:
    return make_record(number).model_copy(update={"etag": etag}).model_dump(exclude_defaults=True)


# -- one record --------------------------------------------------------------------------------------------------------


def test_one_damaged_line_costs_one_record(path: Path) -> None:
    flip(path, line_of(path, checksum(0)).start + 100)
    report = mend(path)
    assert stored(path).keys() == ALL - named(report)
    assert named(report) == {checksum(0)}


def test_one_damaged_line_costs_one_record_without_an_index_too(no_index: Path) -> None:
    flip(no_index, line_of(no_index, checksum(0)).start + 100)
    report = mend(no_index)
    assert stored(no_index).keys() == ALL - {checksum(0)}
    assert report.lost


def test_the_readable_part_of_a_damaged_line_names_the_record(no_index: Path) -> None:
    flip(no_index, line_of(no_index, checksum(0)).start + 80)
    assert named(mend(no_index)) == {checksum(0)}


def test_a_damaged_newline_costs_nothing(no_index: Path) -> None:
    flip(no_index, line_of(no_index, checksum(0)).stop)
    report = mend(no_index)
    assert (set(stored(no_index)), report.lost) == (ALL, [])


def test_a_value_that_was_hit_in_a_damaged_file_does_not_pass_the_index(path: Path) -> None:
    """It still parses, but the index knows its CRC."""
    flip(path, path.read_bytes().index(b"/raw/1.json"))
    flip(path, line_of(path, checksum(0)).start + 100)
    assert named(mend(path)) == {checksum(0), checksum(1)}


def test_a_damaged_record_that_the_log_names_is_not_lost(path: Path) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.update(checksum(0), _changed(0, '"new"'))
    flip(path, line_of(path, checksum(0)).start + 100)
    report = mend(path)
    assert report.lost == []
    assert stored(path)[checksum(0)].etag == '"new"'


def test_a_damaged_record_that_was_forgotten_is_not_lost(path: Path) -> None:
    flip(path, line_of(path, checksum(FORGOTTEN)).start + 100)
    report = mend(path)
    assert (set(stored(path)), report.lost) == (ALL, [])


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_cut_canonical_keeps_what_is_before_the_cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    before = {c for c in ONLY_CANONICAL if data.index(c.encode()) < len(data) * share - 400}
    path.write_bytes(data[: int(len(data) * share)])
    report = mend(path)
    assert before | ONLY_LOG <= stored(path).keys() == ALL - named(report)


@pytest.mark.parametrize("junk", [b"", b"hello", bytes(5000), b"{}", b"[" * 100_000, b"\xff" * 100])
def test_an_unusable_canonical_leaves_the_log(path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    report = mend(path)
    assert (set(stored(path)), named(report)) == (ONLY_LOG, ONLY_CANONICAL)


def test_a_missing_canonical_is_rebuilt_from_a_log_that_begins_with_it(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add_many([make_record(n) for n in range(5)])
    path.unlink()
    report = mend(path)
    assert [loss.meaning for loss in report.lost if "metadata" not in loss.meaning] == []
    assert stored(path).keys() == {checksum(n) for n in range(5)}


def test_a_missing_canonical_after_a_compaction_is_named_record_by_record(path: Path) -> None:
    path.unlink()
    report = mend(path)
    assert (set(stored(path)), named(report)) == (ONLY_LOG, ONLY_CANONICAL)


def test_a_missing_canonical_without_index_is_reported_as_lost(no_index: Path) -> None:
    no_index.unlink()
    report = mend(no_index)
    assert stored(no_index).keys() == ONLY_LOG
    assert "missing" in report.lost[0].meaning


def test_leftovers_of_a_compaction_help_to_rebuild(tmp_path: Path) -> None:
    """Covered segments that are still there hold what the damaged canonical held."""
    path = tmp_path / NAME
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add_many([make_record(n) for n in range(3)])
        kept = {file: file.read_bytes() for file in segments(path).values()}
        manifest.add_many([make_record(n) for n in range(3, 5)])
        manifest.forget(checksum(1))
        covered = {file: file.read_bytes() for file in segments(path).values()}
        manifest.save()
    del kept
    for file, data in covered.items():
        file.write_bytes(data)
    path.write_bytes(b"gone")
    report = mend(path)
    assert stored(path).keys() == {checksum(n) for n in (0, 2, 3, 4)}
    assert named(report) == set()


# -- metadata ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["process", "etl_version", "root_dir", "ts_created", "ts_updated"])
def test_damaged_metadata_comes_from_the_index(path: Path, member: str) -> None:
    with DownloadManifestManager(path, read_only=True) as manifest:
        before = manifest.metadata
    flip(path, path.read_bytes().index(member.encode()) + 2)
    report = mend(path)
    with DownloadManifestManager(path, read_only=True) as manifest:
        after = manifest.metadata
    assert report.lost == []
    assert after.model_copy(update={"ts_updated": before.ts_updated}) == before


@pytest.mark.parametrize("member", ["ts_created", "ts_updated"])
def test_damaged_metadata_that_other_files_state_is_not_a_loss(no_index: Path, member: str) -> None:
    flip(no_index, no_index.read_bytes().index(member.encode()) + 2)
    report = mend(no_index)
    assert report.lost == []
    assert stored(no_index).keys() == ALL


def test_a_wrong_number_of_records_is_not_a_loss(path: Path) -> None:
    flip(path, path.read_bytes().index(b'"total_records": ') + len(b'"total_records": '))
    report = mend(path)
    assert report.lost == []
    assert stored(path).keys() == ALL


def test_metadata_that_no_file_states_is_made_up_and_reported(no_index: Path) -> None:
    flip(no_index, no_index.read_bytes().index(b"etl_version") + 2)
    report = mend(no_index)
    assert [loss.meaning for loss in report.lost] == [
        "metadata that no file states any more was made up: etl_version (now '0')"
    ]


def test_metadata_that_the_log_has_changed_stays_changed(path: Path) -> None:
    with DownloadManifestManager(path, metadata().model_copy(update={"etl_version": "2.5"}), options=MANUAL):
        pass
    flip(path, path.read_bytes().index(b"etl_version") + 2)
    mend(path)
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.metadata.etl_version == "2.5"


# -- swapped, old, edited ----------------------------------------------------------------------------------------------


def test_another_manifests_canonical_is_left_out(path: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "other" / NAME)
    with DownloadManifestManager(other, options=MANUAL) as manifest:
        manifest.add_many([make_record(n) for n in range(100, 103)])
        manifest.save()
    shutil.copyfile(other, path)
    report = mend(path)
    assert stored(path).keys() == ONLY_LOG
    assert "another manifest" in report.lost[0].meaning
    assert named(report) == ONLY_CANONICAL


def test_an_older_canonical_is_kept_under_the_log_and_what_is_missing_is_named(path: Path) -> None:
    older = path.read_bytes()
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.save()
        manifest.add(make_record(100))
    path.write_bytes(older)
    report = mend(path)
    assert named(report) == ONLY_LOG
    assert stored(path).keys() == {checksum(n) for n in IN_CANONICAL} | {checksum(100)}


def _edit(path: Path, number: int, **changes: object) -> None:
    document = json.loads(path.read_bytes())
    document["records"][checksum(number)] |= changes
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def test_a_record_that_was_edited_by_hand_is_kept_and_named(path: Path) -> None:
    _edit(path, 0, etag='"by hand"')
    report = mend(path)
    assert stored(path)[checksum(0)].etag == '"by hand"'
    assert named(report) == {checksum(0)}


def test_the_log_overrides_an_edit_by_hand(path: Path) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.update(checksum(0), _changed(0, '"logged"'))
    _edit(path, 0, etag='"by hand"')
    report = mend(path)
    assert stored(path)[checksum(0)].etag == '"logged"'
    assert report.lost == []


def test_a_reformatted_canonical_has_lost_nothing(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1), encoding="utf-8")
    report = mend(path)
    assert (set(stored(path)), report.lost) == (ALL, [])


def test_a_record_that_was_taken_out_by_hand_is_named(path: Path) -> None:
    document = json.loads(path.read_bytes())
    del document["records"][checksum(0)]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert named(mend(path)) == {checksum(0)}


def test_without_an_index_an_edited_canonical_is_kept_and_doubted(no_index: Path) -> None:
    _edit(no_index, 0, etag='"by hand"')
    report = mend(no_index)
    assert stored(no_index)[checksum(0)].etag == '"by hand"'
    assert len(report.lost) == 1


def _remove_all_but(path: Path) -> None:
    data = path.read_bytes()
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_bytes(data)


def test_records_of_a_damaged_canonical_in_another_layout_are_kept(tmp_path: Path) -> None:
    path = fill(tmp_path / NAME)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.save()
    document = json.loads(path.read_bytes())
    _remove_all_but(path)
    path.write_text(json.dumps(document, indent=3), encoding="utf-8")
    flip(path, path.read_bytes().index(b'"file_size"', path.read_bytes().index(checksum(7).encode())))
    report = mend(path)
    assert stored(path).keys() == ALL - {checksum(7)}
    assert named(report) == {checksum(7)}


def test_a_canonical_without_log_and_index_is_salvaged(tmp_path: Path) -> None:
    path = fill(tmp_path / NAME)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.save()
    _remove_all_but(path)
    flip(path, line_of(path, checksum(7)).start + 100)
    mend(path)
    assert stored(path).keys() == ALL - {checksum(7)}


@pytest.mark.parametrize("dry_run", [True, False])
def test_without_any_data_no_empty_manifest_is_created(tmp_path: Path, *, dry_run: bool) -> None:
    path = tmp_path / NAME
    path.write_bytes(bytes(1000))
    with pytest.raises(DamagedManifestError, match="nothing can be saved"):
        mend(path, dry_run=dry_run)
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".lock"] == [NAME]
