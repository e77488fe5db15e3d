"""Programs that make a file of each of many files, four at a time: manifestlog, xargs, GNU make and luigi.

Each is a whole program, started anew for every run, and runs the same command for each file. `first` makes everything;
`again` finds that nothing has changed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks import harness, peers
from benchmarks.fetching import Run, started
from benchmarks.stage_work import JOBS

XARGS, SYNCED, MAKE, LUIGI = "xargs", "xargs, sha256sum, sync", "GNU make", "luigi"
COMMANDS = {"cp": 'cp "$1" "$2"', "gzip -9": 'gzip -9 <"$1" >"$2"'}
_LUIGI = """
import os, subprocess, sys
import luigi

class Made(luigi.Task):
    name = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(os.path.join("out", self.name))

    def run(self):
        with self.output().temporary_path() as path:
            subprocess.run(["sh", "-c", sys.argv[1], "sh", os.path.join("raw", self.name), path], check=True)

tasks = [Made(name=name) for name in os.listdir("raw")]
luigi.build(tasks, workers=int(sys.argv[2]), local_scheduler=True, log_level="WARNING")
"""
"""As its documentation shows: a task for each file, whose output exists when it is complete."""


class Sample(NamedTuple):
    """One peer in one round, and how many bytes of how many files it has made."""

    first: Run
    again: Run | None
    made: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Case:
    """So many files of one size in `raw`, a manifest of them, and the command for each."""

    files: int
    size_bytes: int
    command: str
    directory: Path
    environment: dict[str, str]

    @property
    def script(self) -> str:
        return COMMANDS[self.command]

    @property
    def shown(self) -> dict[str, harness.Cell]:
        return {"files": self.files, "command": self.command}

    def prepare(self) -> None:
        """Write files that a compressor can make smaller, their manifest, and what the programs are configured with."""
        (self.directory / "raw").mkdir(parents=True)
        chance = random.Random(harness.SEED)
        for number in range(self.files):
            data = chance.randbytes(max(self.size_bytes // 4, 1)).hex().encode() * 2
            (self.directory / "raw" / f"f{number:06}").write_bytes(data[: self.size_bytes])
        self.run([*_manifestlog("add"), "files_download", "raw", "--quiet"])
        argv = ["sh", "-c", self.script, "sh", "{input}", "{output}"]
        stage = {"from": "files_download", "manifest": "files_processing", "command": argv, "output": "{name}"}
        told = {"etl_version": "1.0.0", "manifests_dir": "manifests", "data_dir": "data"}
        told |= {"stages": [stage | {"output_dir": "out", "jobs": JOBS}]}  # type: ignore[dict-item]
        self._write("etl.config.json", json.dumps(told))
        recipe = self.script.replace('"$1"', "$<").replace('"$2"', "$@")
        self._write("Makefile", f"all: $(patsubst raw/%,out/%,$(wildcard raw/*))\nout/%: raw/%\n\t@{recipe}\n")
        self._write("luigi_files.py", _LUIGI)

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding="utf-8")

    def run(self, command: list[str]) -> Run:
        return started(command, self.directory, self.environment)

    def clean(self) -> None:
        """Remove what a peer has made."""
        shutil.rmtree(self.directory / "out", ignore_errors=True)
        (self.directory / "out").mkdir()
        for path in (self.directory / "manifests").glob("files_processing*"):
            path.unlink()

    def made(self) -> tuple[int, int]:
        sizes = [one.stat().st_size for one in os.scandir(self.directory / "out") if not one.name.startswith(".")]
        return len(sizes), sum(sizes)


def _manifestlog(verb: str) -> list[str]:
    return [sys.executable, "-m", "manifestlog", verb]


def _by_manifestlog(case: Case) -> Sample:
    command = [*_manifestlog("run"), "etl.config.json", "--quiet"]
    first = case.run(command)
    return Sample(first, case.run(command), case.made())


def _by_xargs(case: Case, *, synced: bool = False) -> Sample:
    names = "printf '%s\\0' raw/* | sed -z 's,^raw/,,'"
    each = f"xargs -0 -P {JOBS} -I NAME sh -c '{case.script}' sh raw/NAME out/NAME"
    many = f"xargs -0 -P {JOBS} -n {-(-case.files // JOBS)}"
    rest = (
        f"\nfind out -type f -print0 | {many} sha256sum >sums\nfind out -type f -print0 | {many} sync" if synced else ""
    )
    return Sample(case.run(["sh", "-ec", f"{names} | {each}{rest}"]), None, case.made())


def _by_make(case: Case) -> Sample:
    command = ["make", "-s", f"-j{JOBS}", "all"]
    first = case.run(command)
    return Sample(first, case.run(command), case.made())


def _by_luigi(case: Case) -> Sample:
    command = [sys.executable, "luigi_files.py", case.script, str(JOBS)]
    first = case.run(command)
    return Sample(first, case.run(command), case.made())


_WAYS: dict[str, Callable[[Case], Sample]] = {
    peers.REFERENCE: _by_manifestlog,
    XARGS: _by_xargs,
    SYNCED: lambda case: _by_xargs(case, synced=True),
    MAKE: _by_make,
    LUIGI: _by_luigi,
}


def present() -> list[str]:
    """Return the peers that can be run here, and say why the others cannot."""
    missing = {XARGS: _lacks("xargs", "sed"), SYNCED: _lacks("xargs", "sha256sum", "sync", "sed"), MAKE: _lacks("make")}
    missing[LUIGI] = None if find_spec("luigi") else "luigi is not installed (python -m pip install luigi)"
    for peer, reason in missing.items():
        if reason:
            harness.progress(f"{peer} is skipped: {reason}")
    return [peer for peer in _WAYS if not missing.get(peer)]


def _lacks(*programs: str) -> str | None:
    return next((f"there is no {program} here" for program in programs if shutil.which(program) is None), None)


def sample(peer: str, case: Case) -> Sample:
    """Run a peer twice, from nothing."""
    case.clean()
    return _WAYS[peer](case)
