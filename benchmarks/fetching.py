"""What the benchmarks of `extract` share: programs that fetch, started anew for every sample, and a server at a distance."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.harness import Context


class Run(NamedTuple):
    """What a program took."""

    seconds: float
    peak_mb: float | None
    """Of its largest process. None if that was smaller than ours when it began: the kernel counts ours as its own."""
    cpu_s: float = 0.0
    """Of all its processes."""


def started(command: list[str], directory: Path, environment: dict[str, str]) -> Run:
    """Run a program to its end."""
    ours_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.sync()  # what earlier programs wrote is written at their cost
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=directory, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    peak_mb = usage.ru_maxrss / 1024 if usage.ru_maxrss > ours_kb else None
    return Run(seconds, peak_mb, usage.ru_utime + usage.ru_stime)


def peak_mb(runs: Iterable[Run]) -> float | str:
    """Return the largest peak; `-` if none of them is known."""
    return max((run.peak_mb for run in runs if run.peak_mb is not None), default="-")


class Extraction(NamedTuple):
    """A configuration in a directory."""

    directory: Path
    environment: dict[str, str]

    @classmethod
    def of(cls, directory: Path, environment: dict[str, str], urls: Sequence[str], **defaults: Any) -> Extraction:
        """Write a configuration for these URLs."""
        sources = [{"source_id": url.rpartition("/")[2], "dataset": "files", "url": url} for url in urls]
        told = {"etl_version": "1.0.0", "manifests_dir": "manifests", "data_dir": "data", "manifest": "files_download"}
        text = json.dumps({**told, "defaults": defaults, "sources": sources})
        (directory / "etl.config.json").write_text(text, encoding="utf-8")
        return cls(directory, environment)

    def run(self) -> Run:
        command = [sys.executable, "-m", "manifestlog", "extract", "etl.config.json", "--quiet"]
        return started(command, self.directory, self.environment)

    def checksums(self) -> list[str]:
        """Return what is registered."""
        command = [sys.executable, "-m", "manifestlog", "list", "files_download"]
        listed = subprocess.check_output(command, cwd=self.directory, env=self.environment, text=True)
        return [line[:64] for line in listed.splitlines()]


def site_for(context: Context, *programs: str) -> Path | None:
    """Return a new, empty directory for what is served; None, and a word about it, if one of these programs is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        harness.progress(f"left out: there is no {missing[0]} here")
        return None
    return Path(tempfile.mkdtemp(prefix="site-", dir=context.directory))


@contextmanager
def at_a_distance(site: Path, *options: str) -> Iterator[int]:
    """Serve a directory from a distance (`distant_server`); give its port."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "port"
        command = [sys.executable, "-m", "benchmarks.distant_server", str(site), str(file), *options]
        with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as process:
            try:
                while not (file.exists() and file.read_text(encoding="ascii")):
                    time.sleep(0.01)
                yield int(file.read_text(encoding="ascii"))
            finally:
                process.terminate()
