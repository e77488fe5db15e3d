"""Whatever lies in the place of the history, or in it: records are added and kept, and one line says what to do."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from manifestlog import (
    DiskFullError,
    DownloadManifestManager,
    HistoryReachError,
    HistoryUnavailableError,
    ManifestError,
    ReadOnlyError,
    names,
)
from manifestlog.engines.filelog.history import pack
from manifestlog.engines.filelog.recovery import repair_history
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.engines.reports import RepairOutcome
from manifestlog.files import disk
from support.damage import flip
from support.records import MANUAL, NAME, checksum, make_record, metadata

from .test_history_damage import _pack_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.children import Link, Start

STEM = "systems_download.manifest"
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A manifest with three compactions and their three segments in the history."""
    return make(tmp_path / "manifests" / NAME)


def make(path: Path, count: int = 3) -> Path:
    path.parent.mkdir()
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        _add(manifest, range(count))
    return path


def _add(manifest: DownloadManifestManager, numbers: range) -> None:
    for number in numbers:
        manifest.add(make_record(number))
        manifest.compact()


def _history(path: Path) -> Path:
    return path.parent / "history"


def _kept(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in _history(path).iterdir()}


def _findings(path: Path, level: str = "damage") -> list[tuple[str, str]]:
    found = check(names.resolve(path)).findings
    return [(os.path.basename(one.file), one.meaning) for one in found if one.level == level]


def _contents(path: Path) -> list[str | None]:
    with DownloadManifestManager(path, read_only=True) as manifest:
        return [event.checksum for event in manifest.history(reverse=False)]


# -- what is in the place of the directory -----------------------------------------------------------------------------


def _file(place: Path) -> None:
    place.write_text("a note", encoding="ascii")


def _dangling(place: Path) -> None:
    place.symlink_to("unmounted")


def _circle(place: Path) -> None:
    place.symlink_to("history")


def _other_file_system(place: Path) -> None:
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(place.parent).st_dev:
        pytest.skip("no second file system here")
    place.symlink_to(tempfile.mkdtemp(dir="/dev/shm"))


no_directory = pytest.mark.parametrize("in_place", [_file, _dangling, _circle])
unusable = pytest.mark.parametrize("in_place", [_file, _dangling, _circle, _other_file_system])


@pytest.fixture
def without(path: Path, in_place: Callable[[Path], None]) -> Iterator[Path]:
    """The manifest, with something else in the place of its history."""
    _history(path).rename(path.parent / "history.away")
    in_place(_history(path))
    yield path
    if _history(path).is_dir():
        shutil.rmtree(_history(path).resolve())


@unusable
def test_without_a_usable_history_records_are_added_and_compacted(without: Path) -> None:
    with DownloadManifestManager(without, options=MANUAL) as manifest:
        _add(manifest, range(3, 5))
    with DownloadManifestManager(without, read_only=True) as manifest:
        assert len(manifest) == 5


@unusable
def test_a_compaction_warns_in_one_line_that_the_history_is_not_usable(
    without: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), DownloadManifestManager(without, options=MANUAL) as manifest:
        _add(manifest, range(3, 4))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "history" in said
    assert "stay beside the manifest" in said


@unusable
def test_no_event_is_lost_when_the_history_is_back(without: Path) -> None:
    with DownloadManifestManager(without, options=MANUAL) as manifest:
        _add(manifest, range(3, 5))
        place = _history(without)
        (place.unlink if place.is_symlink() or place.is_file() else place.rmdir)()
        (without.parent / "history.away").rename(place)
        _add(manifest, range(5, 6))
    assert _contents(without) == list(map(checksum, range(6)))


@no_directory
def test_a_new_manifest_is_created_and_written_beside_it(tmp_path: Path, in_place: Callable[[Path], None]) -> None:
    in_place(tmp_path / "history")
    with DownloadManifestManager(tmp_path / NAME, metadata(), options=MANUAL) as manifest:
        _add(manifest, range(2))
        assert len(manifest) == 2


ASKED: dict[str, Callable[[DownloadManifestManager], object]] = {
    "history": lambda manifest: list(manifest.history()),
    "changes": lambda manifest: list(manifest.changes(since=None, wait_s=0)),
    "as_of": lambda manifest: manifest.as_of(manifest.metadata.ts_created),
    "runs": lambda manifest: list(manifest.runs()) if hasattr(manifest, "runs") else list(manifest.history()),
    "followers": lambda manifest: manifest.followers(),
    "register_follower": lambda manifest: manifest.register_follower("mirror", manifest.cursor),
    "remove_follower": lambda manifest: manifest.remove_follower("mirror"),
}


@no_directory
@pytest.mark.parametrize("asked", ASKED)
def test_a_question_to_it_is_one_typed_error(without: Path, asked: str) -> None:
    with (
        DownloadManifestManager(without, options=MANUAL) as manifest,
        pytest.raises(HistoryUnavailableError, match="history`") as caught,
    ):
        ASKED[asked](manifest)
    assert "\n" not in str(caught.value)


@no_directory
def test_check_says_what_is_in_its_place(without: Path) -> None:
    assert [name for name, _ in _findings(without)] == ["history"]


@no_directory
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_repair_is_refused_with_nothing_changed(without: Path, dry_run: bool) -> None:
    flip(without, 400)
    before = sorted(without.parent.iterdir())
    with pytest.raises(HistoryUnavailableError):
        repair(names.resolve(without), dry_run=dry_run)
    assert sorted(without.parent.iterdir()) == before


# -- permissions and space ---------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A manifest that everybody may write, with a history that only its owner may."""
    with tempfile.TemporaryDirectory(prefix="manifestlog-") as folder:
        path = make(Path(folder) / "shared" / NAME)
        for file in (Path(folder), path.parent, *path.parent.iterdir()):
            file.chmod(0o777 if file.is_dir() else 0o666)
        yield path


def _as_nobody(link: Link, path: Path, asked: Callable[[DownloadManifestManager], Any]) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        try:
            link.send(asked(manifest))
        except ManifestError as error:
            link.send((type(error).__name__, "ask for permission" in str(error)))


def _add_two(manifest: DownloadManifestManager) -> int:
    _add(manifest, range(3, 5))
    return len(manifest)


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_who_may_not_write_the_history_adds_and_compacts(shared: Path, start: Start, mode: int) -> None:
    _history(shared).chmod(mode)
    assert start(_as_nobody, shared, _add_two).receive() == 5
    _history(shared).chmod(0o755)
    assert _contents(shared) == list(map(checksum, range(5)))


def test_who_may_not_write_the_history_cannot_register_a_follower(shared: Path, start: Start) -> None:
    _history(shared).chmod(0o555)
    assert start(_as_nobody, shared, ASKED["register_follower"]).receive() == ("HistoryUnavailableError", True)


def test_a_follower_is_not_registered_on_a_full_disk(path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        DownloadManifestManager(path, options=MANUAL) as manifest,
        mock.patch.object(disk, "append", side_effect=full),
        pytest.raises(DiskFullError),
    ):
        manifest.register_follower("mirror", manifest.cursor)


def test_a_compaction_on_a_full_disk_keeps_the_segments(path: Path) -> None:
    before = _contents(path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(3))
        with mock.patch.object(disk, "replace", side_effect=full), pytest.raises(DiskFullError):
            manifest.compact()
    assert _contents(path) == [*before, checksum(3)]


# -- what is in the directory ------------------------------------------------------------------------------------------

SEGMENT = f"{STEM}.wal-000002.jsonl"
PACK = f"{STEM}.history-000001-000002.jsonl.zst"


def _a_directory(place: Path) -> None:
    place.mkdir()
    (place / "inside").write_text("x", encoding="ascii")


def _a_pipe(place: Path) -> None:
    os.mkfifo(place)


def _a_link(place: Path) -> None:
    place.symlink_to("elsewhere")


no_file = pytest.mark.parametrize("other", [_a_directory, _a_pipe, _a_link])
under_a_name = pytest.mark.parametrize("name", [SEGMENT, PACK])


@pytest.fixture
def disguised(path: Path, name: str, other: Callable[[Path], None]) -> Path:
    """The manifest, with something that is no file under the name of a segment or a pack."""
    (_history(path) / name).unlink(missing_ok=True)
    other(_history(path) / name)
    return path


@no_file
@under_a_name
def test_what_is_no_file_is_damage(disguised: Path, name: str) -> None:
    (found,) = _findings(disguised)
    assert (found[0], "not a regular file" in found[1]) == (name, True)


@no_file
@under_a_name
def test_what_is_no_file_does_not_keep_records_from_being_added(disguised: Path) -> None:
    with DownloadManifestManager(disguised, options=MANUAL) as manifest:
        assert _add_two(manifest) == 5


@no_file
@under_a_name
def test_what_is_no_file_is_set_aside_by_a_repair(disguised: Path, name: str) -> None:
    report = repair(names.resolve(disguised))
    assert report.quarantine is not None
    assert os.path.lexists(os.path.join(report.quarantine, name))
    assert _findings(disguised) == []
    assert repair(names.resolve(disguised)).outcome is RepairOutcome.NOTHING_TO_DO
    assert {checksum(0), checksum(2)} <= set(_contents(disguised))


@no_file
def test_segments_beside_what_is_no_pack_are_kept_by_a_repair(path: Path, other: Callable[[Path], None]) -> None:
    other(_history(path) / PACK)
    repair(names.resolve(path))
    assert _contents(path) == list(map(checksum, range(3)))


@no_file
@pytest.mark.parametrize("name", [f"{STEM}.follower-mirror.json", f"{PACK}.tmp-1-ab", f"{STEM}.wal-000001.jsonl"])
def test_what_is_no_file_under_any_name_stops_no_compaction(
    path: Path, name: str, other: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    (_history(path) / name).unlink(missing_ok=True)
    other(_history(path) / name)
    with caplog.at_level(logging.ERROR), DownloadManifestManager(path, options=MANUAL) as manifest:
        assert _add_two(manifest) == 5
    assert caplog.records == []


@no_file
def test_what_is_no_file_is_no_follower(path: Path, other: Callable[[Path], None]) -> None:
    other(_history(path) / f"{STEM}.follower-mirror.json")
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.followers() == {}
    assert "not a valid registration" in _findings(path, "note")[0][1]


@pytest.mark.parametrize("name", [f"{STEM}.history-000001-000900000.jsonl.zst", f"{STEM}.wal-0000002.jsonl"])
def test_a_number_in_another_spelling_is_no_name_of_the_history(path: Path, name: str) -> None:
    (_history(path) / name).write_bytes(b"x")
    assert _findings(path) == []
    assert _contents(path) == list(map(checksum, range(3)))


# -- numbers that no log has reached -----------------------------------------------------------------------------------

STRAYS = [
    f"{STEM}.history-000001-900000.jsonl.zst",
    f"{STEM}.history-000001-999999999999.jsonl.zst",
    f"{STEM}.history-000004-000004.jsonl.zst",
    f"{STEM}.wal-900000.jsonl",
    f"{STEM}.wal-000004.jsonl",
]
strays = pytest.mark.parametrize("name", STRAYS)


@pytest.fixture
def strayed(path: Path, name: str) -> Path:
    """The manifest, whose active segment is 4, and a file in its history with that number or a later one."""
    shutil.copy(_history(path) / SEGMENT, _history(path) / name)
    return path


@strays
def test_a_number_beyond_the_log_is_told(strayed: Path, name: str) -> None:
    (found,) = _findings(strayed)
    assert (found[0], "not of this log" in found[1]) == (name, True)


@strays
def test_a_number_beyond_the_log_hides_no_event(strayed: Path) -> None:
    assert _contents(strayed) == list(map(checksum, range(3)))


@strays
def test_a_number_beyond_the_log_is_set_aside_by_a_repair(strayed: Path, name: str) -> None:
    report = repair(names.resolve(strayed))
    assert report.quarantine is not None
    assert (report.lost, name in os.listdir(report.quarantine)) == ([], True)
    assert _findings(strayed) == []
    assert len(_kept(strayed)) == 3


@strays
def test_a_compaction_leaves_everything_where_it_is_until_then(strayed: Path, name: str) -> None:
    before = _kept(strayed)
    with DownloadManifestManager(strayed, options=MANUAL) as manifest:
        assert _add_two(manifest) == 5
    assert _kept(strayed) == before
    assert name in before


def test_an_older_copy_beside_a_newer_history_replaces_nothing_of_it(path: Path, tmp_path: Path) -> None:
    old = {file: file.read_bytes() for file in path.parent.glob(f"{STEM}*")}
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        _add(manifest, range(3, 4))
    newer = _kept(path)
    for file in path.parent.glob(f"{STEM}*"):
        file.unlink()
    for file, data in old.items():
        file.write_bytes(data)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        _add(manifest, range(10, 12))
        assert len(manifest) == 5
    assert _kept(path) == newer


def test_segments_that_many_others_would_have_to_precede_are_set_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair_history, "GAP_MAX", 1)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        _add(manifest, range(3, 5))
    for number in (2, 3):
        (_history(path) / f"{STEM}.wal-{number:06d}.jsonl").unlink()
    report = repair(names.resolve(path))
    assert [os.path.basename(loss.file) for loss in report.lost] == [f"{STEM}.wal-000001.jsonl"]
    assert _findings(path) == []
    assert _contents(path) == list(map(checksum, (3, 4)))


def test_a_pack_is_compared_with_its_name_without_counting_up_to_it(path: Path) -> None:
    packer = pack.Packer("systems_download", "2024-01-01T00:00:00Z")
    found = path.with_name("pack")
    found.write_bytes(packer.footer([pack.lost_segment(1)]))
    with pytest.raises(ManifestError, match="its name says"):
        pack.Pack(str(found)).refuse_foreign("systems_download", None, (1, 10**18))


# -- a damaged pack beside what it holds -------------------------------------------------------------------------------


@pytest.fixture
def twice(path: Path) -> Path:
    """The manifest, after a crash between a packing and the removal of the packed segments; the pack is damaged."""
    before = _kept(path)
    _pack_all(path)
    for name, data in before.items():
        (_history(path) / name).write_bytes(data)
    (found,) = _history(path).glob("*.zst")
    flip(found, 40)
    return path


def test_segments_beside_a_damaged_pack_are_not_said_to_be_in_it(twice: Path) -> None:
    assert [meaning for _, meaning in _findings(twice, "note") if "a pack holds the same" in meaning] == []


def test_segments_beside_a_damaged_pack_are_what_a_repair_keeps(twice: Path) -> None:
    report = repair(names.resolve(twice))
    assert report.lost == []
    assert _contents(twice) == list(map(checksum, range(3)))
    assert _findings(twice) == []


# -- gaps, clocks, moments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_reading_stops_where_segments_are_missing(path: Path, reverse: bool) -> None:
    (_history(path) / SEGMENT).unlink()
    with (
        DownloadManifestManager(path, read_only=True) as manifest,
        pytest.raises(ManifestError, match="segment 2 is missing"),
    ):
        list(manifest.history(reverse=reverse))


def _with_clock(path: Path, monkeypatch: pytest.MonkeyPatch, *times: str) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        for number, time in enumerate(times, 100):
            monkeypatch.setattr("manifestlog.engines.filelog.engine.now_text", lambda time=time: time)
            manifest.add(make_record(number))
            manifest.compact()


@pytest.mark.parametrize("packed", [False, True])
def test_since_finds_the_same_in_both_directions_though_a_clock_was_set_back(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packed: bool,
) -> None:
    """By a month, and a search began a day after the later times."""
    _with_clock(
        path, monkeypatch, "2100-03-01T00:00:00.000000Z", "2100-01-01T00:00:00.000000Z", "2100-01-02T00:00:00.000000Z"
    )
    if packed:
        _pack_all(path)
    with DownloadManifestManager(path, read_only=True) as manifest:
        found = {
            reverse: [event.checksum for event in manifest.history(since="2100-02-01", reverse=reverse)]
            for reverse in (False, True)
        }
    assert found == {False: [checksum(100)], True: [checksum(100)]}


def test_a_write_to_an_earlier_time_says_where_to_write(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manifest:
        last = next(iter(manifest.history())).time
        then = manifest.as_of(last)
    with pytest.raises(ReadOnlyError, match="write to the manifest itself"):
        then.add(make_record(9))


def test_the_reach_of_a_repaired_manifest_is_the_time_of_the_repair(path: Path) -> None:
    flip(path, 400)
    repair(names.resolve(path))
    with DownloadManifestManager(path, read_only=True) as manifest:
        repaired = manifest.metadata.ts_updated
        assert len(manifest.as_of(repaired)) == len(manifest)
        with pytest.raises(HistoryReachError) as caught:
            manifest.as_of(manifest.metadata.ts_created)
    assert caught.value.reach == repaired.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
