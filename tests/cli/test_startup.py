"""What a program loads before it works, and the garbage collector meanwhile."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from extract.builders import raw_config, raw_source
from manifestlog.cli import startup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEVER_NEEDED = (
    "asyncio",
    "statistics",
    "rich",
    "fsspec",
    "manifestlog.engines.filelog.recovery.repair",
)
"""By a run that has one source, over HTTP, and no mistake in its configuration."""


def test_extract_loads_nothing_that_its_first_source_does_not_need(tmp_path: Path) -> None:
    source = raw_source(url="http://127.0.0.1:1/nobody-is-there")
    path = tmp_path / "etl.config.json"
    path.write_text(json.dumps(raw_config(source, defaults={"retries": 0})), encoding="utf-8")
    command = [sys.executable, "-X", "importtime", "-m", "manifestlog", "extract", str(path), "--quiet"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "urllib3" in loaded
    assert loaded & {*NEVER_NEEDED, "typer"} == set()


def test_a_run_with_nothing_pending_loads_nothing_that_only_work_needs(tmp_path: Path) -> None:
    """Half of such a run is the start of the program."""
    run = Program(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("a")
    assert run.here("add", "x_raw", "raw", "--quiet").code == 0
    stage = {"name": "copy", "from": "x_raw", "manifest": "x_copy", "command": ["cp", "{input}", "{output}"]}
    config = {"etl_version": "1.0.0", "manifests_dir": "manifests", "data_dir": "data", "stages": [stage]}
    (tmp_path / "etl.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-X", "importtime", "-m", "manifestlog", "run", "etl.json", "--quiet"]
    _, again = (subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path) for _ in range(2))
    told = again.stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "manifestlog.stages.runner" in loaded
    assert loaded & {*NEVER_NEEDED, "concurrent.futures"} == set()


@pytest.fixture
def _restored() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("_restored")
def test_the_collector_starts_when_everything_is_loaded() -> None:
    startup.begin()
    stopped = not gc.isenabled()
    startup.end()
    assert (stopped, gc.isenabled(), gc.get_freeze_count() > 0) == (True, True, True)


def test_a_collector_that_runs_is_left_as_it_is(tmp_path: Path) -> None:
    """Somebody else's process calls the command line."""
    before = gc.get_freeze_count()
    Program(tmp_path).here("status")
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)


def test_loading_stops_the_collector_meanwhile() -> None:
    with startup.loading():
        stopped = not gc.isenabled()
    assert (stopped, gc.isenabled()) == (True, True)


@pytest.mark.usefixtures("_restored")
def test_loading_does_not_start_a_collector_that_was_stopped() -> None:
    gc.disable()
    with startup.loading():
        pass
    assert not gc.isenabled()
