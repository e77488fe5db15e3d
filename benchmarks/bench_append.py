"""What one `add` costs: into a small and a large manifest, for one writer and for several, in two durability classes.

Writers are processes that begin at the same moment; the rate is acknowledged additions over the time from the first
begin to the last end. Each adds records that nobody else adds. The peers take turns within every round.

The small manifest is a fresh copy in every round. The large one is built once for each peer and grows by less than a
tenth; before each case the peer may settle (compact, checkpoint) outside the timed part. The rewritten JSON file
takes as long as it is large: it is given few additions, and at the large size one round with one writer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement
from benchmarks.writers import Span, Task, Writers, built

JSON = "JSON rewrite"


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to a manifest of one size by one peer."""

    durability: str
    writers: int
    records: int
    peer: str
    additions: int
    """Of all writers together, in one round."""


@dataclass(slots=True)
class Place:
    """A peer's manifest of one size, and the first record that it does not hold."""

    directory: Path
    next_number: int


class _Bench:
    def __init__(self, context: Context, writers: Writers) -> None:
        self._context = context
        self._writers = writers
        self._rounds = context.rounds_or(5)
        self._many = context.pick(2, 8, 8)
        self._small = context.pick(100, 1_000, 1_000)
        self._large = context.pick(1_000, 1_000_000, 1_000_000)
        self._places: dict[tuple[str, int], Place] = {}

    def run(self) -> Iterator[Measurement]:
        for size in (self._small, self._large):
            for name, directory in built(self._context, size).items():
                self._places[name, size] = Place(directory, size)
        for durability in peers.DURABILITIES:
            for writers in (1, self._many):
                yield from self._measure(durability, writers)

    def _cases(self, durability: str, writers: int) -> list[Case]:
        found = []
        for size in (self._small, self._large):
            for name in peers.PEERS:
                few = name == JSON
                count = self._few(durability, writers, size) if few else self._enough(durability, writers)
                if count:
                    found.append(Case(durability, writers, size, name, count))
        return found

    def _enough(self, durability: str, writers: int) -> int:
        """Enough to measure a rate, few enough to stay below the length at which the log of 1,000 is compacted."""
        pick = self._context.pick
        if durability == peers.PROCESS_KILL:
            return pick(100, 2_000, 4_000) if writers == 1 else pick(200, 4_000, 8_000)
        return pick(20, 400, 2_000) if writers == 1 else pick(40, 1_600, 4_000)

    def _few(self, durability: str, writers: int, size: int) -> int:
        """For the peer whose additions cost as much as the manifest is large; 0 where nobody would wait for it."""
        if size == self._small:
            return self._context.pick(10, 20, 100) if writers == 1 else 2 * writers
        return 2 if writers == 1 and (durability == peers.PROCESS_KILL or self._context.scale == "full") else 0

    def _is_slow(self, case: Case) -> bool:
        return case.peer == JSON and case.records == self._large

    def _measure(self, durability: str, writers: int) -> Iterator[Measurement]:
        harness.progress(f"{writers} writer(s), {peers.DURABILITIES[durability]}")
        cases = self._cases(durability, writers)
        settled = {case: self._settle(case) for case in cases}
        spans: dict[Case, list[Span]] = {case: [] for case in cases}
        for turn in range(self._rounds):
            for case in harness.rotated(cases, turn):
                if not (self._is_slow(case) and turn):
                    spans[case].append(self._round(case))
        small: dict[str, Measurement] = {}
        for case, found in spans.items():
            result = self._result(case, found, settled[case])
            smaller = small.setdefault(case.peer, result)
            grown = "-" if smaller is result else f"{result.times_slower_than(smaller):.2f} x"
            result.extra[f"cost / at {self._small:,}"] = grown
            yield result

    def _settle(self, case: Case) -> float:
        place = self._places[case.peer, case.records]
        return self._writers.settle(case.peer, place.directory) if case.records == self._large else 0.0

    def _round(self, case: Case) -> Span:
        place = self._places[case.peer, case.records]
        each = case.additions // case.writers
        # Streams begin at a multiple of ten, so that every `changed` finds its `new` in the same writer.
        stride = -(-each // 10) * 10
        first = place.next_number
        directory = place.directory
        if case.records == self._small:
            directory = self._context.directory / "round"
            shutil.copytree(place.directory, directory)
            self._writers.settle(case.peer, directory)
        else:
            place.next_number += case.writers * stride
        tasks = [
            Task(case.peer, directory, case.durability, case.writers > 1, first + number * stride, each)
            for number in range(case.writers)
        ]
        try:
            if not self._is_slow(case):
                return self._writers.add(tasks)
            # What a million records leave in a process's memory must not slow down the next peer.
            with Writers(1) as alone:
                return alone.add(tasks)
        finally:
            if directory is not place.directory:
                shutil.rmtree(directory)

    def _result(self, case: Case, spans: list[Span], settled_s: float) -> Measurement:
        compacted = sum(span.reorganised for span in spans)
        ours = case.peer == peers.REFERENCE
        return Measurement(
            table=f"add, {peers.DURABILITIES[case.durability]}",
            case={"writers": case.writers, "records": case.records},
            peer=case.peer,
            unit="adds/s",
            more_is_better=True,
            samples=[span.per_second for span in spans],
            extra={
                "p50 µs": median(harness.percentile(span.each_us, 50) for span in spans),
                "p99 µs": median(harness.percentile(span.each_us, 99) for span in spans),
                "adds x rounds": f"{case.additions:,} x {len(spans)}",
                "compacted beside": f"{compacted} of {len(spans)}" if ours else "-",
                "merge before, s": settled_s if ours and case.records == self._large else "-",
            },
            # The few additions of the slow peer are another stream: nothing to compare.
            digest="" if case.peer == JSON else harness.digest_of(span.digest for span in spans),
            headline=True,
        )


def run(context: Context) -> Iterator[Measurement]:
    """Every case for every peer."""
    with Writers(context.pick(2, 8, 8)) as writers:
        yield from _Bench(context, writers).run()


WORKLOAD = harness.Workload("append: the cost of one add", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
