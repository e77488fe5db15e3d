"""`retime`, and how `status` and `doctor` name what is stamped in the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line
from manifestlog import DownloadManifestManager, ManifestMetadata, ManifestRecord

if TYPE_CHECKING:
    from cli.program import Program

NAME = "clock_download"
DAY = timedelta(days=1)
NOW = datetime.now(UTC)


def record(number: int, when: datetime, source: str = "s") -> ManifestRecord:
    return ManifestRecord(
        source_id=source,
        dataset="d",
        checksum=f"{number:02x}" * 32,
        file_path=Path(f"/raw/{number}"),
        file_size=1,
        etag=f'"{number}"',
        ts_downloaded=when,
        version="1",
    )


@pytest.fixture(params=["in the log", "compacted"])
def poisoned(home: Path, request: pytest.FixtureRequest) -> Path:
    """The second of four contents was stamped ten years ahead; another source is as it should be."""
    path = home / "manifests" / f"{NAME}.manifest.json"
    metadata = ManifestMetadata(process="extractor", etl_version="1", root_dir=Path("."))  # type: ignore[arg-type]
    with DownloadManifestManager(path, metadata) as manifest:
        for number, when in enumerate((NOW - 4 * DAY, NOW + 3650 * DAY, NOW - 2 * DAY, NOW - DAY)):
            manifest.add(record(number, when))
        if request.param == "compacted":
            manifest.save()
        manifest.add(record(9, NOW - DAY, "other"))
    return path


def etag(run: Program, source: str = "s") -> str:
    return str(run.here("get", NAME, "--source", source, "--json").json["etag"])


def test_the_newest_content_is_current_afterwards(run: Program, poisoned: Path) -> None:
    before = etag(run)
    run.here("retime", NAME)
    assert (before, etag(run)) == ('"1"', '"3"')


def test_nothing_is_forgotten(run: Program, poisoned: Path) -> None:
    run.here("retime", NAME)
    assert run.here("status", "--json").json[0]["total_records"] == 5


def test_it_says_both_times(run: Program, poisoned: Path) -> None:
    result = run.here("retime", NAME)
    assert f"d/s: {'01' * 6}: {(NOW + 3650 * DAY).isoformat()[:-6]}Z became " in result.out


def test_a_dry_run_changes_nothing(run: Program, poisoned: Path) -> None:
    before = {path: path.read_bytes() for path in poisoned.parent.rglob("*") if path.is_file()}
    result = run.here("retime", NAME, "--dry-run")
    assert "would become" in result.out
    assert {path: path.read_bytes() for path in poisoned.parent.rglob("*") if path.is_file()} == before


def test_keep_current_keeps_the_content_current(run: Program, poisoned: Path) -> None:
    run.here("retime", NAME, "--keep-current")
    assert etag(run) == '"1"'


def test_other_sources_are_not_changed(run: Program, poisoned: Path) -> None:
    assert run.here("retime", NAME, "--source", "other", "--json").json["changed"] == []


def test_a_second_time_changes_nothing(run: Program, poisoned: Path) -> None:
    run.here("retime", NAME)
    assert run.here("retime", NAME).out == f"{poisoned}: no times in the future; nothing to change\n"


def test_json_names_each_change(run: Program, poisoned: Path) -> None:
    (change,) = run.here("retime", NAME, "--json").json["changed"]
    assert list(change) == ["source_id", "dataset", "checksum", "before", "after"]


def test_content_that_live_downloads_followed_stays_current(run: Program, poisoned: Path) -> None:
    with DownloadManifestManager(poisoned) as manifest:
        manifest.add(record(4, datetime.now(UTC)), live=True)
    run.here("retime", NAME)
    assert etag(run) == '"4"'


def test_status_reports_times_in_the_future(run: Program, poisoned: Path) -> None:
    result = run.here("status")
    assert one_line(result.err)
    assert "1 observation has a time in the future" in result.err


def test_status_counts_times_in_the_future_in_json(run: Program, poisoned: Path) -> None:
    assert run.here("status", "--json").json[0]["from_the_future"] == 1


def test_status_is_silent_about_correct_times(run: Program, poisoned: Path) -> None:
    run.here("retime", NAME)
    assert run.here("status").err == ""


def test_doctor_reports_times_in_the_future(run: Program, poisoned: Path) -> None:
    told = {test["test"]: test for test in run.here("doctor", poisoned.parent, "--json").json["tests"]}
    assert told["record times"]["verdict"] == "warning"
    assert NAME in told["record times"]["found"]


def test_an_unknown_manifest_ends_with_10(run: Program) -> None:
    assert run.here("retime", "none_download").code == 10


def test_an_unknown_source_is_named(run: Program, poisoned: Path) -> None:
    result = run.here("retime", NAME, "--source", "typo")
    assert (result.code, "no record of source typo" in result.err) == (1, True)


def test_doctor_does_not_contradict_itself(run: Program, poisoned: Path) -> None:
    assert "nothing here is from the future" not in run.here("doctor", "manifests").out
