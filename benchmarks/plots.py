"""Draws what a run has measured: `python -m benchmarks.plots RESULTS.json [DIRECTORY]`.

Cost against the number of records (open, lookup, add) and against the number of writers (add), a line for each peer,
both axes logarithmic; lower is better. Only what is in the file is drawn. The same file gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt  # the backend comes first
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from benchmarks import bench_lookup, peers

Result = dict[str, Any]
_COLOURS = {name: f"C{number}" for number, name in enumerate(peers.PEERS)}


class Plot(NamedTuple):
    """One picture: which results, what goes to the right, what cost goes up."""

    name: str
    title: str
    across: str
    unit: str
    wanted: Callable[[Result], bool]
    cost: Callable[[float], float] = float


def _is_add(durability: str, **case: int) -> Callable[[Result], bool]:
    table = f"add, {peers.DURABILITIES[durability]}"
    return lambda one: one["table"] == table and case.items() <= one["case"].items()


def _is_lookup(table: str, others: str) -> Callable[[Result], bool]:
    return lambda one: one["table"] == table and one["case"]["beside"] == others


def _per_second(rate: float) -> float:
    return 1e6 / rate


def plots(results: list[Result]) -> list[Plot]:
    """All pictures that there could be."""
    sizes = [one["case"]["records"] for one in results if one["table"].startswith("add, ")]
    small = min(sizes, default=0)
    found = [
        Plot(
            "open",
            "A fresh process up to its first two answers",
            "records",
            "ms",
            lambda one: one["table"].startswith("open, "),
        )
    ]
    for durability, words in peers.DURABILITIES.items():
        by_records, by_writers = _is_add(durability, writers=1), _is_add(durability, records=small)
        found += [
            Plot(
                f"add_records_{durability}",
                f"One writer, {words}",
                "records",
                "µs an addition",
                by_records,
                _per_second,
            ),
            Plot(
                f"add_writers_{durability}",
                f"{small:,} records, {words}",
                "writers",
                "µs between additions of all writers",
                by_writers,
                _per_second,
            ),
        ]
    questions = {"has": bench_lookup.HIT, "has_not": bench_lookup.MISS, "get": bench_lookup.GET}
    others = {"quiet": bench_lookup.QUIET, "busy": bench_lookup.BUSY}
    for name, table in questions.items():
        for beside, who in others.items():
            title = f"{table}; beside it: {who}"
            found.append(Plot(f"lookup_{name}_{beside}", title, "records", "µs a call", _is_lookup(table, who)))
    return found


def _lines(results: Iterable[Result], plot: Plot) -> dict[str, list[tuple[int, float, float, float]]]:
    """Points of every peer: across, median, smallest and largest cost."""
    lines: dict[str, list[tuple[int, float, float, float]]] = {}
    for one in filter(plot.wanted, results):
        costs = sorted(plot.cost(sample) for sample in one["samples"])
        point = int(one["case"][plot.across]), plot.cost(one["median"]), costs[0], costs[-1]
        lines.setdefault(one["peer"], []).append(point)
    return {peer: sorted(points) for peer, points in lines.items()}


def draw(plot: Plot, results: Iterable[Result], path: Path) -> bool:
    """Write one picture; False when there is nothing that could be a line."""
    lines = _lines(results, plot)
    if max(map(len, lines.values()), default=0) < 2:
        return False
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for peer, points in lines.items():
        across, middle, low, high = zip(*points, strict=True)
        ours = peer == peers.REFERENCE
        axes.plot(across, middle, marker="o", label=peer, color=_COLOURS.get(peer), linewidth=2.5 if ours else 1.2)
        axes.fill_between(across, low, high, color=_COLOURS.get(peer), alpha=0.12, linewidth=0)
    axes.set(title=plot.title, xlabel=plot.across, ylabel=plot.unit, xscale="log", yscale="log")
    if plot.across == "writers":
        axes.set_xscale("log", base=2)
    ticks = sorted({point[0] for points in lines.values() for point in points})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    # Neither a date nor random names: the same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "manifestlog"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def main() -> int:
    """Draw everything that a file of results has."""
    parser = argparse.ArgumentParser(description="draw the results of a run of the benchmarks")
    parser.add_argument("results", type=Path, help="what `--json` has written")
    parser.add_argument("directory", type=Path, nargs="?", default=Path(__file__).parent / "plots")
    given = parser.parse_args()
    results = json.loads(given.results.read_text(encoding="utf-8"))["results"]
    given.directory.mkdir(exist_ok=True)
    for plot in plots(results):
        path = given.directory / f"{plot.name}.svg"
        if draw(plot, results, path):
            print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
