"""What one `add` costs: into small and large manifests, for one writer and for several, in two durability classes.

Writers are processes that begin at the same moment; the rate is acknowledged additions over the time from the first
begin to the last end. Each adds records that nobody else adds. The peers take turns within every round.

A small manifest is a fresh copy in every round. The large ones are built once for each peer and grow by less than
a tenth; before each case the peer may settle (compact, checkpoint) outside the timed part. A peer that writes its whole
file anew takes as long as that is large: it is given few additions, and one round with one writer at the large sizes.

The table "while compactions run" adds so many that this engine compacts again and again meanwhile. It has this engine with
other options as well: what a compaction costs its writer is the difference from the row without any. `CPU µs` is the
processor time of the writer's process, which other work on the machine changes least.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement
from benchmarks.writers import Span, Task, Writers, built

_LARGE = 10_000
"""Above it a manifest is not copied for each round, and whoever reads or rewrites everything is asked less often."""
_FEW_TOGETHER = 8
"""So many of those who write everything anew still get along."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to a manifest of one size by one peer."""

    durability: str
    writers: int
    records: int
    peer: str
    additions: int
    """Of all writers together, in one round."""
    long: bool = False
    """Whether the log passes the length at which it is compacted, again and again."""

    @property
    def kind(self) -> type[peers.Peer]:
        return peers.load(self.peer)

    @property
    def is_slow(self) -> bool:
        return self.records > _LARGE and self.kind.rewrites_everything


@dataclass(slots=True)
class Place:
    """A peer's manifest of one size, and the first record that it does not hold."""

    directory: Path
    next_number: int


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are measured in turns."""

    durability: str
    writers: int
    sizes: tuple[int, ...]
    rounds: int
    everybody: bool = True
    """Or only the peers of the normal run: a point of a plot."""
    long: bool = False
    """Whether this engine compacts meanwhile; its variants are measured as well."""


def groups(context: Context) -> list[Group]:
    """Small and large, alone and together; with `--full` the points between them."""
    rounds = context.rounds_or(5)
    small, large = context.pick(100, 1_000, 1_000), context.pick(1_000, 1_000_000, 1_000_000)
    many, crowd = context.pick(2, 8, 8), context.pick(3, 32, 32)
    found = []
    for durability in peers.DURABILITIES:
        between = (10_000, 100_000) if context.scale == "full" else ()
        found += [
            Group(durability, 1, (small, *between, large), rounds),
            Group(durability, many, (small, large), rounds),
        ]
        if context.scale == "full":
            found += [Group(durability, writers, (small,), min(rounds, 3), everybody=False) for writers in (2, 4, 16)]
        if durability == peers.POWER_CUT:
            found.append(Group(durability, crowd, (small, large) if context.scale == "full" else (small,), rounds))
        elif context.scale == "full":
            found.append(Group(durability, crowd, (small,), rounds))
    found.append(Group(peers.PROCESS_KILL, 1, (small,), min(rounds, 3), long=True))
    return found


class _Bench:
    def __init__(self, context: Context, writers: Writers) -> None:
        self._context = context
        self._writers = writers
        self._groups = groups(context)
        self._small = min(size for group in self._groups for size in group.sizes)
        self._places: dict[tuple[str, int], Place] = {}
        self._peaks: dict[tuple[str, int], float] = {}
        self._disk_mb: dict[Case, float] = {}

    def run(self) -> Iterator[Measurement]:
        for size in sorted({size for group in self._groups for size in group.sizes}):
            for name, directory in built(self._context, size).items():
                self._places[name, size] = Place(directory, size)
            for variant in peers.VARIANTS:
                if (peers.REFERENCE, size) in self._places:
                    self._places[variant, size] = self._places[peers.REFERENCE, size]
        for group in self._groups:
            yield from self._measure(group)

    def _cases(self, group: Group) -> list[Case]:
        found = []
        for size in group.sizes:
            for name in [*self._context.peers, *(peers.VARIANTS if group.long else ())]:
                wanted = group.everybody or name in peers.FEW
                count = self._additions(group, size, peers.load(name))
                if wanted and count and (name, size) in self._places:
                    found.append(Case(group.durability, group.writers, size, name, count, group.long))
        return found

    def _additions(self, group: Group, size: int, kind: type[peers.Peer]) -> int:
        """How many this peer is given; 0 where it cannot, or where nobody would wait for it."""
        alone, full = group.writers == 1, self._context.scale == "full"
        if group.long:
            return 0 if kind.rewrites_everything else self._context.pick(2_000, 100_000, 200_000)
        if kind.one_process and not alone:
            return 0
        if kind.rewrites_everything:
            return self._few(group, size)
        # Every writer reads it all: minutes at a million records.
        if kind.reads_everything and size > _LARGE and not (alone or (full and group.writers <= _FEW_TOGETHER)):
            return 0
        return self._enough(group)

    def _enough(self, group: Group) -> int:
        """Enough to measure a rate, few enough to stay below the length at which the log of 1,000 is compacted."""
        pick = self._context.pick
        if group.durability == peers.PROCESS_KILL:
            return pick(100, 2_000, 2_000) if group.writers == 1 else pick(200, 4_000, 4_000)
        return pick(20, 400, 400) if group.writers == 1 else pick(40, 1_600, 1_600)

    def _few(self, group: Group, size: int) -> int:
        """For a peer whose additions cost as much as the manifest is large."""
        full = self._context.scale == "full"
        if size <= _LARGE:
            alone = self._context.pick(4, 20, 20) if size == self._small else 10
            together = 2 * group.writers if size == self._small and group.writers <= _FEW_TOGETHER else 0
            return alone if group.writers == 1 else together
        return 2 if group.writers == 1 and (full or group.durability == peers.PROCESS_KILL) else 0

    def _rounds_of(self, case: Case, rounds: int) -> int:
        if case.is_slow or (case.kind.reads_everything and case.records > _LARGE and case.writers > 1):
            return 1
        return min(rounds, 2) if case.kind.reads_everything and case.records > 100_000 else rounds

    def _measure(self, group: Group) -> Iterator[Measurement]:
        harness.progress(f"{group.writers} writer(s), {peers.DURABILITIES[group.durability]}")
        cases = self._cases(group)
        for case in cases:
            self._alone(case)
        settled = {case: self._settle(case) for case in cases}
        spans: dict[Case, list[Span]] = {case: [] for case in cases}
        for turn in range(group.rounds):
            for case in harness.rotated(cases, turn):
                if turn < self._rounds_of(case, group.rounds):
                    spans[case].append(self._round(case))
        small: dict[str, Measurement] = {}
        for case, found in spans.items():
            result = self._result(case, found, settled[case])
            smaller = small.setdefault(case.peer, result)
            grown = "-" if smaller is result else f"{result.times_slower_than(smaller):.2f} x"
            result.extra[f"cost / at {self._small:,}"] = grown
            yield result

    def _alone(self, case: Case) -> None:
        """For the peak of memory: once in a process that has nothing else in it. What that takes of time counts not."""
        if (case.peer, case.records) not in self._peaks and not case.is_slow:
            with Writers(1) as alone:
                self._round(Case(case.durability, 1, case.records, case.peer, min(case.additions, 100)), alone)

    def _settle(self, case: Case) -> float:
        place = self._places[case.peer, case.records]
        return self._writers.settle(case.peer, place.directory) if case.records > _LARGE else 0.0

    def _round(self, case: Case, alone: Writers | None = None) -> Span:
        if alone is None and case.is_slow:
            # What a million records leave in a process's memory must not slow down the next peer.
            with Writers(1) as fresh:
                return self._round(case, fresh)
        place = self._places[case.peer, case.records]
        each = case.additions // case.writers
        # Streams begin at a multiple of ten, so that every `changed` finds its `new` in the same writer.
        stride = -(-each // 10) * 10
        first = place.next_number
        directory = place.directory
        if case.records <= _LARGE:
            directory = self._context.directory / "round"
            subprocess.run(["cp", "-r", place.directory, directory], check=True)  # it keeps the holes of files
            self._writers.settle(case.peer, directory)
        else:
            place.next_number += case.writers * stride
        tasks = [
            Task(case.peer, directory, case.durability, case.writers > 1, first + number * stride, each)
            for number in range(case.writers)
        ]
        try:
            span = (alone or self._writers).add(tasks)
            self._disk_mb[case] = harness.disk_mb(directory)
        finally:
            if directory is not place.directory:
                shutil.rmtree(directory)
        if alone is not None:
            self._peaks[case.peer, case.records] = span.peak_mb
        return span

    def _result(self, case: Case, spans: list[Span], settled_s: float) -> Measurement:
        compacted = sum(span.reorganised for span in spans)
        ours = case.peer == peers.REFERENCE or case.peer in peers.VARIANTS
        return Measurement(
            table=f"add{' while compactions run' if case.long else ''}, {peers.DURABILITIES[case.durability]}",
            case={"writers": case.writers, "records": case.records},
            peer=case.peer,
            unit="adds/s",
            more_is_better=True,
            samples=[span.per_second for span in spans],
            extra={
                "p50 µs": median(harness.percentile(span.each_us, 50) for span in spans),
                "p99 µs": median(harness.percentile(span.each_us, 99) for span in spans),
                **(_tail(spans) if case.long else {}),
                "adds x rounds": f"{case.additions:,} x {len(spans)}",
                "compacted beside": f"{compacted} of {len(spans)}" if ours else "-",
                "merge before, s": settled_s if ours and case.records > _LARGE else "-",
                "peak RSS MB": self._peaks[case.peer, case.records],
                "MB on disk": self._disk_mb[case],
            },
            # The few additions of those who write everything anew are another stream: nothing to compare.
            # Every round's verdicts are the same ones, and so the number of rounds does not matter.
            digest="" if case.kind.rewrites_everything else harness.digest_of(sorted({s.digest for s in spans})),
            headline=not case.long,
        )


def _tail(spans: list[Span]) -> dict[str, harness.Cell]:
    """What only shows in many additions."""
    return {
        "p99.9 µs": median(harness.percentile(span.each_us, 99.9) for span in spans),
        "CPU µs": median(span.cpu_us for span in spans),
    }


def run(context: Context) -> Iterator[Measurement]:
    """Every case for every peer."""
    with Writers(max(group.writers for group in groups(context))) as writers:
        yield from _Bench(context, writers).run()


WORKLOAD = harness.Workload("append: the cost of one add", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
