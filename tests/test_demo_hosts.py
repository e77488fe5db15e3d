"""`make demo-hosts` proves what it announces, fails if a claim does not hold, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, wait_until
from support import answers, s3
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Server

DOCS = Path(__file__).parents[1] / "docs"
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory for temporary ones, which the database server's user may enter."""
    found = Path(tempfile.mkdtemp(prefix="hosts-"))
    found.chmod(0o711)
    yield found
    shutil.rmtree(found)


def start(temporary: Path) -> subprocess.Popen[str]:
    """Start the demo as the leader of a process group, as a shell does."""
    return subprocess.Popen(
        ["sh", str(DOCS / "demo_hosts.sh")],
        env=os.environ | {"BIN": str(BIN), "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def test_three_hosts_share_200_sources_and_everything_is_there_once(temporary: Path) -> None:
    demo = start(temporary)
    out, err = demo.communicate(timeout=600)
    assert (demo.returncode, err) == (0, ""), out
    assert (out.count("\nok: "), out.count("FAILED")) == (7, 0)
    assert "host-b is killed" in out
    assert "host-c: the claims of" in out
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing(temporary: Path, number: signal.Signals, code: int) -> None:
    demo = start(temporary)
    wait_until(lambda: list(temporary.glob("*/host-c")), 120)
    os.killpg(demo.pid, number)
    demo.communicate(timeout=120)
    assert (demo.returncode, list(temporary.iterdir())) == (code, [])
    left = subprocess.run(["pgrep", "-f", str(temporary)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_a_claim_that_does_not_hold_fails_the_proof(
    tmp_path: Path, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server.execute("CREATE DATABASE demo_hosts")
    with s3.serving() as store, misbehaving() as server:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        url = server.script("/a.gz", answers.whole(b"a"))
        config = {
            "etl_version": "1.0.0",
            "manifests_dir": postgres_server.url("", "demo_hosts").replace("/?", "?"),
            "data_dir": f"s3://{s3.BUCKET}/raw",
            "manifest": "galaxy_download",
            "sources": [{"source_id": "a", "dataset": "galaxy", "url": url}],
        }
        (tmp_path / "etl.config.json").write_text(json.dumps(config), encoding="utf-8")
        extracted = Program(tmp_path)("extract", "etl.config.json")
        assert extracted.code == 0, extracted.err
        store.client().delete_object(Bucket=s3.BUCKET, Key="ready")
        assert prove(tmp_path) == (0, 0)
        for number in range(5):
            store.client().put_object(Bucket=s3.BUCKET, Key=f"raw/galaxy/{number}.gz", Body=b"a")
        assert prove(tmp_path) == (1, 1)
        store.client().put_object(Bucket=s3.BUCKET, Key="raw/galaxy/other.gz", Body=b"b")
        assert prove(tmp_path) == (1, 2)


def prove(home: Path) -> tuple[int, int]:
    """Return the exit code, and how many claims do not hold."""
    command = [sys.executable, str(DOCS / "demo" / "hosts.py"), "prove", "etl.config.json"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.count("FAILED")
