"""`manifestlog.audit`: data files compared with the ledger from Python; the command line's tests are in `tests/cli`."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import records_of
from manifestlog import DamagedManifestError, DownloadManifestManager, ManifestNotFoundError, audit, ingest
from manifestlog.names import resolve

from .builders import META, QUIET
from .test_ingest import SCRIPT, start_methods

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"{number}.txt" for number in range(10)]


@pytest.fixture
def tree(path: Path, tmp_path: Path) -> Path:
    """Ten files of two bytes, all registered."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name[:2].encode())
    ingest.run(path, [folder], jobs=1, options=QUIET)
    return folder


def look(
    path: Path, *, jobs: int = 1, on_event: Any = None, keep_findings: bool = True, **wanted: Any
) -> audit.AuditReport:
    options = audit.VerifyOptions(**wanted)
    return audit.run(path, options, jobs=jobs, on_event=on_event, keep_findings=keep_findings)


def counts(report: audit.AuditReport) -> dict[str, int]:
    return {state.value: number for state, number in report.states.items() if number}


# -- what is found -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tree")
def test_files_that_match_their_records_are_ok(path: Path) -> None:
    report = look(path)
    assert (counts(report), report.findings, report.failed, report.left) == ({"ok": 10}, [], False, 0)
    assert (report.files, report.planned, report.bytes) == (10, 10, 20)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_finding_has_a_path_and_a_reason(path: Path, tree: Path, jobs: int) -> None:
    (tree / "3.txt").unlink()
    (tree / "7.txt").write_bytes(b"xx")
    report = look(path, jobs=jobs)
    assert (counts(report), report.failed) == ({"ok": 8, "missing": 1, "changed": 1}, True)
    missing, changed = sorted(report.findings, key=lambda finding: finding.file_path)
    assert missing == audit.FileFinding(
        "missing", str(tree / "3.txt"), hashlib.sha256(b"3.").hexdigest(), "the file does not exist"
    )
    assert (changed.file_path, changed.state) == (str(tree / "7.txt"), audit.FileState.CHANGED)


def test_a_lower_level_compares_less(path: Path, tree: Path) -> None:
    (tree / "7.txt").write_bytes(b"xx")
    assert [look(path, level=level).failed for level in audit.Level] == [False, False, True]


def test_untracked_files_are_reported_without_failing(path: Path, tree: Path) -> None:
    (tree / "new.txt").write_bytes(b"new")
    report = look(path, untracked=(tree,))
    assert (report.unregistered, report.failed) == (1, False)
    assert [(one.state, one.file_path) for one in report.findings] == [("unregistered", str(tree / "new.txt"))]


@pytest.mark.usefixtures("tree")
def test_a_directory_that_cannot_be_searched_for_untracked_files_is_a_failure(path: Path) -> None:
    report = look(path, untracked=(path.parent / "nowhere",))
    assert (report.folders_unreadable, report.unregistered, report.failed) == (1, 0, True)


def test_untracked_files_are_found_for_a_manifest_in_memory(tree: Path) -> None:
    with DownloadManifestManager("memory:x_download", META) as manifest:
        manifest.add_many(records_of(tree))
        (tree / "new.txt").write_bytes(b"new")
        assert audit.run(manifest, audit.VerifyOptions(untracked=(tree,)), jobs=1).unregistered == 1


@pytest.mark.usefixtures("tree")
def test_by_default_untracked_files_are_not_searched(path: Path) -> None:
    assert look(path).unregistered is None


def test_another_root_can_be_given(path: Path, tree: Path) -> None:
    moved = tree.rename(tree.with_name("elsewhere"))
    assert look(path, root=moved, former=tree).states[audit.FileState.OK] == 10


@pytest.mark.usefixtures("tree")
def test_the_same_seed_gives_the_same_sample(path: Path) -> None:
    report = look(path, sample="30%")
    assert (report.files, report.planned, report.looked_at) == (10, 3, 3)
    assert look(path, sample=3, seed=report.seed).seed == report.seed


@pytest.mark.usefixtures("tree")
def test_after_the_deadline_no_file_is_started(path: Path) -> None:
    report = look(path, max_duration_s=1e-9)
    assert (report.looked_at, report.left) == (0, 10)


@pytest.mark.usefixtures("tree")
def test_the_next_run_starts_with_the_remaining_files(path: Path) -> None:
    look(path, sample=4)
    look(path)
    with open(resolve(path).verified, encoding="utf-8") as file:
        order = [json.loads(line)["file_path"] for line in file]
    assert len(order) == 14
    assert set(order[:4]).isdisjoint(order[4:10])


@pytest.mark.usefixtures("tree")
def test_a_journal_that_is_named_is_used_instead_of_the_usual_one(path: Path, tmp_path: Path) -> None:
    journal = tmp_path / "kept.jsonl"
    assert look(path, journal=journal).journal == str(journal)
    assert (len(journal.read_bytes().splitlines()), os.path.exists(resolve(path).verified)) == (10, False)


@pytest.mark.usefixtures("tree")
def test_the_directory_of_a_journal_that_is_named_is_not_made(path: Path, tmp_path: Path) -> None:
    report = look(path, journal=tmp_path / "none" / "kept.jsonl")
    said = "No such file or directory; correct the path, or restore what is missing"
    assert report.journal_error == f"{tmp_path}/none/kept.jsonl: {said}"
    assert counts(report) == {"ok": 10}


def test_a_manifest_in_memory_has_no_journal(tree: Path) -> None:
    with DownloadManifestManager("memory:x_download", META) as manifest:
        manifest.add_many(records_of(tree))
        report = audit.run(manifest, jobs=1)
    assert (counts(report), report.journal, report.journal_error) == ({"ok": 10}, None, None)


# -- how it is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": "deep"},
        {"sample": 0},
        {"sample": "0%"},
        {"sample": "101%"},
        {"sample": "some"},
        {"max_duration_s": 0},
        {"former": "/old"},
    ],
)
def test_invalid_options_are_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "level" not in wrong else "deep"):
        audit.VerifyOptions(**wrong)


@pytest.mark.usefixtures("tree")
def test_an_open_manager_is_used_and_stays_open(path: Path) -> None:
    with DownloadManifestManager(path, options=QUIET) as manifest:
        assert audit.run(manifest, jobs=1).states[audit.FileState.OK] == 10
        assert len(manifest) == 10


def test_a_missing_manifest_is_reported_and_not_created(path: Path) -> None:
    with pytest.raises(ManifestNotFoundError):
        look(path)
    assert list(path.parent.iterdir()) == []


def test_a_damaged_manifest_is_reported(path: Path, tree: Path) -> None:
    del tree
    sound = path.read_bytes()
    path.write_bytes(sound[:-40])
    with pytest.raises(DamagedManifestError):
        look(path)
    path.write_bytes(sound)


# -- how it goes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_events_report_progress(path: Path, tree: Path, jobs: int) -> None:
    (tree / "3.txt").unlink()
    heard: list[audit.Event] = []
    report = look(path, jobs=jobs, on_event=heard.append)
    assert isinstance(heard[0], audit.Began)
    assert heard[0].report is report
    (started,) = (event for event in heard if isinstance(event, audit.WorkersStarted))
    assert started.total_bytes(threading.Event()) == 20
    assert sum(event.bytes_read for event in heard if isinstance(event, audit.Progress)) == 20
    assert [event for event in heard if isinstance(event, audit.FileFinding)] == report.findings


def test_findings_need_not_be_kept(path: Path, tree: Path) -> None:
    (tree / "3.txt").unlink()
    heard: list[audit.Event] = []
    report = look(path, on_event=heard.append, keep_findings=False)
    assert report.findings == []
    assert [event.state for event in heard if isinstance(event, audit.FileFinding)] == ["missing"]


def test_findings_before_an_error_are_in_the_report(path: Path, tree: Path) -> None:
    """The error of a listener ends the run; the report of the first event holds what was found by then."""
    (tree / "3.txt").unlink()
    reports: list[audit.AuditReport] = []

    def hear(event: audit.Event) -> None:
        if isinstance(event, audit.Began):
            reports.append(event.report)
        if isinstance(event, audit.FileFinding):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        look(path, on_event=hear)
    assert len(reports[0].findings) == 1


@pytest.mark.usefixtures("tree")
def test_a_stopped_run_reports_that_it_was_stopped(path: Path) -> None:
    report = audit.run(path, jobs=1, asked_to_stop=lambda: 1)
    assert (report.interrupted, report.looked_at + report.left) == (True, 10)


@pytest.mark.usefixtures("tree")
def test_an_unwritable_journal_is_reported(path: Path) -> None:
    journal = resolve(path).verified
    os.mkdir(journal)
    report = look(path)
    assert report.journal_error == f"{journal}: Is a directory; name a file, or move away what is in its place"
    assert counts(report) == {"ok": 10}


@pytest.mark.usefixtures("tree")
def test_a_report_can_be_pickled_and_written_as_json(path: Path) -> None:
    report = look(path)
    assert pickle.loads(pickle.dumps(report)) == report
    assert report.as_json()["ok"] == 10


@start_methods
def test_a_plain_script_verifies_files(path: Path, tree: Path, method: str) -> None:
    (tree / "3.txt").unlink()
    script = tree.parent / "look.py"
    call = "print([one.state for one in audit.run(sys.argv[2], jobs=2).findings])"
    script.write_text(SCRIPT.format(face="audit", call=call))
    done = subprocess.run([sys.executable, script, method, path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['missing']\n", "")


@pytest.mark.usefixtures("tree")
def test_a_daemonic_process_verifies_by_itself(path: Path) -> None:
    """A worker of Celery may have no children."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(look(path, jobs=2).looked_at), daemon=True)
    process.start()
    assert ours.recv() == 10
    process.join()
