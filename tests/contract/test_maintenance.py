"""`status`, `check`, `repair` and `diagnose` from Python: the reports that the verbs print."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from manifestlog import (
    DamagedManifestError,
    DownloadManifestManager,
    ManifestError,
    ManifestNotFoundError,
    NotAManifestError,
    maintenance,
)
from manifestlog.engines.reports import ProbeStatus, RepairOutcome
from manifestlog.model.rows import utc_text
from support.records import MANUAL, NAME, make_record, metadata

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = "memory:systems_download"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the manifest is, or comes."""
    (tmp_path / "manifests").mkdir()
    return tmp_path / "manifests" / NAME


def open_manifest(path: Path) -> DownloadManifestManager:
    return DownloadManifestManager(path, metadata(), options=MANUAL)


@pytest.fixture
def damaged(path: Path) -> Path:
    """A manifest whose canonical file has lost its last bytes."""
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
        manifest.compact()
    path.write_bytes(path.read_bytes()[:-5])
    return path


def test_the_status_of_a_manifest_counts_its_records(path: Path) -> None:
    """Records, sizes, and whether something waits for a compaction."""
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
        found = maintenance.status(path)
        assert (found.total_records, found.segments, found.to_merge, found.error) == (1, 1, True, None)
        manifest.compact()
    found = maintenance.status(path)
    assert (found.to_merge, found.canonical_bytes) == (False, path.stat().st_size)
    assert (found.name, found.path) == (NAME.partition(".")[0], str(path))


def test_the_status_says_when_the_newest_record_was_downloaded(path: Path) -> None:
    with open_manifest(path) as manifest:
        manifest.add_many([make_record(1), make_record(2)])
    assert maintenance.status(path).newest == utc_text(make_record(2).ts_downloaded)


def test_a_time_in_the_future_is_not_the_newest(path: Path) -> None:
    with open_manifest(path) as manifest:
        future = make_record(2).model_copy(update={"ts_downloaded": datetime(2999, 1, 1, tzinfo=UTC)})
        manifest.add_many([make_record(1), future])
    assert maintenance.status(path).newest == utc_text(make_record(1).ts_downloaded)


def test_the_status_of_a_damaged_manifest_says_why(damaged: Path) -> None:
    """Its sizes are known all the same."""
    found = maintenance.status(damaged)
    assert isinstance(found.error, DamagedManifestError)
    assert (found.total_records, found.canonical_bytes) == (None, damaged.stat().st_size)


def test_the_status_of_a_missing_manifest_says_that(tmp_path: Path) -> None:
    """It is a report, not an error: a list of many goes on."""
    assert isinstance(maintenance.status(tmp_path / "no_such.manifest.json").error, ManifestNotFoundError)


def test_a_sound_manifest_is_checked(path: Path) -> None:
    """Every record was read."""
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
        manifest.compact()
    report = maintenance.check(path)
    assert (report.damaged, report.records, report.manifest) == (False, 1, str(path))
    assert pickle.loads(pickle.dumps(report)) == report


def test_a_damaged_manifest_is_repaired(damaged: Path) -> None:
    """First said, then done; afterwards it is sound, and the original is set aside."""
    assert maintenance.check(damaged).damaged
    planned = maintenance.repair(damaged, dry_run=True)
    assert planned.outcome is RepairOutcome.WOULD_REPAIR
    assert maintenance.check(damaged).damaged
    done = maintenance.repair(damaged)
    assert (done.outcome, done.records) == (RepairOutcome.REPAIRED, 1)
    assert done.quarantine is not None
    assert pickle.loads(pickle.dumps(done)) == done
    assert not maintenance.check(damaged).damaged
    assert maintenance.repair(damaged).outcome is RepairOutcome.NOTHING_TO_DO


def test_another_file_is_not_repaired(path: Path) -> None:
    """It is an error, with the file left as it was."""
    path.write_text("[1, 2]")
    with pytest.raises(NotAManifestError):
        maintenance.check(path)
    with pytest.raises(NotAManifestError):
        maintenance.repair(path)
    assert path.read_text() == "[1, 2]"


def test_a_directory_is_diagnosed(path: Path) -> None:
    """Results come one by one, the times of records last, and nothing is left behind."""
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
    before = sorted(path.parent.iterdir())
    results = list(maintenance.diagnose(path.parent))
    assert not [result for result in results if result.status is ProbeStatus.FAILED]
    assert results[-1].test == "record times"
    assert sorted(path.parent.iterdir()) == before


def test_an_engine_without_files_needs_no_maintenance() -> None:
    """The calls answer, and change nothing."""
    assert not maintenance.check(MEMORY).damaged
    assert maintenance.repair(MEMORY).outcome is RepairOutcome.NOTHING_TO_DO
    found = maintenance.status(MEMORY)
    assert isinstance(found.error, ManifestNotFoundError)
    assert found.canonical_bytes == 0


def test_an_unknown_scheme_is_named() -> None:
    """It is never taken for a file."""
    with pytest.raises(ManifestError, match="nosuch"):
        maintenance.check("nosuch://host/systems_download")
