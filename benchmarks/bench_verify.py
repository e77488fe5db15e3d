"""How fast files are compared with the ledger: `manifestlog verify` beside sha256sum in as many processes.

Both are whole programs, started anew for every sample. sha256sum is run by xargs, which gives each process its share of
the files at once; it prints checksums and compares them with nothing. As reading from the disk would be the same for
both, the files are in the page cache.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement

JOBS = 2
SHA256SUM = "sha256sum"
_NAME = "files_download"


@dataclass(frozen=True, slots=True)
class Case:
    """So many files of one size, in a folder beside their manifest."""

    files: int
    size_bytes: int
    directory: Path
    environment: dict[str, str]

    @property
    def remembered(self) -> Path:
        return self.directory / "manifests" / f"{_NAME}.manifest.verified.jsonl"

    def run(self, command: list[str]) -> str:
        return subprocess.check_output(command, cwd=self.directory, env=self.environment, text=True)


def _prepare(case: Case) -> None:
    """Files of random bytes, registered."""
    folder = case.directory / "files"
    folder.mkdir(parents=True)
    chance = random.Random(harness.SEED)
    for number in range(case.files):
        (folder / f"f{number:05}").write_bytes(chance.randbytes(case.size_bytes))
    case.run([sys.executable, "-m", "manifestlog", "add", _NAME, "files", "--quiet"])


def _verify(case: Case) -> tuple[float, int]:
    """(seconds, how many files are as the ledger says)."""
    case.remembered.unlink(missing_ok=True)
    began = time.perf_counter()
    said = case.run([sys.executable, "-m", "manifestlog", "verify", _NAME, "--jobs", str(JOBS)])
    return time.perf_counter() - began, int(said.split(" ok,")[0].replace(",", ""))


def _sha256sum(case: Case) -> tuple[float, int]:
    each = -(-case.files // JOBS)
    began = time.perf_counter()
    said = case.run(["sh", "-c", f"find files -type f -print0 | xargs -0 -P {JOBS} -n {each} sha256sum"])
    return time.perf_counter() - began, len(set(said.splitlines()))


_PEERS = {peers.REFERENCE: _verify, SHA256SUM: _sha256sum}


def run(context: Context) -> Iterator[Measurement]:
    """Every case, round by round, the peers in turns."""
    if shutil.which(SHA256SUM) is None or shutil.which("xargs") is None:
        harness.progress("left out: there is no sha256sum here, or no xargs")
        return
    sizes = [(context.pick(20, 300, 300), 1_000_000), (context.pick(200, 20_000, 200_000), 4_000)]
    for files, size_bytes in sizes:
        case = Case(files, size_bytes, context.directory / f"{files}x{size_bytes}", context.child_environment())
        _prepare(case)
        found: dict[str, list[tuple[float, int]]] = {peer: [] for peer in _PEERS}
        for turn in range(context.rounds_or(7)):
            for peer in harness.rotated(list(found), turn):
                found[peer].append(_PEERS[peer](case))
        shutil.rmtree(case.directory)
        for peer, samples in found.items():
            seconds = [one for one, _ in samples]
            yield Measurement(
                table=f"verify, {JOBS} processes, files in the page cache",
                case={"files": files, "kB each": size_bytes // 1000},
                peer=peer,
                unit="MB/s",
                more_is_better=True,
                samples=[files * size_bytes / one / 1e6 for one in seconds],
                extra={"seconds": median(seconds), "µs a file": 1e6 * median(seconds) / files, "rounds": len(samples)},
                digest=harness.digest_of([samples[0][1]]),
                headline=True,
            )


WORKLOAD = harness.Workload("verify: the ledger against its files beside sha256sum", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
