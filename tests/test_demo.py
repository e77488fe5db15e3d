"""`make demo` prints what it announces and leaves no file behind, however it ends."""

from __future__ import annotations

import os
import re
import runpy
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cli.program import children_of, wait_until
from manifestlog.stages import Nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[1] / "docs" / "demo.sh"
ROWS_ADDED = 5
"""How many rows a changed file has more."""
COUNT = re.compile(r"^([a-z]+) +(\d+)$", re.MULTILINE)


def start(home: Path, **environment: str) -> subprocess.Popen[str]:
    """Start the demo in this directory as the leader of a process group, as a shell does."""
    return subprocess.Popen(
        ["sh", str(SCRIPT)],
        cwd=home,
        env=os.environ | {"BIN": str(Path(sys.executable).parent)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def said(home: Path) -> str:
    demo = start(home)
    out, err = demo.communicate(timeout=55)
    assert (demo.returncode, err) == (0, "")
    return out


def counts(said: str) -> list[dict[str, int]]:
    """Return the counts of each run without zeros."""
    tables = said.split("result ")[1:]
    return [{name: int(count) for name, count in COUNT.findall(table) if count != "0"} for table in tables]


def test_the_demo_fetches_all_files_then_none_then_the_changed_ones(said: str) -> None:
    assert counts(said) == [{"new": 180, "alias": 20}, {"unchanged": 200}, {"changed": 3, "unchanged": 197}]


STAGE = re.compile(r"^(validate|transform|load|load-sqlite) +(\d+) +(\d+) +(\d+) +(\d+) ", re.MULTILINE)


def test_each_file_goes_all_the_way_although_a_worker_is_killed(said: str) -> None:
    """Items, done, failed and claimed of each stage in each run."""
    steps = ("validate", "transform", "load", "load-sqlite")
    expected = [(step, n, n, "0", "0") for n in ("180", "0", "3") for step in steps]
    assert STAGE.findall(said) == expected


def test_a_worker_was_killed(said: str) -> None:
    assert "a worker was killed" in said


def test_rows_of_changed_files_take_the_place_of_the_old_ones(said: str) -> None:
    for name in ("galaxy.duckdb", "galaxy.sqlite"):
        before, after = re.findall(rf"^{name}: ([\d,]+) rows of 180 files$", said, re.MULTILINE)
        assert int(after.replace(",", "")) - int(before.replace(",", "")) == 3 * ROWS_ADDED


def test_a_row_of_the_warehouse_is_traced_to_its_address(said: str) -> None:
    traced = said.partition("manifestlog trace")[2]
    assert re.search(
        r"galaxy_download: bodies/bodies-001, .*, http://127\.0\.0\.1:\d+/bodies/bodies-001\.json\.gz", traced
    )


def test_the_server_counts_each_body_once(said: str) -> None:
    assert "served 600 requests, 203 bodies" in said


def test_the_demo_is_short_enough_to_read(said: str) -> None:
    assert len(said.splitlines()) < 150


def test_the_demo_shows_a_changed_file(said: str) -> None:
    assert len(re.findall(r": changed, .* data/raw/\w+/\w+-\d{3}-[0-9a-f]{12}\.json\.gz$", said, re.MULTILINE)) == 1


@pytest.mark.usefixtures("said")
def test_the_demo_leaves_no_file(home: Path) -> None:
    assert list(home.iterdir()) == []


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a demo that is fetching files."""
    demo = start(tmp_path)
    try:
        wait_until((tmp_path / ".demo" / "data").exists, 40)
        yield demo
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
        demo.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_exits_with_the_code_of_the_signal(
    interrupted: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    os.killpg(interrupted.pid, number)
    assert interrupted.wait(40) == code


def test_an_interrupted_demo_leaves_no_file(interrupted: subprocess.Popen[str], tmp_path: Path) -> None:
    os.killpg(interrupted.pid, signal.SIGINT)
    interrupted.wait(40)
    assert list(tmp_path.iterdir()) == []


def test_a_terminated_demo_ends_its_server(interrupted: subprocess.Popen[str]) -> None:
    children = children_of(interrupted.pid)
    interrupted.terminate()
    interrupted.wait(40)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_without_duckdb_the_demo_loads_into_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("id,name,updated\n1,Sol,2024-01-01\n2,Achenar,2024-01-02\n")
    warehouse = runpy.run_path(str(SCRIPT.parent / "demo" / "warehouse.py"))
    own = {"source_id": "a", "dataset": "d", "ts": "2024-05-01T00:00:00Z", "checksum": "a" * 64}
    item = SimpleNamespace(path=tmp_path / "a.csv", **own)
    assert [warehouse["load_sqlite"](item).rows for _ in range(2)] == [2, None]
    assert isinstance(warehouse["load_duckdb"](item), Nothing)
    with closing(sqlite3.connect(tmp_path / "galaxy.sqlite")) as found:
        assert found.execute("SELECT id, name FROM rows ORDER BY id").fetchall() == [(1, "Sol"), (2, "Achenar")]


def test_a_demo_whose_server_does_not_start_fails(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "demo.sh").write_bytes(SCRIPT.read_bytes())
    (tmp_path / "docs" / "demo").mkdir()
    (tmp_path / "docs" / "demo" / "dumps.py").write_text("")
    (tmp_path / "docs" / "demo" / "serve.py").write_text("raise SystemExit('no port')")
    demo = subprocess.run(
        ["sh", "docs/demo.sh"],
        cwd=tmp_path,
        env=os.environ | {"BIN": str(Path(sys.executable).parent)},
        capture_output=True,
        check=False,
        timeout=40,
    )
    assert demo.returncode == 1
