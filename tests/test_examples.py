"""The programs in `examples/` print what their docstrings show, and the nightly job does what it says."""

from __future__ import annotations

import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
DAY = "2024-05-01"


def _shown(program: Path) -> list[str]:
    """The indented lines of the docstring: commands that begin with `$`, and what they print."""
    told = ast.get_docstring(ast.parse(program.read_text("utf-8"))) or ""
    return [line.strip() for line in told.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_an_example_prints_what_it_shows(program: Path, tmp_path: Path) -> None:
    shown = _shown(program)
    command = f"$ python {program.name}"
    said: list[str] = []
    for _ in range(shown.count(command)):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        said += [command, *done.stdout.splitlines()]
    assert command in shown
    assert said == shown


def test_the_list_of_examples_is_whole() -> None:
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert [path.name for path in PROGRAMS if f"({path.name})" not in page] == []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A server's folder with the files of the nightly job, and its address."""
    folder = tmp_path / "site"
    (folder / DAY).mkdir(parents=True)
    (folder / "systems.json.gz").write_bytes(gzip.compress(b'["Sol", "Achenar"]', mtime=0))
    (folder / "prices.csv").write_text("item,price\ntea,3\n")
    (folder / DAY / "trades.csv").write_text("item,count\ntea,1\n")
    command = [sys.executable, str(ROOT / "docs" / "demo" / "serve.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            yield folder, server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.fixture
def nightly(site: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the job's folder, set up as its files say."""
    home = tmp_path / "nightly"
    shutil.copytree(EXAMPLES / "nightly", home)
    secrets = (home / "secrets.env.example").read_text("utf-8").replace("https://dumps.example.org", site[1])
    (home / "secrets.env").write_text(secrets, "utf-8")
    return home


def _run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=50)


def test_a_good_night_is_silent_and_everything_is_registered(nightly: Path) -> None:
    done = _run(nightly, "./nightly.sh", "--day", DAY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = json.loads(_run(nightly, "manifestlog", "list", "galaxy_download", "--json").stdout)
    assert {record["source_id"] for record in listed} == {"systems", "prices", f"trades-{DAY}"}


def test_a_bad_night_names_the_source_and_fails(site: tuple[Path, str], nightly: Path) -> None:
    (site[0] / "prices.csv").write_text("<html>Down for maintenance</html>")
    done = _run(nightly, "./nightly.sh", "--day", DAY)
    assert (done.returncode, done.stdout) == (1, "")
    assert "prices/prices: failed: " in done.stderr
