"""What a year of use costs: the engine's trigger rule under a simulated clock, at 10, 1,000 and 100,000 files a day.

Two ways of use: a nightly job that registers a day's files at once and closes, and a process that stays open and
registers each file when it comes. When a compaction is due is asked of the engine's own rule (`seconds_until_due`,
`is_worth_writing`); what one takes is what was measured: give your machine's constants as arguments. A small canonical
is excepted from the rule of bytes; `--small-bytes 0` shows the year without that exception.

    python -m benchmarks.year --seconds-per-gb 2.6
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from benchmarks import harness
from manifestlog import ManifestOptions
from manifestlog.engines.filelog.compaction.background import _PAUSE_MIN_S
from manifestlog.engines.filelog.compaction.trigger import is_worth_writing, seconds_until_due
from manifestlog.engines.reports import LogStatus

_DAYS = 365
_DAY_S = 86_400.0
_NEVER_S = float("inf")
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NIGHTLY = "nightly job"
STREAM = "steady stream"


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured."""

    record_bytes: float
    line_bytes: float
    index_bytes: float
    seconds_per_gb: float
    merge_us: float
    replay_us: float
    adds_per_s: float


class Job(NamedTuple):
    """Files that come one after the other to one open manifest: the first at `start_s`, so many, so many a second."""

    start_s: float
    files: int
    per_second: float
    closes: bool

    def arrived(self, now_s: float) -> int:
        """How many have come by now."""
        return min(self.files, int((now_s - self.start_s) * self.per_second + 1e-3) + 1)

    def comes_s(self, number: int) -> float:
        """When file `number` comes."""
        return self.start_s + number / self.per_second


@dataclass(slots=True)
class Year:
    """A manifest through the year, and what its compactions have added up to."""

    costs: Costs
    options: ManifestOptions
    now_s: float = 0.0
    compacted: int = 0
    """Records in the canonical."""
    logged: int = 0
    """Records of earlier jobs, in the canonical or in the log."""
    oldest_s: float | None = None
    """Since when the log has records, if an earlier job has left them there."""
    compacted_at: str = ""
    compaction_s: float = 0.0
    compactions: int = 0
    bytes_written: float = 0.0
    bytes_written_small: float = 0.0
    """Of these, what was written while the canonical was too small for the rule of bytes."""
    busy_s: float = 0.0
    log_records_max: int = 0
    age_max_s: float = 0.0
    lacks_max: float = 0.0
    """The largest share of its records that the canonical lacked because the log was not worth a compaction."""

    def live(self, jobs: Iterator[Job]) -> Year:
        for job in jobs:
            self.now_s = max(self.now_s, job.start_s)
            while self._step(job):
                pass
            self.oldest_s = self._oldest_s(job) if self.compacted < self.logged + job.files else None
            self.logged += job.files
        return self

    @property
    def canonical_bytes(self) -> int:
        return int(self.compacted * self.costs.record_bytes)

    @property
    def rewrite_bytes(self) -> int:
        return int(self.compacted * (self.costs.record_bytes + self.costs.index_bytes))

    def _step(self, job: Job) -> bool:
        """Compact if it is due now, else go on to the next moment at which it may be; false at the end of the job."""
        log_records = self.logged + job.arrived(self.now_s) - self.compacted
        ended = self.now_s >= job.comes_s(job.files - 1)
        status = self._status(job, log_records)
        due_s = seconds_until_due(status, self.options, _moment(self.now_s)) if log_records else _NEVER_S
        if due_s <= 0 or (ended and log_records and is_worth_writing(status, self.options)):
            self._compact(job, log_records)
        elif ended:
            return False
        else:
            self.now_s = min(moment for moment in self._wakes(job, log_records, due_s) if moment > self.now_s)
        return True

    def _wakes(self, job: Job, log_records: int, due_s: float) -> Iterator[float]:
        """The moments at which a compaction may be due: by the clock, by the log's length, at the end of the job."""
        yield self.now_s + max(due_s, _PAUSE_MIN_S)
        yield job.comes_s(job.files - 1)
        if log_records == 0:
            yield job.comes_s(self.compacted - self.logged)
        sizes = self.canonical_bytes, self.rewrite_bytes
        for length in (self.options.log_bytes_worth(*sizes), self.options.log_bytes_limit(*sizes)):
            number = self.compacted - self.logged + int(length / self.costs.line_bytes)
            if 0 <= number < job.files:
                yield job.comes_s(number)

    def _oldest_s(self, job: Job) -> float:
        return job.comes_s(self.compacted - self.logged) if self.oldest_s is None else self.oldest_s

    def _status(self, job: Job, log_records: int) -> LogStatus:
        log_bytes = int(log_records * self.costs.line_bytes)
        return LogStatus(
            canonical_bytes=self.canonical_bytes,
            log_bytes=log_bytes,
            bytes_to_merge=log_bytes,
            segments=1,
            changed_since=_text(self._oldest_s(job)) if log_records else None,
            compacted_at=self.compacted_at,
            compaction_s=self.compaction_s,
            rewrite_bytes=self.rewrite_bytes,
        )

    def _compact(self, job: Job, log_records: int) -> None:
        costs = self.costs
        oldest_s, small = self._oldest_s(job), self.canonical_bytes <= self.options.compact_small_bytes
        worth_records = self.options.log_bytes_worth(self.canonical_bytes, self.rewrite_bytes) / costs.line_bytes
        self.oldest_s = None
        self.log_records_max = max(self.log_records_max, log_records)
        self.compacted += log_records
        self.compaction_s = costs.seconds_per_gb * self.canonical_bytes / 1e9 + costs.merge_us * log_records / 1e6
        self.compactions += 1
        self.bytes_written += self.rewrite_bytes
        if small:
            self.bytes_written_small += self.rewrite_bytes
        else:
            self.lacks_max = max(self.lacks_max, min(log_records, worth_records) / self.compacted)
        self.busy_s += self.compaction_s
        self.now_s += self.compaction_s
        self.age_max_s = max(self.age_max_s, self.now_s - oldest_s)
        self.compacted_at = _text(self.now_s)


def _moment(seconds: float) -> datetime:
    return _BEGIN + timedelta(seconds=seconds)


def _text(seconds: float) -> str:
    # Never in the future by a rounding: that would mean to the rule that the clock was set back.
    seconds -= 1e-6
    return _moment(seconds).isoformat()


def jobs(way: str, files: int, costs: Costs) -> Iterator[Job]:
    """The jobs of a year at so many files a day."""
    if way == STREAM:
        yield Job(0.0, _DAYS * files, files / _DAY_S, closes=True)
    else:
        for day in range(_DAYS):
            yield Job(day * _DAY_S, files, costs.adds_per_s, closes=True)


def _row(files: int, way: str, year: Year) -> list[str]:
    costs = year.costs
    logged_bytes = year.logged * costs.line_bytes
    figures: list[harness.Cell] = [
        files,
        way,
        year.logged,
        year.canonical_bytes / 1e6,
        year.compactions,
        year.bytes_written / 1e9,
        year.bytes_written / logged_bytes,
        (year.bytes_written - year.bytes_written_small) / logged_bytes,
        year.log_records_max * costs.line_bytes / 1e6,
        year.log_records_max * costs.replay_us / 1e3,
        year.age_max_s / _DAY_S,
        f"{100 * year.lacks_max:.1f} %",
        f"{100 * year.busy_s / (_DAYS * _DAY_S):.3f} %",
    ]
    return [harness.figure(value) for value in figures]


_COLUMNS = [
    "files a day",
    "way of use",
    "records",
    "canonical MB",
    "compactions",
    "GB written",
    "times the bytes logged",
    "of these, above the small size",
    "longest log, MB",
    "longest replay, ms",
    "canonical behind by, days",
    "lacks at most",
    "time compacting",
]


def main() -> int:
    """Print a year of each rate and way of use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about = {
        "record-bytes": (407.0, "a record in the canonical"),
        "line-bytes": (404.0, "a record in the log"),
        "index-bytes": (77.0, "a record in the index"),
        "seconds-per-gb": (2.6, "a compaction, for each GB of canonical"),
        "merge-us": (19.0, "a compaction, for each record of the log"),
        "replay-us": (3.5, "reading a record of the log again"),
        "adds-per-s": (6000.0, "of the nightly job"),
        "interval-s": (ManifestOptions().compact_interval_s, "compact_interval_s"),
        "write-ratio": (ManifestOptions().compact_write_ratio, "compact_write_ratio"),
        "small-bytes": (ManifestOptions().compact_small_bytes, "compact_small_bytes"),
    }
    for name, (value, meaning) in about.items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"{meaning} (%(default)s)")
    parser.add_argument("--files", type=int, nargs="+", default=[10, 1_000, 100_000], help="files a day")
    given = vars(parser.parse_args())
    options = ManifestOptions(
        compact_interval_s=given.pop("interval_s"),
        compact_write_ratio=given.pop("write_ratio"),
        compact_small_bytes=given.pop("small_bytes"),
    )
    rates = given.pop("files")
    costs = Costs(**given)
    rows = [
        _row(files, way, Year(costs, options).live(jobs(way, files, costs)))
        for files in rates
        for way in (NIGHTLY, STREAM)
    ]
    harness.print_rows(f"A year, {costs}", [_COLUMNS, *rows])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
