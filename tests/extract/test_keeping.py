"""What is kept and where: pinned contents, taken names, full disks."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import source
from extract.running import Here, pattern, sha256
from manifestlog import DownloadManifestManager, ManifestRecord
from manifestlog.extract import Result, RunReport, claims
from manifestlog.extract.part_file import PartFile
from support import answers
from support.records import QUICK, metadata

if TYPE_CHECKING:
    from support.badserver import BadServer
    from support.children import Link, Start

BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'


# -- pinned ------------------------------------------------------------------------------------------------------------


def test_a_file_that_matches_its_pin_is_registered(here: Here, bad: BadServer) -> None:
    one = source(bad.script("/a", answers.whole(BODY, ETAG)), checksum=sha256(BODY).upper())
    assert here.one(one).result is Result.NEW


def test_a_file_that_differs_from_its_pin_fails(here: Here, bad: BadServer) -> None:
    outcome = here.one(source(bad.script("/a", answers.whole(BODY, ETAG)), checksum=sha256(OTHER)))
    assert (outcome.result, len(here.manifest.records)) == (Result.FAILED, 0)


def test_a_wrong_pinned_file_is_kept_as_rejected(here: Here, bad: BadServer) -> None:
    here.one(source(bad.script("/a", answers.whole(BODY, ETAG)), checksum=sha256(OTHER)))
    (kept,) = here.files
    assert (kept.endswith(".rejected"), (here.data_dir / kept).read_bytes()) == (True, BODY)


def test_a_wrong_pinned_file_is_reported_with_both_checksums_and_its_path(here: Here, bad: BadServer) -> None:
    error = here.one(source(bad.script("/a", answers.whole(BODY)), checksum=sha256(OTHER))).error
    (kept,) = here.files
    assert error is not None
    assert all(text in error for text in (sha256(BODY), sha256(OTHER), str(here.data_dir / kept)))


def test_the_path_of_a_wrong_pinned_file_is_never_redacted(here: Here, bad: BadServer) -> None:
    url = bad.script("/export?format=json&year=2024", answers.whole(BODY))
    error = here.one(source(url, file_name="prices-2024.json.gz", checksum=sha256(OTHER))).error
    (kept,) = here.files
    assert error is not None
    assert error.startswith(f"{here.data_dir / kept}: the download was rejected")


def test_a_pinned_file_that_stays_wrong_is_kept_as_rejected_once(here: Here, bad: BadServer) -> None:
    one = source(bad.script("/a", answers.changing(BODY, OTHER)), checksum="0" * 64)
    here.one(one)
    here.one(one)
    (kept,) = here.files
    assert (here.data_dir / kept).read_bytes() == OTHER


def test_a_pinned_file_that_is_right_later_is_registered_then(here: Here, bad: BadServer) -> None:
    one = source(bad.script("/a", answers.changing(OTHER, BODY)), checksum=sha256(BODY))
    assert [here.one(one).result for _ in range(2)] == [Result.FAILED, Result.NEW]


def test_a_pinned_file_is_unchanged_when_it_is(here: Here, bad: BadServer) -> None:
    one = source(bad.script("/a", answers.whole(BODY, ETAG)), checksum=sha256(BODY))
    here.one(one)
    assert (here.one(one).result, bad.bodies["/a"]) == (Result.UNCHANGED, len(BODY))


def test_a_new_pin_is_checked_though_the_server_has_nothing_new(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    here.one(source(url))
    assert here.one(source(url, checksum=sha256(OTHER))).result is Result.FAILED


def test_a_new_pin_that_fails_leaves_the_record(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    here.one(source(url))
    here.one(source(url, checksum=sha256(OTHER)))
    assert set(here.manifest.records) == {sha256(BODY)}


def test_content_that_is_registered_as_a_rejected_file_is_stored_again(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    here.one(source(url, checksum=sha256(OTHER)))
    (rejected,) = here.files
    by_add = ManifestRecord(
        source_id=rejected,
        dataset="data",
        checksum=sha256(BODY),
        file_path=here.data_dir / rejected,
        file_size=len(BODY),
        ts_downloaded=datetime.now(UTC),
        version="1",
    )
    here.manifest.add(by_add)
    here.one(source(url))
    assert here.record("spansh_systems", "star_systems").file_path.name == "a"


def test_a_pin_of_earlier_content_reverts(here: Here, bad: BadServer) -> None:
    steps = (answers.whole(BODY, ETAG), answers.whole(OTHER, '"b"'), answers.whole(BODY, ETAG))
    url = bad.script("/a", *steps)
    here.one(source(url))
    here.one(source(url))
    assert here.one(source(url, checksum=sha256(BODY))).result is Result.REVERTED


# -- names in use ------------------------------------------------------------------------------------------------------


def foreign(here: Here, name: str, body: bytes) -> Path:
    path = here.data_dir / "systems" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


SECOND = f"a-{sha256(BODY)[:12]}"


def test_the_name_of_a_foreign_file_is_not_used(here: Here, bad: BadServer) -> None:
    foreign(here, "a", b"foreign")
    here.fetch(bad.script("/a", answers.whole(BODY)))
    assert (here.files, here.record().file_path.name) == (["systems/a", f"systems/{SECOND}"], SECOND)


def test_a_foreign_file_stays_as_it_is(here: Here, bad: BadServer) -> None:
    path = foreign(here, "a", b"foreign")
    here.fetch(bad.script("/a", answers.whole(BODY)))
    assert path.read_bytes() == b"foreign"


def test_a_foreign_file_of_the_same_length_stays_as_it_is(here: Here, bad: BadServer) -> None:
    path = foreign(here, "a", BODY[::-1])
    here.fetch(bad.script("/a", answers.whole(BODY)))
    assert (path.read_bytes(), here.body()) == (BODY[::-1], BODY)


def test_a_foreign_file_of_the_same_content_is_the_file(here: Here, bad: BadServer) -> None:
    foreign(here, "a", BODY)
    here.fetch(bad.script("/a", answers.whole(BODY)))
    assert (here.files, here.record().file_path.name) == (["systems/a"], "a")


def test_a_directory_of_that_name_stays(here: Here, bad: BadServer) -> None:
    foreign(here, "a/b", b"foreign")
    here.fetch(bad.script("/a", answers.whole(BODY)))
    assert here.record().file_path.name == SECOND


def test_where_both_names_are_taken_the_source_fails(here: Here, bad: BadServer) -> None:
    foreign(here, "a", b"foreign")
    foreign(here, SECOND, b"foreign too")
    outcome = here.fetch(bad.script("/a", answers.whole(BODY, ETAG)))
    assert (outcome.result, len(here.manifest.records)) == (Result.FAILED, 0)


def test_where_both_names_were_taken_the_next_run_continues(here: Here, bad: BadServer) -> None:
    foreign(here, "a", b"foreign")
    second = foreign(here, SECOND, b"foreign too")
    url = bad.script("/a", answers.whole(BODY, ETAG))
    here.fetch(url)
    second.unlink()
    here.fetch(url)
    assert (here.body(), bad.bodies["/a"]) == (BODY, len(BODY))


def test_a_name_in_use_by_another_worker_is_not_used_through_any_link_to_the_directory(
    here: Here, bad: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(here.data_dir)
    real, inner = PartFile.record_intent, []

    def interrupted(*args: Any) -> None:
        monkeypatch.setattr(PartFile, "record_intent", real)
        inner.append(Here(here.manifest, tmp_path / "link").fetch(f"{bad.url}/sub/a", source_id="b").result)
        real(*args)

    monkeypatch.setattr(PartFile, "record_intent", interrupted)
    monkeypatch.setattr(claims, "_WAIT_S", 0.0)
    bad.script("/sub/a", answers.whole(OTHER))
    here.fetch(bad.script("/a", answers.whole(BODY)))
    assert (here.body(), inner) == (BODY, [Result.FAILED])


def test_a_file_where_the_folder_should_be_fails_this_source_only(here: Here, bad: BadServer) -> None:
    foreign(here, "sub", b"foreign")
    report = here.run(
        source(bad.script("/a", answers.whole(BODY)), source_id="a", dataset="systems/sub"),
        source(bad.script("/b", answers.whole(BODY)), source_id="b", dataset="systems"),
    )
    assert {outcome.source_id: outcome.result for outcome in report.outcomes} == {
        "a": Result.FAILED, "b": Result.NEW,
    }  # fmt: skip


# -- full disks --------------------------------------------------------------------------------------------------------

ROOM_BYTES = 64 * 1024
LARGE = pattern(200_000)


def run_without_room(link: Link, path: Path, data_dir: Path, urls: list[str]) -> RunReport:
    """Run while no file can grow beyond this size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, ROOM_BYTES))
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        sources = [source(url, source_id=url[-1], dataset="systems") for url in urls]
        return Here(manifest, data_dir).run(*sources)


@pytest.fixture
def full(start: Start, path: Path, here: Here, bad: BadServer, no_small_bodies: None) -> RunReport:
    """The report of a run with a file that is too large, and another one."""
    urls = [bad.script("/a", answers.whole(LARGE, ETAG)), bad.script("/b", answers.whole(BODY))]
    report = start(run_without_room, path, here.data_dir, urls).result()
    assert isinstance(report, RunReport)
    return report


def test_a_full_disk_fails_the_source(full: RunReport) -> None:
    assert {outcome.source_id: outcome.result for outcome in full.outcomes}["a"] is Result.FAILED


def test_a_full_disk_is_reported_with_its_path(full: RunReport, here: Here) -> None:
    (failure,) = full.failures
    assert failure.error is not None
    assert failure.error.startswith(str(here.part))


def test_the_others_continue_after_a_full_disk(full: RunReport, here: Here) -> None:
    assert {outcome.source_id: outcome.result for outcome in full.outcomes}["b"] is Result.NEW
    assert here.body("b") == BODY


def test_the_next_run_continues_where_the_disk_was_full(full: RunReport, here: Here, bad: BadServer) -> None:
    kept = here.part.stat().st_size
    outcome = here.fetch(f"{bad.url}/a")
    assert (here.body(), outcome.bytes_fetched) == (LARGE, len(LARGE) - kept)
    assert kept == ROOM_BYTES


def test_known_content_with_a_relative_path_is_found_from_any_working_folder(
    tmp_path: Path, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "theirs" / "b"
    file.parent.mkdir()
    file.write_bytes(BODY)
    monkeypatch.chdir("/")
    path = tmp_path / "manifests" / "systems_download.manifest.json"
    with DownloadManifestManager(path, metadata().model_copy(update={"root_dir": ".."}), options=QUICK) as manifest:
        manifest.add(
            ManifestRecord(
                source_id="theirs",
                dataset="theirs",
                checksum=sha256(BODY),
                file_path=Path("theirs/b"),
                file_size=len(BODY),
                ts_downloaded=datetime.now(UTC),
                version="1",
            )
        )
        outcome = Here(manifest, tmp_path / "data").one(source(bad.script("/a", answers.whole(BODY, ETAG))))
    assert (outcome.result, outcome.file_path) == (Result.ALIAS, str(file))
