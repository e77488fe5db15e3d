"""The workers of `extract`, however they are started: what the library warns of is heard."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line
from extract.builders import raw_config
from manifestlog.cli import settings
from manifestlog.cli.ui import output
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.program import Program
    from support.badserver import BadServer

WITH_METHOD = """
import multiprocessing, sys
from manifestlog.cli.app import main

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def bad() -> Iterator[BadServer]:
    with misbehaving() as server:
        yield server


def told(run: Program, bad: BadServer, method: str, *options: str) -> str:
    """What is told of a file that comes encoded, by a worker that was started so."""
    url = bad.script("/a", answers.unasked_encoding(b"content"))
    config = raw_config({"source_id": "a", "dataset": "dumps", "url": url}, defaults={"jobs": 1})
    (run.home / "etl.config.json").write_text(json.dumps(config))
    command = [sys.executable, "-c", WITH_METHOD, method, "extract", "etl.config.json", "--json", *options]
    return subprocess.run(command, cwd=run.home, capture_output=True, text=True, check=True).stderr


every_method = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@every_method
def test_a_workers_warning_is_printed_once(run: Program, bad: BadServer, method: str) -> None:
    said = told(run, bad, method)
    assert (one_line(said), said.startswith("manifestlog: warning: dumps/a: ")) == (True, True)


@every_method
def test_quiet_hides_a_workers_warnings(run: Program, bad: BadServer, method: str) -> None:
    assert told(run, bad, method, "--quiet") == ""


def test_a_forked_worker_keeps_its_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live display has taken the place of its stderr, and waits for a thread that is not there."""
    logger = logging.getLogger("manifestlog")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    asked = settings.settle(
        {}, dict.fromkeys(["directory", "as_json", "quiet", "verbose", "lock_timeout", "no_progress"])
    )
    output.configure_logging(asked)
    before = list(logger.handlers)
    output.configure_logging_if_spawned(asked)
    assert logger.handlers == before
