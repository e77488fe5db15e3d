"""The simulated year: every file gets into the canonical, and the engine's rule says how often it is written."""

from __future__ import annotations

import pytest
from benchmarks.year import NIGHTLY, STREAM, Costs, Year, jobs

from manifestlog import ManifestOptions

COSTS = Costs(
    record_bytes=400,
    line_bytes=500,
    index_bytes=80,
    seconds_per_gb=2.0,
    merge_us=20.0,
    replay_us=3.0,
    adds_per_s=5000.0,
)


def _live(way: str, files: int, costs: Costs = COSTS, **options: float) -> Year:
    return Year(costs, ManifestOptions(**options)).live(jobs(way, files, costs))  # type: ignore[arg-type]


def _times(year: Year, bytes_written: float) -> float:
    """How many times the bytes logged."""
    return bytes_written / (year.logged * COSTS.line_bytes)


def test_a_nightly_job_compacts_once_a_night() -> None:
    year = _live(NIGHTLY, 10)
    assert (year.compactions, year.compacted) == (365, 3650)


def test_a_nightly_job_into_a_large_canonical_compacts_less_often() -> None:
    assert _live(NIGHTLY, 1_000).compactions < 200


def test_a_night_longer_than_the_logs_limit_compacts_in_between() -> None:
    assert _live(NIGHTLY, 20_000, compact_write_ratio=1e9).compactions > 365


def test_a_stream_slower_than_the_interval_compacts_each_file() -> None:
    year = _live(STREAM, 10)
    assert (year.compactions, year.compacted) == (3650, 3650)


def test_the_log_keeps_what_is_not_worth_a_compaction() -> None:
    year = _live(STREAM, 1_000)
    assert 0 < year.logged - year.compacted < year.compacted / 50


def test_a_stream_into_a_small_canonical_is_behind_by_the_interval() -> None:
    assert 60 <= _live(STREAM, 100).age_max_s < 62


def test_a_longer_interval_writes_less() -> None:
    assert _live(STREAM, 100, compact_interval_s=3600).bytes_written < _live(STREAM, 100).bytes_written / 4


def test_compacting_takes_one_percent_of_the_time_at_most() -> None:
    year = _live(STREAM, 10_000, Costs(400, 500, 80, 200.0, 20.0, 3.0, 5000.0), compact_write_ratio=1e9)
    assert year.busy_s <= 0.01 * 365 * 86_400


@pytest.mark.parametrize("way", [NIGHTLY, STREAM])
@pytest.mark.parametrize("files", [1_000, 100_000])
def test_above_the_small_size_a_year_writes_at_most_a_hundred_times_the_bytes_logged(way: str, files: int) -> None:
    year = _live(way, files)
    assert _times(year, year.bytes_written - year.bytes_written_small) <= 100


@pytest.mark.parametrize("way", [NIGHTLY, STREAM])
@pytest.mark.parametrize("files", [10, 1_000, 100_000])
def test_without_a_small_size_every_year_writes_at_most_a_hundred_times_the_bytes_logged(way: str, files: int) -> None:
    year = _live(way, files, compact_small_bytes=0)
    assert _times(year, year.bytes_written) <= 100


@pytest.mark.parametrize("way", [NIGHTLY, STREAM])
def test_a_ratio_of_25_writes_at_most_30_times_the_bytes_logged(way: str) -> None:
    year = _live(way, 1_000, compact_write_ratio=25.0)
    assert _times(year, year.bytes_written - year.bytes_written_small) <= 30


def test_a_large_canonical_lacks_at_most_three_percent_of_its_records() -> None:
    assert 0.01 < _live(STREAM, 1_000).lacks_max < 0.03


@pytest.mark.parametrize("files", [1_000, 100_000])
def test_the_log_stays_below_twice_its_limit(files: int) -> None:
    assert _live(STREAM, files).log_records_max * COSTS.line_bytes < 2 * 64 * 2**20 + COSTS.line_bytes + 1
