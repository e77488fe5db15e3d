"""The simulated year: every file gets into the canonical, and the engine's rule says how often it is written."""

from __future__ import annotations

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


def _live(way: str, files: int, costs: Costs = COSTS, interval_s: float = 60.0) -> Year:
    return Year(costs, ManifestOptions(compact_interval_s=interval_s)).live(jobs(way, files, costs))


def test_a_nightly_job_compacts_once_a_night() -> None:
    year = _live(NIGHTLY, 10)
    assert (year.compactions, year.compacted) == (365, 3650)


def test_a_night_longer_than_the_logs_limit_compacts_in_between() -> None:
    assert _live(NIGHTLY, 20_000).compactions > 365


def test_a_stream_slower_than_the_interval_compacts_each_file() -> None:
    year = _live(STREAM, 10)
    assert (year.compactions, year.compacted) == (3650, 3650)


def test_a_stream_is_behind_by_the_interval() -> None:
    assert 60 <= _live(STREAM, 100).age_max_s < 62


def test_a_longer_interval_writes_less() -> None:
    assert _live(STREAM, 100, interval_s=3600).bytes_written < _live(STREAM, 100).bytes_written / 4


def test_compacting_takes_one_percent_of_the_time_at_most() -> None:
    year = _live(STREAM, 10_000, Costs(400, 500, 80, 200.0, 20.0, 3.0, 5000.0))
    assert year.busy_s <= 0.01 * 365 * 86_400
