"""How fast sources are brought in: `manifestlog extract` beside curl and sha256sum, from one nginx on this machine.

Both are whole programs, started anew for every sample, with as many processes. The first run fetches everything, the
second finds that nothing has changed. What curl has fetched is hashed by sha256sum, but is in no ledger; the third
peer also syncs it to the disk, as manifestlog does before it registers a file.
"""

from __future__ import annotations

import http.client
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import harness, peers
from benchmarks.fetching import Extraction, Run, peak_mb, site_for, started
from benchmarks.harness import Context, Measurement

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for its nginx: one is enough
from support.nginx import QUESTION, Nginx, serving

JOBS = 4
PIECE_BYTES = 1_000_000
CURL = "curl, sha256sum"
SYNCED = "curl, sha256sum, sync"
FETCHED = "extract, everything is new"
ASKED = "extract, nothing has changed"


class Sample(NamedTuple):
    """One peer in one round: the first run and what it brought, the second run and how many bodies that took."""

    first: Run
    checksums: list[str]
    second: Run | None
    bodies: int


@dataclass(frozen=True, slots=True)
class Case:
    """So many files of one size, served from a folder."""

    files: int
    size_bytes: int
    directory: Path
    environment: dict[str, str]
    urls: list[str] = field(default_factory=list)

    @property
    def each(self) -> int:
        """How many files a process gets when all get as many."""
        return -(-self.files // JOBS)


# -- the files ---------------------------------------------------------------------------------------------------------


def _write_files(case: Case, server: Nginx, site: Path) -> None:
    """Random bytes: nothing on the way can make them less."""
    folder = site / f"{case.files}x{case.size_bytes}"
    folder.mkdir()
    for number in range(case.files):
        name = f"f{number:05}.bin"
        _write_noise(folder / name, number, case.size_bytes)
        case.urls.append(f"{server.url}/{folder.name}/{name}")


def _write_noise(path: Path, number: int, size_bytes: int) -> None:
    """In pieces: what this process needs at its most, those that it starts seem to need, too."""
    chance = random.Random(f"{harness.SEED}/{number}")
    with path.open("wb") as file:
        while left := size_bytes - file.tell():
            file.write(chance.randbytes(min(left, PIECE_BYTES)))


def _etags(case: Case) -> Iterator[str]:
    """What a careful user of curl has kept from the first run."""
    first = case.urls[0].split("/", 3)[2]
    connection = http.client.HTTPConnection(first)
    for url in case.urls:
        connection.request("HEAD", url)
        answer = connection.getresponse()
        answer.read()
        yield answer.headers["ETag"]
    connection.close()


def _bodies(server: Nginx) -> int:
    """How many whole files have gone out. (`server.bodies()` keeps every line in memory: see `started`.)"""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", QUESTION, headers={"Connection": "close"})
    connection.getresponse().read()  # by then everything before it is in the log
    connection.close()
    with server.log.open("rb") as lines:
        return sum(b'"method":"GET"' in line and b'"status":200' in line for line in lines)


# -- manifestlog -------------------------------------------------------------------------------------------------------


def _extract(case: Case, server: Nginx) -> Sample:
    job = Extraction.of(case.directory, case.environment, case.urls, jobs=JOBS)
    first = job.run()
    checksums, before = job.checksums(), _bodies(server)
    second = job.run()
    return Sample(first, checksums, second, _bodies(server) - before)


# -- curl and sha256sum ------------------------------------------------------------------------------------------------


def _configurations(case: Case, name: str, lines: list[str]) -> str:
    """The configurations of as many curls, and the command that runs them; each keeps its connection."""
    for number in range(JOBS):
        text = "next\n".join(lines[number::JOBS])
        (case.directory / f"{name}.{number}").write_text(text, encoding="utf-8")
    return f"printf '%s\\0' {name}.* | xargs -0 -P {JOBS} -n 1 curl --silent --show-error --config"


def _curl(case: Case, server: Nginx, *, synced: bool) -> Sample:
    (case.directory / "files").mkdir()
    plain = [f'url = "{url}"\noutput = "files/{url.rpartition("/")[2]}"\nfail\n' for url in case.urls]
    each = f"printf '%s\\0' files/* | xargs -0 -P {JOBS} -n {case.each}"
    steps = [_configurations(case, "first", plain), f"{each} sha256sum > sums", *([f"{each} sync"] if synced else [])]
    first = started(["sh", "-ec", "\n".join(steps)], case.directory, case.environment)
    checksums = [line[:64] for line in (case.directory / "sums").read_text("ascii").splitlines()]
    if synced:
        return Sample(first, checksums, None, 0)
    asking = []
    for number, (text, etag) in enumerate(zip(plain, _etags(case), strict=True)):
        (case.directory / f"etag.{number}").write_text(f"{etag}\n", encoding="ascii")
        asking.append(f'{text}etag-compare = "etag.{number}"\n')
    before = _bodies(server)
    second = started(["sh", "-ec", _configurations(case, "second", asking)], case.directory, case.environment)
    return Sample(first, checksums, second, _bodies(server) - before)


# -- all of it ---------------------------------------------------------------------------------------------------------


def _sample(peer: str, case: Case, server: Nginx) -> Sample:
    case.directory.mkdir()
    try:
        if peer == peers.REFERENCE:
            return _extract(case, server)
        return _curl(case, server, synced=peer == SYNCED)
    finally:
        shutil.rmtree(case.directory)


def _measurements(peer: str, case: Case, found: list[Sample]) -> Iterator[Measurement]:
    size_mb = case.files * case.size_bytes / 1e6
    shown: dict[str, harness.Cell] = {"files": case.files, "kB each": case.size_bytes // 1000}
    yield Measurement(
        table=FETCHED,
        case=shown,
        peer=peer,
        unit="MB/s",
        more_is_better=True,
        samples=[size_mb / one.first.seconds for one in found],
        extra={
            "seconds": median(one.first.seconds for one in found),
            "peak RSS MB": peak_mb(one.first for one in found) if peer == peers.REFERENCE else "-",
            "rounds": len(found),
        },
        digest=harness.digest_of(sorted(found[0].checksums)),
        headline=True,
    )
    again = [one.second for one in found if one.second is not None]
    if again:
        yield Measurement(
            table=ASKED,
            case=shown,
            peer=peer,
            unit="ms",
            more_is_better=False,
            samples=[1e3 * one.seconds for one in again],
            extra={"ms a file": 1e3 * median(one.seconds for one in again) / case.files, "rounds": len(again)},
            digest=harness.digest_of([found[0].bodies]),
            headline=True,
        )


def run(context: Context) -> Iterator[Measurement]:
    """Every case, round by round, the peers in turns."""
    if (site := site_for(context, "curl")) is None:
        return
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serving(site))
        except RuntimeError as error:
            harness.progress(f"left out: {error}")
            return
        sizes = [(context.pick(4, 8, 8), context.pick(1_000_000, 100_000_000, 100_000_000))]
        sizes += [(context.pick(20, 200, 200), 1_000_000), (context.pick(50, 2_000, 2_000), 20_000)]
        for files, size_bytes in sizes:
            case = Case(files, size_bytes, context.directory / "fetched", context.child_environment())
            _write_files(case, server, site)
            found: dict[str, list[Sample]] = {peer: [] for peer in (peers.REFERENCE, CURL, SYNCED)}
            for turn in range(context.rounds_or(7)):
                for peer in harness.rotated(list(found), turn):
                    found[peer].append(_sample(peer, case, server))
            harness.progress(f"{files:,} files of {size_bytes:,} bytes: measured")
            for peer, samples in found.items():
                yield from _measurements(peer, case, samples)


WORKLOAD = harness.Workload("extract: sources from a server beside curl and sha256sum", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
