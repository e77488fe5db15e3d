"""`manifestlog.ingest`: files that are here, registered from Python; what the command line makes of it is in `tests/cli`."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    DownloadManifestManager,
    LockTimeoutError,
    ManifestInUseError,
    ManifestOptions,
    MetadataConflictError,
    Verdict,
    ingest,
)
from manifestlog.names import resolve

from .builders import META, QUIET

if TYPE_CHECKING:
    from pathlib import Path

CONTENTS = {"a.txt": b"a", "sub/b.txt": b"bb", "c.txt": b"ccc"}
SCRIPT = """
import multiprocessing
import sys

from manifestlog import {face}


def main() -> None:
    multiprocessing.set_start_method(sys.argv[1])
    {call}


if __name__ == "__main__":
    main()
"""
start_methods = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three files in a folder `data`."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return folder


def register(path: Path, *files: Path, **wanted: Any) -> ingest.IngestReport:
    given: dict[str, Any] = {"jobs": 1, "options": QUIET}
    return ingest.run(path, files, **(given | wanted))


def landed(report: ingest.IngestReport) -> dict[str, int]:
    return {verdict.value: count for verdict, count in report.verdicts.items() if count}


# -- what is registered ------------------------------------------------------------------------------------------------


def test_a_directory_is_registered_with_everything_in_it(path: Path, tree: Path) -> None:
    report = register(path, tree)
    assert (landed(report), report.files, report.bytes, report.failures) == ({"new": 3}, 3, 6, [])
    with DownloadManifestManager(path, read_only=True) as manifest:
        found = {(r.source_id, r.dataset, r.checksum) for r in manifest.records.values()}
    assert found == {(name, "data", hashlib.sha256(content).hexdigest()) for name, content in CONTENTS.items()}


def test_a_missing_manifest_is_created_and_the_report_says_so(path: Path, tree: Path) -> None:
    assert [register(path, tree).created for _ in range(2)] == [True, False]


def test_the_report_counts_verdicts(path: Path, tree: Path) -> None:
    register(path, tree)
    (tree / "a.txt").write_bytes(b"other")
    report = register(path, tree)
    assert (report.verdicts[Verdict.CHANGED], report.verdicts[Verdict.DUPLICATE]) == (1, 2)
    assert set(report.verdicts) == set(Verdict)


def test_source_dataset_and_version_can_be_given(path: Path, tree: Path) -> None:
    register(path, tree / "a.txt", source_id="systems", dataset="raw", etl_version="2.0.0")
    with DownloadManifestManager(path, read_only=True) as manifest:
        record = manifest.get_record_by_source("systems", "raw")
    assert record is not None
    assert record.version == "2.0.0"


def test_the_known_metadata_of_a_file_is_recorded(path: Path, tree: Path) -> None:
    when = datetime(2024, 5, 1, 2, tzinfo=UTC)
    facts = ingest.KnownFacts(etag='"a-1"', ts_downloaded=when)
    register(path, listed=[ingest.ListedFile(str(tree / "a.txt"), "systems", "raw", facts)])
    with DownloadManifestManager(path, read_only=True) as manifest:
        record = manifest.get_record_by_source("systems", "raw")
    assert record is not None
    assert (record.etag, record.ts_downloaded) == ('"a-1"', when)


def test_files_of_an_index_are_registered(path: Path, tree: Path) -> None:
    index = tree / "index.csv"
    index.write_text("file_path,source_id\na.txt,one\nsub/b.txt,two\n")
    report = register(path, listed=ingest.read_index(index))
    assert landed(report) == {"new": 2}


def test_files_below_the_stated_root_are_recorded_relative_to_it(path: Path, tree: Path) -> None:
    register(path, tree, root_dir=tree)
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert sorted(str(r.file_path) for r in manifest.records.values()) == sorted(CONTENTS)
        assert manifest.root == tree


# -- what is not -------------------------------------------------------------------------------------------------------


def test_an_unreadable_file_is_a_failure_and_does_not_stop_the_others(path: Path, tree: Path) -> None:
    report = register(path, tree, tree / "gone")
    why = "No such file or directory; correct the path, or restore what is missing"
    assert report.failures == [ingest.Failure(str(tree / "gone"), why)]
    assert landed(report) == {"new": 3}


def test_a_file_with_another_checksum_than_listed_is_a_failure(path: Path, tree: Path) -> None:
    facts = ingest.KnownFacts(checksum="0" * 64)
    report = register(path, listed=[ingest.ListedFile(str(tree / "a.txt"), facts=facts)])
    assert [failure.path for failure in report.failures] == [str(tree / "a.txt")]


def test_files_without_content_are_skipped_and_counted(path: Path, tree: Path) -> None:
    (tree / "_SUCCESS").touch()
    (tree / "x.part").write_bytes(b"x")
    skipped = register(path, tree).skipped
    assert (skipped[ingest.SkipReason.EMPTY], skipped[ingest.SkipReason.WORKING]) == (1, 1)


def test_an_option_makes_empty_files_failures(path: Path, tree: Path) -> None:
    (tree / "_SUCCESS").touch()
    report = register(path, tree, empty=ingest.EmptyFiles.ERROR)
    assert [failure.reason for failure in report.failures] == ["empty, not registered"]


@pytest.mark.parametrize("wrong", [{"source_id": ""}, {"dataset": ""}, {"dataset": "\udcff"}, {"etl_version": ""}])
def test_a_name_that_cannot_be_recorded_is_a_value_error(path: Path, tree: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        register(path, tree, **wrong)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_path,colour\nx,red\n", "line 2: unknown name 'colour'"),
        ("source_id\nx\n", "line 2: file_path is missing"),
        ("file_path,checksum\nx,1\n", "line 2: checksum: expected 64"),
    ],
)
def test_an_invalid_index_is_an_error_that_names_the_line(tmp_path: Path, text: str, said: str) -> None:
    index = tmp_path / "index.csv"
    index.write_text(text)
    with pytest.raises(ingest.IndexFileError, match=f"index.csv: {said}"):
        ingest.read_index(index)


def test_an_index_that_is_not_utf_8_is_reported(tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    index.write_bytes(b"file_path\n\xff\n")
    with pytest.raises(ingest.IndexFileError, match="not UTF-8"):
        ingest.read_index(index)


def test_a_missing_index_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ingest.read_index(tmp_path / "index.csv")


# -- errors of the manifest --------------------------------------------------------------------------------------------


def test_another_root_than_that_of_recorded_paths_is_a_conflict(path: Path, tree: Path) -> None:
    register(path, tree, root_dir=tree)
    with pytest.raises(MetadataConflictError):
        register(path, tree, root_dir=tree.parent)


def test_a_manifest_that_is_open_with_other_arguments_is_reported(path: Path, tree: Path) -> None:
    with DownloadManifestManager(path, META, options=QUIET), pytest.raises(ManifestInUseError):
        register(path, tree)


def test_a_path_of_another_file_is_a_value_error(tree: Path) -> None:
    with pytest.raises(ValueError, match="not a manifest file"):
        ingest.run("systems.json", [tree])


@pytest.mark.parametrize("place", ["memory:systems_download", "memory://systems_download", "memory:"])
def test_a_manifest_in_memory_is_a_value_error(tree: Path, place: str) -> None:
    with pytest.raises(ValueError, match=f"^{place}: worker processes cannot use a manifest in memory"):
        ingest.run(place, [tree])


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_the_manifest_is_raised_as_it_is(path: Path, tree: Path, jobs: int) -> None:
    """Also out of a worker process; the report of the first event says what landed before."""
    register(path)
    heard: list[ingest.Event] = []
    with open(resolve(path).append_lock, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LockTimeoutError):
            register(path, tree, jobs=jobs, on_event=heard.append, options=ManifestOptions(lock_timeout_s=0))
    (began,) = (event for event in heard if isinstance(event, ingest.Began))
    assert began.report.files == 0


# -- how it goes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_events_report_progress(path: Path, tree: Path, jobs: int) -> None:
    (tree / "_SUCCESS").touch()
    heard: list[ingest.Event] = []
    report = register(path, tree, tree / "gone", jobs=jobs, on_event=heard.append)
    assert isinstance(heard[0], ingest.Began)
    assert heard[0].report is report
    (started,) = (event for event in heard if isinstance(event, ingest.WorkersStarted))
    assert started.total_bytes(threading.Event()) == 6
    assert sum(event.bytes_read for event in heard if isinstance(event, ingest.Progress)) == 6
    assert [event for event in heard if isinstance(event, ingest.Failure)] == report.failures
    assert [event.why for event in heard if isinstance(event, ingest.Skipped)] == [ingest.SkipReason.EMPTY]


def test_an_error_in_a_listener_leaves_no_worker(path: Path, tree: Path) -> None:
    def hear(event: ingest.Event) -> None:
        if isinstance(event, ingest.Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register(path, tree, jobs=2, on_event=hear)
    assert multiprocessing.active_children() == []


def test_a_stopped_run_reports_that_it_was_stopped(path: Path, tree: Path) -> None:
    report = register(path, tree, asked_to_stop=lambda: 1)
    assert report.interrupted


def test_a_report_can_be_pickled_and_written_as_json(path: Path, tree: Path) -> None:
    report = register(path, tree)
    assert pickle.loads(pickle.dumps(report)) == report
    assert report.as_json()["new"] == 3


@start_methods
def test_a_plain_script_registers_files(path: Path, tree: Path, method: str) -> None:
    call = "print(ingest.run(sys.argv[2], [sys.argv[3]], jobs=2).files)"
    script = tree.parent / "register.py"
    script.write_text(SCRIPT.format(face="ingest", call=call))
    done = subprocess.run([sys.executable, script, method, path, tree], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_daemonic_process_registers_files_by_itself(path: Path, tree: Path) -> None:
    """A worker of Celery may have no children."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(register(path, tree, jobs=2).files), daemon=True)
    process.start()
    assert ours.recv() == 3
    process.join()


def test_one_file_is_hashed_in_this_process(path: Path, tree: Path) -> None:
    """With one job there is no worker process to start."""
    seen: list[int] = []
    register(path, tree, on_event=lambda _: seen.append(len(multiprocessing.active_children())))
    assert set(seen) == {0}
