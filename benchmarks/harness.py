"""What every benchmark shares: records to work on, statistics, the machine, tables, JSON, the command line.

A benchmark is a module with a `WORKLOAD`, whose `run(context)` yields `Measurement`s: the same case for every peer, one
sample a round. Ratios are computed inside one run only; no benchmark fails because of a time, but all fail when peers
give different answers to the same questions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from benchmarks import peers

if TYPE_CHECKING:
    from manifestlog import ManifestRecord

SEED = 20_260_101
_BEGAN = time.perf_counter()
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_DATASETS = ("star_systems", "bodies", "stations", "prices")
_VERSIONS = ("1.0.0", "1.0.1", "1.1.0")

Cell = str | int | float
T = TypeVar("T")


class DifferentAnswersError(Exception):
    """Two peers answered the same questions differently: their times say nothing."""


@dataclass(frozen=True, slots=True)
class Context:
    """What one run is asked for."""

    scale: str
    directory: Path
    rounds: int | None = None
    names: tuple[str, ...] | None = None

    @property
    def peers(self) -> list[str]:
        """Those that take part: the installed ones of those asked for, by default few in the normal run."""
        usual = peers.FEW if self.scale == "default" else tuple(peers.PEERS)
        missing = peers.missing()
        return [name for name in self.names or usual if name not in missing]

    def pick(self, quick: int, default: int, full: int) -> int:
        """The size for this scale."""
        return {"quick": quick, "default": default, "full": full}[self.scale]

    def rounds_or(self, default: int) -> int:
        """How many rounds, unless the command line says otherwise."""
        return self.rounds or (2 if self.scale == "quick" else default)

    def child_environment(self) -> dict[str, str]:
        """For processes whose imports are timed: compiled once into a place of our own, whatever the shell says."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPYCACHEPREFIX": str(self.directory / "bytecode")}


@dataclass(slots=True)
class Measurement:
    """One peer in one case: a sample for every round."""

    table: str
    case: dict[str, Cell]
    peer: str
    unit: str
    more_is_better: bool
    samples: list[float] = field(default_factory=list)
    extra: dict[str, Cell] = field(default_factory=dict)
    digest: str = ""
    headline: bool = False
    """Whether the last table of a run shows it."""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def times_slower_than(self, reference: Measurement) -> float:
        """How many times the cost of `reference`; below 1 this one is the faster."""
        ratio = self.median / reference.median
        return 1 / ratio if self.more_is_better else ratio


class Workload(NamedTuple):
    """A benchmark: `run` measures, the caller prints."""

    title: str
    run: Callable[[Context], Iterable[Measurement]]


# -- records ---------------------------------------------------------------------------------------------------------


def make_record(number: int, seed: int = SEED) -> ManifestRecord:
    """Record `number` of a stream of downloads: always the same one.

    Every record has its own content. The last of each ten is newer content of the source of the first, so that nine
    additions in ten are `new` and one is `changed`; one in five has no ETag; times go up.
    """
    from manifestlog import ManifestRecord

    digest = hashlib.sha256(b"%d:%d" % (seed, number)).hexdigest()
    dataset, source_id = source_of(number)
    taken = _EPOCH + timedelta(seconds=number, microseconds=int(digest[:5], 16) % 1_000_000)
    return ManifestRecord(
        source_id=source_id,
        dataset=dataset,
        checksum=digest,
        file_path=Path(f"/srv/etl/data/{dataset}/{taken:%Y/%m}/{digest[:12]}_galaxy_part.json.gz"),
        file_size=1_000 + int(digest[8:14], 16),
        etag=None if number % 5 == 3 else f'"{digest[20:32]}-{number % 4096:x}"',
        ts_downloaded=taken,
        version=_VERSIONS[number % len(_VERSIONS)],
    )


def source_of(number: int) -> tuple[str, str]:
    """Dataset and source of record `number`."""
    first = number - 9 if number % 10 == 9 else number
    dataset = _DATASETS[first % len(_DATASETS)]
    return dataset, f"spansh_{dataset}_{first:08d}"


def make_records(start: int, count: int) -> Iterator[ManifestRecord]:
    """`count` records from `start` on."""
    return (make_record(number) for number in range(start, start + count))


def digest_of(answers: Iterable[object]) -> str:
    """A short hash of what the measured code answered, so that nothing is optimised away and peers can be compared."""
    total = hashlib.sha256()
    for answer in answers:
        total.update(repr(answer).encode())
    return total.hexdigest()[:16]


# -- statistics ------------------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not below `percent` of them (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def middle(values: Iterable[float]) -> float:
    """The median of any values."""
    return statistics.median(values)


def rotated(entrants: Sequence[T], turn: int) -> list[T]:
    """The entrants in the order of this round: each is first now and then."""
    turn %= len(entrants)
    return [*entrants[turn:], *entrants[:turn]]


def check_answers(measurements: Sequence[Measurement]) -> None:
    """Raise `DifferentAnswersError` when peers gave different answers in the same case."""
    for _, group in _by_case(measurements):
        digests = {m.peer: m.digest for m in group if m.digest}
        if len(set(digests.values())) > 1:
            raise DifferentAnswersError(f"{group[0].table}: {group[0].case}: {digests}")


def _by_case(measurements: Sequence[Measurement]) -> list[tuple[str, list[Measurement]]]:
    groups: dict[str, list[Measurement]] = {}
    for one in measurements:
        groups.setdefault(json.dumps([one.table, one.case]), []).append(one)
    return list(groups.items())


# -- the machine -----------------------------------------------------------------------------------------------------


def machine(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """What a reader of the figures has to know about where they were taken."""
    versions = ", ".join(peers.load(name).version() for name in names)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": f"{os.cpu_count()} x {_first_value('/proc/cpuinfo', 'model name') or platform.processor()}",
        "memory": _first_value("/proc/meminfo", "MemTotal") or "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "file system": _file_system(directory),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": f"{versions}, {_libraries()}",
        "load at start": f"{os.getloadavg()[0]:.1f}",
    }


def _first_value(path: str, key: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith(key)), "")
    except OSError:
        return ""


def _file_system(directory: Path) -> str:
    """The type of the file system of a directory; a `tmpfs` makes every sync free and durable figures void."""
    best = ("", "unknown")
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return best[1]
    for point, kind in mounts:
        if directory.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _libraries() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("pydantic", "orjson", "filelock"))


def disk_mb(directory: Path) -> float:
    """What the files below a directory take of the disk, holes left out."""
    return sum(path.stat().st_blocks for path in directory.rglob("*") if path.is_file()) * 512 / 1e6


# -- output ----------------------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def progress(text: str) -> None:
    """A line for whoever waits."""
    sys.stderr.write(f"{time.perf_counter() - _BEGAN:6.1f} s  {text}\n")
    sys.stderr.flush()


def figure(value: Cell) -> str:
    """A number with three significant digits, thousands separated."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def rows_of(measurements: Sequence[Measurement]) -> list[list[str]]:
    """One table's header and rows: case, peer, median, spread, ratio, extras."""
    extras = list(dict.fromkeys(name for one in measurements for name in one.extra))
    cases = list(measurements[0].case)
    rows = [[*cases, "peer", measurements[0].unit, "min - max", "manifestlog is", *extras]]
    for _, group in _by_case(measurements):
        reference = next((m for m in group if m.peer == peers.REFERENCE), None)
        for one in group:
            spread = f"{figure(min(one.samples))} - {figure(max(one.samples))}"
            ratio = "-" if reference in (None, one) or reference is None else ratio_text(one, reference)
            tail = [figure(one.extra.get(name, "-")) for name in extras]
            rows.append([*(figure(one.case[c]) for c in cases), one.peer, figure(one.median), spread, ratio, *tail])
    return rows


def ratio_text(one: Measurement, reference: Measurement) -> str:
    """How many times faster manifestlog is."""
    times = one.times_slower_than(reference)
    return f"{times:,.0f} x" if times >= 100 else f"{times:.2f} x"


def print_rows(title: str, rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table that lines up: figures to the right, names to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = [all(not row[column][:1].isalpha() for row in rows[1:]) for column in range(len(rows[0]))]
    say(f"\n{title}\n")
    for number, row in enumerate(rows):
        padded = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True)]
        say(f"| {' | '.join(padded)} |")
        if number == 0:
            say("|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|")


def print_tables(measurements: Sequence[Measurement]) -> None:
    """Every table of one benchmark."""
    for table in dict.fromkeys(m.table for m in measurements):
        print_rows(f"### {table}", rows_of([m for m in measurements if m.table == table]))


def write_json(path: Path, about: Mapping[str, str], measurements: Sequence[Measurement]) -> None:
    """Everything that was measured, samples included."""
    results = [asdict(m) | {"median": m.median} for m in measurements]
    path.write_text(json.dumps({"machine": about, "results": results}, indent=2) + "\n", encoding="utf-8")


# -- the command line ------------------------------------------------------------------------------------------------


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := set(names) - set(peers.PEERS):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names


def main(workloads: Sequence[Workload], *, summary: bool = False) -> int:
    """Run benchmarks as the command line asks, and print their tables."""
    parser = argparse.ArgumentParser(description="; ".join(w.title for w in workloads))
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all (seconds)")
    size.add_argument("--full", action="store_true", help="all sizes for all peers (many minutes)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="work below DIR instead of the system's temporary folder"
    )
    parser.add_argument("--peers", type=_names, metavar="NAMES", help=f"only these, of {', '.join(peers.PEERS)}")
    given = parser.parse_args()
    scale = "quick" if given.quick else "full" if given.full else "default"
    with tempfile.TemporaryDirectory(prefix="manifestlog-bench-", dir=given.dir) as directory:
        context = Context(scale, Path(directory).resolve(), given.rounds, given.peers)
        for name, library in peers.missing().items():
            progress(f"{name} is skipped: {library} is not installed (python -m pip install '.[bench]')")
        about = machine(context.directory, context.peers)
        for name, value in about.items():
            say(f"{name}: {value}")
        measurements = []
        for workload in workloads:
            progress(workload.title)
            found = list(workload.run(context))
            check_answers(found)
            print_tables(found)
            measurements += found
            if given.json:
                write_json(given.json, about, measurements)  # after each: a full run takes an hour
    if summary:
        print_rows("## Summary", summary_rows(measurements))
    return 0


def summary_rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    """The headline cases: manifestlog's figure, and how many times faster it is than each peer of that case."""
    shown = [m for m in measurements if m.headline]
    rows = [["case", peers.REFERENCE, "unit", "times as fast as"]]
    for _, group in _by_case(shown):
        by_peer = {m.peer: m for m in group}
        reference = by_peer.pop(peers.REFERENCE, None)
        if reference is None:
            continue
        case = ", ".join(f"{figure(value)} {name}" for name, value in reference.case.items())
        ratios = ", ".join(f"{name} {ratio_text(one, reference)}" for name, one in by_peer.items())
        rows.append([f"{reference.table}: {case}", figure(reference.median), reference.unit, ratios or "-"])
    return rows
