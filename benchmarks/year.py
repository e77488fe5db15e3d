"""What a year of use costs: the engine's trigger rule under a simulated clock, at 10, 1,000 and 100,000 files a day.

Two ways of use: a nightly job that registers a day's files at once and closes, and a process that stays open and
registers each file when it comes. When a compaction is due is asked of the engine's own rule (`seconds_until_due`,
`log_bytes_limit`); what one takes is what was measured: give your machine's constants as arguments.

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
from manifestlog.engines.filelog.compaction.trigger import seconds_until_due
from manifestlog.engines.reports import LogStatus

_DAYS = 365
_DAY_S = 86_400.0
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
    taken: int = 0
    """Of the job that runs: records that a compaction has taken out of the log."""
    compacted_at: str = ""
    compaction_s: float = 0.0
    compactions: int = 0
    bytes_written: float = 0.0
    busy_s: float = 0.0
    log_records_max: int = 0
    age_max_s: float = 0.0

    def live(self, jobs: Iterator[Job]) -> Year:
        for job in jobs:
            self.now_s, self.taken = max(self.now_s, job.start_s), 0
            while self.taken < job.files:
                self._step(job)
        return self

    def _step(self, job: Job) -> None:
        """Compact if it is due now, else go on to the next moment at which it may be."""
        log_records = job.arrived(self.now_s) - self.taken
        ends_s = job.comes_s(job.files - 1)
        due_s = self._due_s(job, log_records)
        if due_s <= 0 or (job.closes and log_records and self.now_s >= ends_s):
            self._compact(job, log_records)
        elif log_records == 0:
            self.now_s = job.comes_s(self.taken)
        else:
            limit = self.options.log_bytes_limit(int(self.compacted * self.costs.record_bytes))
            too_long_s = job.comes_s(self.taken + int(limit / self.costs.line_bytes))
            wakes = [self.now_s + max(due_s, _PAUSE_MIN_S), too_long_s, *([ends_s] if job.closes else [])]
            self.now_s = min(moment for moment in wakes if moment > self.now_s)

    def _due_s(self, job: Job, log_records: int) -> float:
        status = LogStatus(
            canonical_bytes=int(self.compacted * self.costs.record_bytes),
            log_bytes=int(log_records * self.costs.line_bytes),
            bytes_to_merge=int(log_records * self.costs.line_bytes),
            segments=1,
            changed_since=_text(job.comes_s(self.taken)) if log_records else None,
            compacted_at=self.compacted_at,
            compaction_s=self.compaction_s,
        )
        return seconds_until_due(status, self.options, _moment(self.now_s))

    def _compact(self, job: Job, log_records: int) -> None:
        costs = self.costs
        oldest_s = job.comes_s(self.taken)
        self.log_records_max = max(self.log_records_max, log_records)
        self.compacted += log_records
        self.taken += log_records
        canonical = self.compacted * costs.record_bytes
        self.compaction_s = costs.seconds_per_gb * canonical / 1e9 + costs.merge_us * log_records / 1e6
        self.compactions += 1
        self.bytes_written += canonical + self.compacted * costs.index_bytes
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
    written = year.compacted * costs.line_bytes + year.bytes_written
    figures: list[harness.Cell] = [
        files,
        way,
        year.compacted,
        year.compacted * costs.record_bytes / 1e6,
        year.compactions,
        written / 1e9,
        written / year.compacted / 1e3,
        written / (year.compacted * costs.record_bytes),
        year.log_records_max * costs.replay_us / 1e3,
        year.compaction_s,
        year.age_max_s,
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
    "kB a record",
    "times its bytes",
    "longest replay, ms",
    "last compaction, s",
    "canonical behind by, s",
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
    }
    for name, (value, meaning) in about.items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"{meaning} (%(default)s)")
    parser.add_argument("--files", type=int, nargs="+", default=[10, 1_000, 100_000], help="files a day")
    given = vars(parser.parse_args())
    options = ManifestOptions(compact_interval_s=given.pop("interval_s"))
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
