"""`manifestlog extract` from servers at a distance, where the number of transfers at once decides: beside curl and aria2c.

The sources lie on eight addresses of this machine, which are eight hosts to `extract`, and each response takes 50 ms and
each new connection 100 ms (`distant_server`). `manifestlog` runs with its default settings. curl and aria2c make as many
transfers at once as they are told, 64, and what they fetch is hashed by sha256sum, but is in no ledger, and is not synced.
The first table shows what the server can do when it waits for nothing: it is not what limits the others.
"""

from __future__ import annotations

import random
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import harness, peers
from benchmarks.fetching import Extraction, Run, at_a_distance, site_for, started
from benchmarks.harness import Context, Measurement

AT_ONCE = 64
HOSTS = 8
CURL, ARIA2 = f"curl -Z {AT_ONCE}, sha256sum", f"aria2c -j {AT_ONCE}, sha256sum"
CEILING = "the server without distance"
FETCHED, ASKED = "extract at a distance, everything is new", "extract at a distance, nothing has changed"


class Sample(NamedTuple):
    """One peer in one round, and how many bodies its second run took."""

    first: Run
    checksums: list[str]
    second: Run
    bodies: int


class Case(NamedTuple):
    """Files of one size, and where they are served."""

    site: Path
    files: int
    size_bytes: int
    environment: dict[str, str]

    def urls(self, port: int) -> list[str]:
        return [f"http://127.0.0.{1 + n % HOSTS}:{port}/f{n:05}.bin" for n in range(self.files)]


def _bodies(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/bodies") as answer:
        return int(answer.read())


# -- the peers ---------------------------------------------------------------------------------------------------------


def _extract(case: Case, folder: Path, port: int) -> Sample:
    job = Extraction.of(folder, case.environment, case.urls(port))
    first = job.run()
    checksums, before = job.checksums(), _bodies(port)
    second = job.run()
    return Sample(first, checksums, second, _bodies(port) - before)


def _hashed(folder: Path, command: str, case: Case) -> tuple[Run, list[str]]:
    each = "printf '%s\\0' files/* | xargs -0 -P 2 -n 500 sha256sum > sums"
    run = started(["sh", "-ec", f"{command}\n{each}"], folder, case.environment)
    return run, [line[:64] for line in (folder / "sums").read_text("ascii").splitlines()]


def _curl(case: Case, folder: Path, port: int) -> Sample:
    (folder / "files").mkdir()
    lines = [
        f'url = "{url}"\noutput = "files/{n}"\nfail\netag-save = "etag.{n}"\netag-compare = "etag.{n}"\n'
        for n, url in enumerate(case.urls(port))
    ]
    (folder / "curl").write_text("next\n".join(lines), encoding="ascii")
    command = (
        f"curl --silent --show-error --no-progress-meter -Z --parallel-immediate --parallel-max {AT_ONCE} --config curl"
    )
    first, checksums = _hashed(folder, command, case)
    before = _bodies(port)
    second = started(["sh", "-ec", command], folder, case.environment)
    return Sample(first, checksums, second, _bodies(port) - before)


def _aria2(case: Case, folder: Path, port: int) -> Sample:
    """Its second run asks by date, which the server does not answer: so it has no second row."""
    (folder / "files").mkdir()
    lines = [f"{url}\n out={n}\n" for n, url in enumerate(case.urls(port))]
    (folder / "aria2").write_text("".join(lines), encoding="ascii")
    command = f"aria2c --quiet -j {AT_ONCE} -x 1 -d files -i aria2"
    first, checksums = _hashed(folder, command, case)
    return Sample(first, checksums, Run(0.0, 0.0), -1)


_PEERS = {peers.REFERENCE: _extract, CURL: _curl, ARIA2: _aria2}


def _sample(peer: str, case: Case, folder: Path, port: int) -> Sample:
    folder.mkdir()
    try:
        return _PEERS[peer](case, folder, port)
    finally:
        shutil.rmtree(folder)


# -- all of it ---------------------------------------------------------------------------------------------------------


def _measurements(peer: str, case: Case, found: list[Sample]) -> Iterator[Measurement]:
    shown: dict[str, harness.Cell] = {"files": case.files, "kB each": case.size_bytes // 1000}
    rows = [(FETCHED, [one.first for one in found], harness.digest_of(sorted(found[0].checksums)))]
    if found[0].bodies >= 0:
        rows.append((ASKED, [one.second for one in found], harness.digest_of([found[0].bodies])))
    for table, runs, digest in rows:
        yield Measurement(
            table=table,
            case=shown,
            peer=peer,
            unit="s",
            more_is_better=False,
            samples=[one.seconds for one in runs],
            extra={"ms a file": 1e3 * median(one.seconds for one in runs) / case.files, "rounds": len(runs)},
            digest=digest,
            headline=True,
        )


def _ceiling(case: Case, folder: Path) -> Measurement:
    """What one curl gets from the server when that waits for nothing."""
    with at_a_distance(case.site, "--near") as port:
        sample = _sample(CURL, case, folder, port)
    return Measurement(
        table=CEILING,
        case={"files": case.files, "kB each": case.size_bytes // 1000},
        peer=CURL,
        unit="s",
        more_is_better=False,
        samples=[sample.first.seconds],
        extra={"answers/s": case.files / sample.first.seconds},
    )


def run(context: Context) -> Iterator[Measurement]:
    """Round by round, the peers in turns."""
    if (site := site_for(context, "curl")) is None:
        return
    many, large = (context.pick(40, 2_000, 10_000), 20_000), (context.pick(4, 200, 200), 1_000_000)
    for files, size_bytes in (many, large):
        yield from _compared(context, Case(site, files, size_bytes, context.child_environment()))


def _compared(context: Context, case: Case) -> Iterator[Measurement]:
    for number in range(case.files):
        (case.site / f"f{number:05}.bin").write_bytes(random.Random(number).randbytes(case.size_bytes))
    folder = context.directory / "fetched"
    yield _ceiling(case, folder)
    names = [name for name in _PEERS if name != ARIA2 or shutil.which("aria2c")]
    found: dict[str, list[Sample]] = {peer: [] for peer in names}
    with at_a_distance(case.site) as port:
        for turn in range(context.rounds_or(3)):
            for peer in harness.rotated(names, turn):
                found[peer].append(_sample(peer, case, folder, port))
    for peer, samples in found.items():
        yield from _measurements(peer, case, samples)


WORKLOAD = harness.Workload("extract: sources from servers at a distance beside curl and aria2c", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
