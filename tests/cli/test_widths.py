"""What is shown at which width, in a real pseudo-terminal of that many columns: state, why and units are always there."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from cli.test_program import _read
from cli.test_run import CONFIG, configure, stage
from extract.builders import raw_config
from support.accepting import accepting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.program import Program

WIDTHS = [60, 80, 120, 200, *(pytest.param(width, marks=pytest.mark.slow) for width in (72, 100, 160))]
every_width = pytest.mark.parametrize("width", WIDTHS)
LONG = "customers_of_the_northern_region_extractor"
SIZE = 1_000_000
SOURCES = ("alpha_export_of_the_northern_region_2024_complete.json.gz", "beta")
_STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def terminal(run: Program, width: int, *arguments: object) -> str:
    """What the program shows on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}}
    command = [sys.executable, "-m", "manifestlog", *map(str, arguments)]
    shown = b""
    with subprocess.Popen(
        command, cwd=run.home, env=env | {"TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        while block := _read(ours):
            shown += block
    os.close(ours)
    return _STEERING.sub("", shown.decode())


@pytest.fixture
def url() -> Iterator[str]:
    """A server of files of a megabyte, which take half a second."""

    class _Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            for _ in range(10):
                self.wfile.write(bytes([len(self.path)]) * (SIZE // 10))
                time.sleep(0.08)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server, accepting(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def config(home: Path, url: str) -> str:
    sources = [{"source_id": name, "dataset": "dumps", "url": f"{url}/{name}"} for name in SOURCES]
    (home / "c.json").write_text(json.dumps(raw_config(*sources, defaults={"jobs": 2, "retries": 0})))
    return "c.json"


def columns_of(shown: str, first: str) -> tuple[str, list[str]]:
    """The heading and the lines below it."""
    lines = shown.splitlines()
    at = next(i for i, line in enumerate(lines) if line.split()[:1] == [first])
    return lines[at], lines[at + 1 :]


@every_width
def test_status_shows_the_state_of_a_damaged_manifest(run: Program, filled: Path, width: int) -> None:
    filled.write_bytes(filled.read_bytes()[:-20])
    head, rows = columns_of(terminal(run, width, "status", "--quiet"), "manifest")
    assert "damaged" in [row[head.index("state") :][:7] for row in rows]


@every_width
def test_status_never_cuts_a_name(run: Program, width: int) -> None:
    run.here("init", LONG, "--process", "extractor")
    head, rows = columns_of(terminal(run, width, "status"), "manifest")
    assert "".join(row[: head.index("records")].strip() for row in rows).strip("─━ ") == LONG


@every_width
def test_status_is_no_wider_than_the_terminal(run: Program, width: int) -> None:
    run.here("init", LONG, "--process", "extractor")
    assert max(map(len, terminal(run, width, "status").splitlines())) <= width


def test_status_shows_all_columns_if_they_fit(run: Program, filled: Path) -> None:
    head, _ = columns_of(terminal(run, 120, "status", "--dir", filled.parent), "manifest")
    assert head.split() == [
        "manifest",
        "records",
        "canonical",
        "log",
        "segments",
        "history",
        "updated",
        "newest",
        "failed",
        "state",
    ]


@every_width
def test_a_dry_run_shows_why_and_units(run: Program, config: str, width: int) -> None:
    head, rows = columns_of(terminal(run, width, "extract", config, "--dry-run"), "action")
    why = " ".join(row[head.index("why") :].strip() for row in rows)
    assert ("it has no record" in why, sum("1.0 MB" in row for row in rows)) == (True, 2), rows


@pytest.fixture
def pending(run: Program) -> str:
    """The path of a file that is pending for a stage of a configuration."""
    path = run.home / "raw" / "prices.json"
    path.parent.mkdir()
    path.write_text("{}")
    assert run.here("add", "files_raw", "raw", "--quiet").code == 0
    configure(run.home, stage("upper", "files_raw"))
    return str(path)


@every_width
def test_a_dry_run_of_stages_shows_the_whole_path(run: Program, pending: str, width: int) -> None:
    assert pending in terminal(run, width, "run", CONFIG, "--dry-run")


def test_a_dry_run_of_stages_keeps_its_columns_beside_a_long_path(run: Program, pending: str) -> None:
    head, rows = columns_of(terminal(run, len(pending), "run", CONFIG, "--dry-run"), "stage")
    assert head.split() == ["stage", "source", "dataset"]
    assert [row.strip() for row in rows if "path" in row or pending in row] == ["path:", pending]


@every_width
def test_the_live_display_keeps_the_start_of_a_name(run: Program, config: str, width: int) -> None:
    assert "dumps/alpha" in terminal(run, width, "extract", config)


@every_width
def test_the_live_display_has_a_total_once_all_lengths_are_known(run: Program, config: str, width: int) -> None:
    assert re.search(r"all sources[^\r\n]*of 2[^\r\n]*/2\.0 MB", terminal(run, width, "extract", config))


@every_width
def test_status_of_an_earlier_time_fits_the_terminal(run: Program, filled: Path, width: int) -> None:
    shown = terminal(run, width, "status", "--as-of", "0s", "--dir", filled.parent)
    assert "records" in shown
    assert max(map(len, shown.splitlines())) <= width
