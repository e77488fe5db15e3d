"""`mirror`: once and until a signal, what it says, and what `status` says of a replica."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from cli.program import open_manifest, wait_until
from manifestlog import DownloadManifestManager, replica_state
from support.records import checksum, make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

NAME = "files_extractor"
FILE = f"{NAME}.manifest.json"


@pytest.fixture
def replica(home: Path) -> Path:
    return home / "replica" / FILE


def test_once_says_what_was_applied(run: Program, path: Path, replica: Path) -> None:
    result = run.here("mirror", NAME, "replica", "--once")
    assert (result.code, result.out) == (0, f"{replica}: up to date; records: 2, events applied: 2\n")


def test_json_is_the_report(run: Program, path: Path, replica: Path) -> None:
    found = run.here("mirror", NAME, "replica", "--once", "--json").json
    assert {name: found[name] for name in ("schema_version", "replica", "records", "events", "comparisons")} == {
        "schema_version": 1,
        "replica": str(replica),
        "records": 2,
        "events": 2,
        "comparisons": 0,
    }


def test_a_url_is_no_directory(run: Program, path: Path) -> None:
    assert run.here("mirror", NAME, "postgresql://127.0.0.1:1/db/", "--once").code == 2


def test_another_verb_that_writes_is_refused(run: Program, path: Path, replica: Path) -> None:
    run.here("mirror", NAME, "replica", "--once")
    result = run.here("forget", replica, checksum(1))
    assert (result.code, result.err) == (1, f"manifestlog: {replica}: this is a replica of {path}: write there\n")


def test_status_shows_where_a_replica_comes_from_and_how_old_it_is(run: Program, path: Path, replica: Path) -> None:
    run.here("mirror", NAME, "replica", "--once")
    shown = run.here("status", replica).out
    assert f"ok: replica of {path}, " in shown
    assert " s old" in shown


def test_status_in_json_has_the_age_of_a_replica(run: Program, path: Path, replica: Path) -> None:
    run.here("mirror", NAME, "replica", "--once")
    (row,) = run.here("status", replica, "--json").json
    assert row["replica"]["source"] == str(path)
    assert 0 <= row["replica"]["age_s"] < 60


def test_status_of_another_manifest_names_no_source(run: Program, path: Path) -> None:
    (row,) = run.here("status", NAME, "--json").json
    assert row["replica"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_follows_until_a_signal(run: Program, path: Path, replica: Path, number: int, code: int) -> None:
    with run.start("mirror", NAME, "replica") as process:
        try:
            wait_until(lambda: replica.exists() and replica_state(replica) is not None)
            with open_manifest(path) as manifest:
                manifest.add(make_record(3))
            wait_until(lambda: _has(replica, checksum(3)))
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, "following until SIGTERM or Ctrl-C" in err) == (code, True)
    assert out.startswith(f"{replica}: up to date; records: 3, events applied: ")


def _has(path: Path, content: str) -> bool:
    with DownloadManifestManager(path, read_only=True) as manifest:
        return manifest.has_checksum(content)
