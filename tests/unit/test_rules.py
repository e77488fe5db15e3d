"""Two pure rules: which version is newer, and when a compaction is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from manifestlog.engines.filelog.compaction import trigger
from manifestlog.engines.reports import LogStatus
from manifestlog.model.adoption import is_newer
from manifestlog.options import ManifestOptions

# -- adoption.is_newer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [("1.0.1", "1.0.0"), ("1.10", "1.9"), ("2", "1.99.99"), ("1.0.0.1", "1.0.0"), ("10", "9"), ("01.2", "1.1")],
)
def test_higher_numbers_are_newer(given: str, stored: str) -> None:
    """Part by part, as numbers."""
    assert is_newer(given, stored)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("1.0.0", "1.0.1"),
        ("1.9", "1.10"),
        ("1.0.0", "1.0.0"),
        ("1", "1.0.0"),
        ("1.0.0", "1"),
        ("01", "1"),
        ("0", "0.0"),
    ],
)
def test_lower_or_equal_numbers_are_not_newer(given: str, stored: str) -> None:
    """Missing parts are zeros."""
    assert not is_newer(given, stored)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("main", "1.0"),
        ("1.0", "main"),
        ("a", "b"),
        ("b", "a"),
        ("1.0rc1", "1.0"),
        ("1.0", "1.0rc1"),
        ("1.", "1"),
        ("１", "2"),
    ],
)
def test_words_are_newer_when_different(given: str, stored: str) -> None:
    """Anything but dotted numbers."""
    assert is_newer(given, stored)


@pytest.mark.parametrize("same", ["main", "1.0rc1", "", "1."])
def test_the_same_words_are_not_newer(same: str) -> None:
    """Nothing to store."""
    assert not is_newer(same, same)


# -- trigger.seconds_until_due -----------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIB = 1 << 20
OPTIONS = ManifestOptions(compact_interval_s=60)


def _ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _due(
    *,
    canonical: int = 0,
    merge: int = 1000,
    since: float | None = 10,
    compacted: float | None = None,
    took: float = 0.0,
    options: ManifestOptions = OPTIONS,
) -> float:
    at = "" if compacted is None else _ago(compacted)
    status = LogStatus(canonical, merge, merge, 1, None if since is None else _ago(since), at, took, canonical)
    return trigger.seconds_until_due(status, options, NOW)


def test_nothing_to_merge_is_never_due() -> None:
    """However long ago."""
    assert _due(since=None, merge=10**9, compacted=10**6) == float("inf")


@pytest.mark.parametrize(("since", "expected"), [(0, 60), (10, 50), (59, 1), (60, 0), (3600, 0)])
def test_a_change_waits_for_the_interval(since: float, expected: float) -> None:
    """The canonical is at most `compact_interval_s` behind."""
    assert _due(since=since) == pytest.approx(expected)


@pytest.mark.parametrize("since", [0, 10])
def test_a_long_log_waits_for_nothing(since: float) -> None:
    """The log never grows past its limit."""
    assert _due(since=since, merge=4 * MIB) == 0


@pytest.mark.parametrize(
    ("canonical", "limit"),
    [(0, 4 * MIB), (MIB, 4 * MIB), (4 * MIB, 4 * MIB), (10 * MIB, 10 * MIB), (64 * MIB, 64 * MIB), (10**9, 64 * MIB)],
)
def test_the_limit_is_the_canonicals_size_clamped(canonical: int, limit: int) -> None:
    """To 4-64 MiB."""
    assert [_due(canonical=canonical, merge=merge) > 0 for merge in (limit - 1, limit)] == [True, False]


@pytest.mark.parametrize(("took", "expected"), [(0.1, 50), (0.6, 50), (1.0, 90), (10.0, 990)])
def test_a_slow_compaction_waits_a_hundred_times_as_long(took: float, expected: float) -> None:
    """So compacting never costs more than about 1 % of the time."""
    assert _due(since=10, compacted=10, took=took) == pytest.approx(expected)


def test_a_slow_compaction_is_long_over() -> None:
    """What was slow long ago holds nothing up."""
    assert _due(since=60, compacted=1000, took=10) == 0


def test_a_slow_compaction_does_not_hold_up_a_long_log() -> None:
    """The limit goes before the share."""
    assert _due(merge=64 * MIB, compacted=1, took=100) == 0


def test_a_clock_that_was_set_back_holds_nothing_up_for_long() -> None:
    """A change from the future is due no later than one of this moment."""
    assert _due(since=-3600) <= 60


@pytest.mark.parametrize(("share", "expected"), [(0.1, 90), (0.01, 990), (1.0, 0)])
def test_the_share_of_the_time_is_an_option(share: float, expected: float) -> None:
    """After a compaction of ten seconds that ended ten seconds ago."""
    assert _due(since=60, compacted=10, took=10, options=ManifestOptions(compact_time_share=share)) == expected


@pytest.mark.parametrize("canonical", [0, MIB, 16 * MIB])
def test_a_small_canonical_is_written_for_any_log(canonical: int) -> None:
    """Up to 16 MiB a minute stays a minute."""
    assert _due(canonical=canonical, merge=1, since=60) == 0


@pytest.mark.parametrize("canonical", [16 * MIB + 1, 100 * MIB, 1000 * MIB])
def test_a_large_canonical_waits_for_a_log_that_is_worth_it(canonical: int) -> None:
    """A compaction writes at most 50 times the bytes of the log, however old that is."""
    assert [_due(canonical=canonical, merge=canonical // 50 + more, since=1e9) for more in (-1, 0)] == [float("inf"), 0]


def test_a_log_that_is_worth_it_waits_for_the_interval() -> None:
    """The bytes are one condition, the age another."""
    assert _due(canonical=100 * MIB, merge=3 * MIB, since=10) == 50


def test_a_small_size_of_zero_lets_every_log_wait() -> None:
    """Then the bound on the bytes holds from the first record on."""
    assert _due(canonical=MIB, merge=1000, since=60, options=ManifestOptions(compact_small_bytes=0)) == float("inf")


@pytest.mark.parametrize(("canonical", "limit"), [(3200 * MIB, 64 * MIB), (5000 * MIB, 100 * MIB), (10**12, 128 * MIB)])
def test_a_huge_canonical_may_have_twice_the_usual_log(canonical: int, limit: int) -> None:
    """The memory that a log takes is bounded at any size, and goes before the disk's bytes."""
    due = [_due(canonical=canonical, merge=merge, since=0, compacted=1, took=100) for merge in (limit - 1, limit)]
    assert (due[0] > 0, due[1]) == (True, 0)


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_ratio_moves_the_limit(ratio: float) -> None:
    """Between the two clamps."""
    assert ManifestOptions(compact_log_ratio=ratio).log_bytes_limit(20 * MIB) == int(20 * MIB * ratio)
