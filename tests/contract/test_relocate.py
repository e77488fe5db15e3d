"""`relocate` and roots as the library gives them: where a path leads after a move, and what is written for that."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import QUIET, meta, record
from manifestlog import DownloadManifestManager, Observation, ReadOnlyError, RecordRejectedError, Relocation, Verdict

if TYPE_CHECKING:
    from manifestlog import ManifestRecord


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m" / "t_download.manifest.json"


def made(path: Path, root_dir: str, *records: ManifestRecord, **options: Any) -> DownloadManifestManager:
    manifest = DownloadManifestManager(path, meta(root_dir=Path(root_dir)), options=replace(QUIET, **options))
    manifest.add_many(records)
    return manifest


def at(file_path: str, content: str = "a", **more: Any) -> ManifestRecord:
    return record(content, file_path=Path(file_path), **more)


def lines(path: Path) -> list[dict[str, Any]]:
    (segment,) = path.parent.glob("*.wal-*.jsonl")
    return [json.loads(line) for line in segment.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("root_dir", "before", "after"),
    [
        ("/srv", "/old/d/a", "/new/d/a"),
        ("/srv", "/old", "/new"),
        ("/srv", "/older/a", "/older/a"),
        ("/srv", "/else/a", "/else/a"),
        ("/old", "d/a", "/new/d/a"),
        ("/old/m", "../d/a", "/new/d/a"),
        ("/old/m", "../../else/a", "/else/a"),
        ("/", "old/a", "/new/a"),
        ("/srv", "../old/a", "/new/a"),
        ("/srv", "d/a", "/srv/d/a"),
    ],
)
def test_a_path_leads_to_the_same_place_below_the_new_directory(
    path: Path, root_dir: str, before: str, after: str
) -> None:
    with made(path, root_dir, at(before)) as manifest:
        manifest.relocate("/old", "/new")
        (found,) = manifest.records.values()
        assert os.path.normpath(manifest.locate(found)) == after


def test_paths_of_other_sources_move_as_well(path: Path) -> None:
    with made(path, "/srv", at("/old/a"), at("/old/b", source="other", minute=1)) as manifest:
        manifest.relocate("/old", "/new")
        (found,) = manifest.records.values()
        both: list[ManifestRecord | Observation] = [found, *found.also_seen]
        assert [str(manifest.locate(one)) for one in both] == ["/new/b", "/new/a"]


def test_nothing_but_paths_changes(path: Path) -> None:
    before = at("/old/a", etag='"e"', last_modified="x")
    with made(path, "/srv", before) as manifest:
        manifest.relocate("/old", "/new")
        assert manifest.get(before.checksum) == before.model_copy(update={"file_path": Path("/new/a")})


def test_it_reports_its_changes(path: Path) -> None:
    with made(path, "/srv", at("/old/a"), at("/old/b", source="o", minute=1), at("/x", "c")) as manifest:
        assert manifest.relocate("/old", "/new") == Relocation(1, 2, None, 1)


def test_doing_it_again_changes_nothing(path: Path) -> None:
    with made(path, "/old", at("/old/a"), at("b", "b")) as manifest:
        manifest.relocate("/old", "/new")
        size = len(lines(path))
        assert (manifest.relocate("/old", "/new"), len(lines(path))) == (Relocation(0, 0, None, 0), size)


def test_all_records_are_one_batch(path: Path) -> None:
    many = [at(f"/old/{n}", str(n), source=str(n)) for n in range(50)]
    with made(path, "/srv", *many, batch_records_max=10) as manifest:
        manifest.relocate("/old", "/new")
        last = lines(path)[-1]
        assert (last["op"], len(last["records"])) == ("batch", 50)


def test_more_records_than_a_segment_holds_are_several_batches(path: Path) -> None:
    many = [at(f"/old/{n}", str(n), source=str(n)) for n in range(50)]
    with made(path, "/srv", *many, segment_bytes_max=4_000) as manifest:
        assert manifest.relocate("/old", "/new").batches > 1
        assert {str(one.file_path.parent) for one in manifest.records.values()} == {"/new"}


def test_a_dry_run_writes_nothing(path: Path) -> None:
    made(path, "/old", at("/old/a")).close()
    before = path.read_bytes(), lines(path)
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.relocate("/old", "/new", dry_run=True) == Relocation(1, 1, "/new", 1)
    assert (path.read_bytes(), lines(path)) == before


def test_a_read_only_manifest_refuses(path: Path) -> None:
    made(path, "/srv", at("/old/a")).close()
    with DownloadManifestManager(path, read_only=True) as manifest, pytest.raises(ReadOnlyError):
        manifest.relocate("/old", "/new")


def test_a_record_that_grows_too_large_leaves_everything_as_it_was(path: Path) -> None:
    with made(path, "/srv", at("/old/a"), at("/old/b", "b"), record_bytes_max=400) as manifest:
        with pytest.raises(RecordRejectedError):
            manifest.relocate("/old", "/" + "n" * 400)
        assert {str(one.file_path.parent) for one in manifest.records.values()} == {"/old"}


@pytest.mark.parametrize("folders", [("old", "/new"), ("/old", "new")])
def test_relative_directories_are_rejected(path: Path, folders: tuple[str, str]) -> None:
    with made(path, "/srv") as manifest, pytest.raises(ValueError, match="absolute"):
        manifest.relocate(*folders)


def test_a_root_that_moves_takes_relative_paths_along_unchanged(path: Path) -> None:
    with made(path, "/old/data", at("d/a")) as manifest:
        done = manifest.relocate("/old", "/new")
        (found,) = manifest.records.values()
        assert (done, found.file_path) == (Relocation(0, 0, "/new/data", 0), Path("d/a"))


def test_it_survives_a_compaction(path: Path) -> None:
    with made(path, "/srv", at("/old/a")) as manifest:
        manifest.save()
        manifest.relocate("/old", "/new")
        manifest.save()
    assert "/old" not in path.read_text("utf-8")


# -- one file is one path, however it is written -----------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("/srv/etl/a", "a"), ("a", "/srv/etl/a"), ("a", "./x/../a")])
def test_the_same_file_with_another_spelling_is_a_duplicate(path: Path, first: str, second: str) -> None:
    with made(path, "/srv/etl", at(first)) as manifest:
        assert manifest.add(at(second, minute=1)).verdict is Verdict.DUPLICATE


def test_another_file_is_still_refreshed(path: Path) -> None:
    with made(path, "/srv/etl", at("/srv/a")) as manifest:
        assert manifest.add(at("a", minute=1)).verdict is Verdict.REFRESHED


@pytest.mark.parametrize(
    ("given", "stated"),
    [("{m}/../data/a", None), ("{top}/data/a", "data/a"), ("/else/a", "/else/a"), ("{top}", "{top}"), ("b", "b")],
)
def test_a_path_below_the_root_is_stated_relative_to_it(
    path: Path, tmp_path: Path, given: str, stated: str | None
) -> None:
    names = {"m": path.parent, "top": tmp_path}
    with made(path, "..") as manifest:
        found = manifest.stated(given.format(**names))
    assert found == Path("data/a" if stated is None else stated.format(**names))


def test_another_root_does_not_lead_relative_paths_elsewhere(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(path, "/srv", at("d/a")).close()
    with made(path, "/other") as manifest:
        assert (manifest.root, "root_dir stays /srv" in caplog.text) == (Path("/srv"), True)


def test_a_manifest_with_another_root_can_be_opened_again(path: Path) -> None:
    made(path, "/srv", at("d/a")).close()
    with made(path, "/other") as manifest:
        assert made(path, "/other") is manifest
