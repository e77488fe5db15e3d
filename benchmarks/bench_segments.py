"""One large body from a server that limits each connection: `manifestlog extract` with `segments` beside aria2c and curl.

The server is at a distance (`distant_server`) and gives each connection 2 MB a second. aria2c and `extract` use eight
connections, `extract` without segments and curl have one. What the others fetch is hashed by sha256sum, but is in no ledger.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import harness, peers
from benchmarks.fetching import Extraction, Run, at_a_distance, site_for, started
from benchmarks.harness import Context, Measurement

SEGMENTS = 8
TABLE = "extract one body over several connections"
ALONE = f"{peers.REFERENCE}, segments = 1"
CURL, ARIA2 = "curl, sha256sum", f"aria2c -x {SEGMENTS} -s {SEGMENTS}, sha256sum"


class Sample(NamedTuple):
    """One peer in one round."""

    run: Run
    checksum: str


class Case(NamedTuple):
    """Where the body is, and where it goes."""

    url: str
    folder: Path
    environment: dict[str, str]


def _extract(segments: int) -> Callable[[Case], Sample]:
    def extract(case: Case) -> Sample:
        job = Extraction.of(case.folder, case.environment, [case.url], segments=segments)
        return Sample(job.run(), job.checksums()[0])

    return extract


def _hashing(fetch: str) -> Callable[[Case], Sample]:
    def hashed(case: Case) -> Sample:
        script = f"{fetch}\nsha256sum body > sum".replace("URL", case.url)
        run = started(["sh", "-ec", script], case.folder, case.environment)
        return Sample(run, (case.folder / "sum").read_text("ascii")[:64])

    return hashed


_PEERS = {
    peers.REFERENCE: _extract(SEGMENTS),
    ARIA2: _hashing(f"aria2c --quiet -x {SEGMENTS} -s {SEGMENTS} -k 1M -o body URL"),
    ALONE: _extract(1),
    CURL: _hashing("curl --silent --show-error -o body URL"),
}


def _sample(peer: str, case: Case) -> Sample:
    case.folder.mkdir()
    try:
        return _PEERS[peer](case)
    finally:
        shutil.rmtree(case.folder)


def run(context: Context) -> Iterator[Measurement]:
    """Round by round, the peers in turns."""
    if (site := site_for(context, "curl", "aria2c")) is None:
        return
    size_bytes = context.pick(4_000_000, 40_000_000, 40_000_000)
    (site / "body").write_bytes(random.Random(harness.SEED).randbytes(size_bytes))
    found: dict[str, list[Sample]] = {peer: [] for peer in _PEERS}
    with at_a_distance(site, "--narrow") as port:
        case = Case(f"http://127.0.0.1:{port}/body", context.directory / "fetched", context.child_environment())
        for turn in range(context.rounds_or(3)):
            for peer in harness.rotated(list(_PEERS), turn):
                found[peer].append(_sample(peer, case))
    for peer, samples in found.items():
        yield Measurement(
            table=TABLE,
            case={"MB": size_bytes // 1_000_000, "MB/s a connection": 2},
            peer=peer,
            unit="s",
            more_is_better=False,
            samples=[one.run.seconds for one in samples],
            extra={"CPU s": median(one.run.cpu_s for one in samples), "rounds": len(samples)},
            digest=harness.digest_of([samples[0].checksum]),
            headline=True,
        )


WORKLOAD = harness.Workload("extract: one body over several connections beside aria2c and curl", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
