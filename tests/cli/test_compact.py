"""`compact`, once and as a service."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from cli.program import finish, one_line, open_manifest, records_of, wait_until
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.names import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


def leave_in_log(path: Path, tree: Path, content: bytes) -> None:
    """Write a record as a process that was killed would have left it."""
    (tree / "new.txt").write_bytes(content)
    with open_manifest(path, compact_on_close=False, auto_compact=False) as manifest:
        manifest.add_many(records_of(tree))


def test_the_result_of_a_merge_is_printed(run: Program, filled: Path, tree: Path) -> None:
    leave_in_log(filled, tree, b"new")
    result = run("compact")
    assert result.code == 0
    assert "records merged: 1, total: 4" in result.out
    assert "writers paused" in result.out
    assert len(json.loads(filled.read_text())["records"]) == 4


def test_json_has_the_report(run: Program, filled: Path, tree: Path) -> None:
    leave_in_log(filled, tree, b"new")
    (report,) = run.here("compact", "files_extractor", "--json").json
    assert report["name"] == "files_extractor"
    assert (report["outcome"], report["records_merged"], report["records_total"]) == ("compacted", 1, 4)
    assert report["bytes_written"] == filled.stat().st_size
    assert {"seconds", "writer_pause_s"} <= set(report)


def test_without_changes_the_file_stays(run: Program, filled: Path, tree: Path) -> None:
    before = filled.stat().st_mtime_ns
    assert "nothing to merge" in run.here("compact").out
    assert filled.stat().st_mtime_ns == before
    leave_in_log(filled, tree, b"new")
    assert run.here("compact", "--if-needed", "--quiet").out == ""


def test_a_running_compaction_is_reported(run: Program, filled: Path) -> None:
    lock = FileLock(resolve(filled).compact_lock, 1)
    with lock:
        result = run("compact")
    lock.close()
    assert result.code == 0
    assert "another process is compacting" in result.out


def test_a_damaged_manifest_does_not_stop_the_others(run: Program, filled: Path, tree: Path) -> None:
    broken = filled.with_name("a_broken.manifest.json")
    broken.write_text("{")
    leave_in_log(filled, tree, b"new")
    result = run("compact")
    assert result.code == 12
    assert one_line(result.err)
    assert "records merged: 1" in result.out
    reports = {r["name"]: r for r in run("compact", "--json").json}
    assert reports["a_broken"]["outcome"] == "failed"
    assert reports["a_broken"]["exit_code"] == 12
    assert broken.read_text() == "{"


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_does_not_stop_the_others(run: Program, filled: Path, tree: Path) -> None:
    leave_in_log(filled, tree, b"new")
    result = run("compact")
    assert (result.code, one_line(result.err), "records merged: 1" in result.out) == (0, True, True)


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_does_not_end_the_service(run: Program, filled: Path, tree: Path) -> None:
    leave_in_log(filled, tree, b"new")
    process = run.start("compact", "--every", "0.1s")
    assert process.stdout is not None
    assert "records merged: 1" in process.stdout.readline()
    assert finish(process, signal.SIGTERM).code == 0


def test_a_missing_manifest_is_an_error(run: Program) -> None:
    result = run.here("compact", "no_such", "--json")
    assert (result.code, result.error["exit_code"]) == (10, 10)


@pytest.mark.parametrize("span", ["30", "0s", "soon", "-1s", "99999999999999w", "3651d"])
def test_an_invalid_interval_is_a_usage_error(run: Program, span: str) -> None:
    result = run.here("compact", "--every", span)
    assert result.code == 2
    assert "30s" in result.err
    assert one_line(result.err)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_runs_as_a_service(run: Program, filled: Path, tree: Path, number: signal.Signals, code: int) -> None:
    filled.with_name("a_broken.manifest.json").write_text("{")
    process = run.start("compact", "--every", "0.1s", "--json")
    assert process.stderr is not None
    assert "every 0.1 s" in process.stderr.readline()
    late = filled.with_name("late_extractor.manifest.json")
    leave_in_log(late, tree, b"one")
    wait_until(lambda: late.read_bytes().count(b'"source_id"') == 4)
    leave_in_log(late, tree, b"two")
    wait_until(lambda: late.read_bytes().count(b'"source_id"') == 5)
    result = finish(process, number)
    assert result.code == code
    reports = [json.loads(line) for line in result.out.splitlines()]
    # The second may have been merged while the first round's manifest was being closed, and is then not reported.
    merged = [r["records_merged"] for r in reports if r["name"] == "late_extractor" and r["outcome"] == "compacted"]
    assert merged in ([4], [4, 1])
    assert "a_broken" in result.err


def test_a_service_waits_for_its_directory(run: Program, home: Path) -> None:
    process = run.start("compact", "--every", "0.1s", "--dir", "later")
    assert process.stderr is not None
    process.stderr.readline()
    assert "no such directory" in process.stderr.readline()
    assert finish(process, signal.SIGTERM).code == 0
    assert list(home.iterdir()) == []
