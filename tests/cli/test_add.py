"""`add`: real files, hashed by several processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import children_of, finish, one_line, wait_until
from cli.test_program import on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.program import Program

VERDICTS = ["new", "duplicate", "refreshed", "alias", "changed", "reverted"]


def counts(summary: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in summary.items() if value and name not in {"bytes", "seconds"}}


def test_a_directory_is_added_with_everything_in_it(run: Program, tree: Path) -> None:
    result = run("add", "files_extractor", tree)
    assert result.code == 0
    assert result.err == ""
    assert one_line(result.out)
    assert result.out.startswith(
        "3 new, 0 duplicate, 0 refreshed, 0 alias, 0 changed, 0 reverted, 0 failed, 0 skipped; 6 B"
    )
    records = {r["source_id"]: r for r in run("list", "files_extractor", "--json").json}
    assert set(records) == {"a.txt", "sub/b.txt", ".hidden"}
    record = records["sub/b.txt"]
    assert record["checksum"] == hashlib.sha256(b"bb").hexdigest()
    assert record["file_path"] == str(tree / "sub" / "b.txt")
    assert (record["dataset"], record["file_size"], record["version"]) == ("data", 2, "1.0.0")
    canonical = json.loads((run.home / "manifests" / "files_extractor.manifest.json").read_text())
    assert canonical["metadata"]["total_records"] == 3


def test_adding_again_gives_duplicates_and_notices_changes(run: Program, tree: Path) -> None:
    first = run("add", "files_extractor", "data", "--json").json
    assert list(first) == [*VERDICTS, "failed", "skipped", "bytes", "seconds"]
    assert counts(first) == {"new": 3}
    assert first["bytes"] == 6
    assert counts(run("add", "files_extractor", tree, "--json", "--jobs", 1).json) == {"duplicate": 3}
    (tree / "a.txt").write_bytes(b"other")
    (tree / "z.txt").write_bytes(b"bb")
    assert counts(run("add", "files_extractor", tree, "--json").json) == {"duplicate": 2, "changed": 1, "alias": 1}
    (tree / "a.txt").write_bytes(b"a")
    assert counts(run("add", "files_extractor", tree, "--json").json) == {"duplicate": 3, "reverted": 1}


def test_source_and_dataset_can_be_given(run: Program, tree: Path) -> None:
    run("add", "files_extractor", tree / "a.txt", "--dataset", "letters", "--source", "alphabet", "--etl-version", "3")
    (record,) = run("list", "files_extractor", "--json").json
    assert (record["source_id"], record["dataset"], record["version"]) == ("alphabet", "letters", "3")
    run("add", "files_extractor", tree / "sub" / "b.txt")
    record = run("get", "files_extractor", "--source", "b.txt", "--json").json
    assert (record["dataset"], record["version"]) == ("sub", "3")


def test_an_older_version_is_stamped_but_not_stored(run: Program, tree: Path) -> None:
    run("init", "files_extractor", "--etl-version", "2.0")
    run("add", "files_extractor", tree, "--etl-version", "1.0")
    assert {r["version"] for r in run("list", "files_extractor", "--json").json} == {"1.0"}
    assert json.loads(run("cat", "files_extractor").out)["metadata"]["etl_version"] == "2.0"


def test_links_to_files_are_followed_pipes_and_sockets_are_skipped(run: Program, tree: Path) -> None:
    (tree / "link.txt").symlink_to("a.txt")
    (tree / "folder").symlink_to("sub")
    (tree / "up").symlink_to("..")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tree):  # a socket's path may not be long
        server.bind("socket")
    result = run("add", "files_extractor", tree, "/dev/null", "--json")
    assert result.code == 0
    assert counts(result.json) == {"new": 3, "alias": 1, "skipped": 3}
    sources = {r["source_id"] for r in run("list", "files_extractor", "--json").json}
    assert not any(source.startswith(("folder", "up")) for source in sources)
    assert "skipped" in run("add", "files_extractor", tree, "-v").err


def test_each_failure_is_reported_and_the_other_files_are_added(run: Program, tree: Path) -> None:
    (tree / "empty").touch()
    (tree / "dangling").symlink_to("nowhere")
    (tree / "loop").symlink_to("loop")
    os.close(os.open(os.fsencode(tree) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
    (tree / "secret").write_bytes(b"s")
    (tree / "secret").chmod(0)
    readable = os.geteuid() == 0
    result = run("add", "files_extractor", tree, "gone", "--json", "--empty=error")
    assert result.code == 1
    assert counts(result.json) == {"new": 4 if readable else 3, "failed": 5 if readable else 6}
    assert len(result.err.splitlines()) == result.json["failed"]
    for name in ("empty", "dangling", "loop", "bad", "gone"):
        assert f"/{name}" in result.err
    assert run("add", "files_extractor", tree, "--quiet").out == ""


WORKING = [
    "b.csv.5eed1234.part",
    "b.csv.5eed1234.part.json",
    "c.csv.5eed1234.rejected",
    ".manifestlog.claims",
    ".manifestlog.seen",
    "D.PART",
]


@pytest.mark.parametrize("name", WORKING)
def test_a_working_file_of_extract_is_skipped(run: Program, tree: Path, name: str) -> None:
    (tree / name).write_text("half")
    result = run("add", "files_extractor", tree, "--json")
    assert (result.code, counts(result.json)) == (0, {"new": 3, "skipped": 1})


def test_a_link_to_a_working_file_is_skipped_too(run: Program, tree: Path) -> None:
    (tree / "b.part").write_text("half")
    (tree / "b").symlink_to("b.part")
    assert counts(run("add", "files_extractor", tree, "--json").json) == {"new": 3, "skipped": 2}


def test_empty_files_are_not_failures(run: Program, tree: Path) -> None:
    (tree / "_SUCCESS").touch()
    result = run("add", "files_extractor", tree, "--json")
    assert (result.code, counts(result.json)) == (0, {"new": 3, "skipped": 1})


def test_skipped_files_are_counted_in_one_line(run: Program, tree: Path) -> None:
    for name in ("_SUCCESS", "sub/_SUCCESS", "a.part"):
        (tree / name).touch()
    assert run("add", "files_extractor", tree).err == (
        "manifestlog: skipped: 1 working file of extract, 2 empty files (--verbose lists them)\n"
    )


def test_verbose_names_every_skipped_file(run: Program, tree: Path) -> None:
    (tree / "_SUCCESS").touch()
    assert f"{tree}/_SUCCESS: skipped: empty file\n" in run("add", "files_extractor", tree, "-v").err


def test_an_option_makes_empty_files_fail(run: Program, tree: Path) -> None:
    (tree / "_SUCCESS").touch()
    result = run("add", "files_extractor", tree, "--json", "--empty=error")
    assert (result.code, counts(result.json)) == (1, {"new": 3, "failed": 1})


def test_the_quarantine_is_left_out(run: Program, filled: Path, tree: Path) -> None:
    filled.write_bytes(filled.read_bytes()[:-40])
    run("repair", filled)
    assert list(filled.parent.glob("quarantine/*/report.json"))
    run("add", filled, tree.parent)
    assert not [r for r in run("list", filled, "--json").json if "/quarantine/" in r["file_path"]]


def test_the_manifests_own_files_are_left_out(run: Program, tree: Path) -> None:
    run("init", "other_extractor", "--dir", tree)
    for _ in range(2):
        result = run("add", "files_extractor", tree, "--dir", tree, "--json")
        assert result.code == 0, result.err
    assert counts(result.json) == {"duplicate": 3}


def test_existing_metadata_is_kept(run: Program, tree: Path) -> None:
    run("init", "files_loader", "--process", "loader", "--etl-version", "7")
    assert run("add", "files_loader", tree).code == 0
    metadata = json.loads(run("cat", "files_loader").out)["metadata"]
    assert (metadata["process"], metadata["etl_version"]) == ("loader", "7")


def test_a_damaged_manifest_is_not_changed(run: Program, filled: Path, tree: Path) -> None:
    filled.write_bytes(b"{")
    result = run("add", filled, tree)
    assert result.code == 12
    assert one_line(result.err)
    assert filled.read_bytes() == b"{"


def test_many_files_in_many_processes(run: Program, home: Path) -> None:
    folder = home / "many"
    folder.mkdir()
    for number in range(500):
        (folder / f"{number}").write_text(f"content {number}")
    assert counts(run("add", "many_extractor", folder, "--jobs", 4, "--json").json) == {"new": 500}
    first, second = (run.start("add", "many_extractor", folder, "--json", "-j", 2) for _ in range(2))
    for process in (first, second):
        assert counts(finish(process).json) == {"duplicate": 500}


@pytest.fixture
def big(home: Path) -> Path:
    """Two files that take minutes to hash, and no space."""
    folder = home / "big"
    folder.mkdir()
    for name in ("one", "two"):
        os.truncate(os.open(folder / name, os.O_CREAT | os.O_WRONLY), 1 << 38)
    (folder / "a").write_bytes(b"a")
    return folder


def started(run: Program, *arguments: object) -> tuple[subprocess.Popen[str], list[int]]:
    process = run.start("add", "big_extractor", *arguments, "--jobs", 2, "--json")
    workers = wait_until(lambda: len(found := children_of(process.pid)) == 2 and found)
    wait_until(lambda: all(is_hashing(pid) for pid in workers))
    return process, workers


def is_hashing(pid: int) -> bool:
    return any(target.endswith(("one", "two")) for target in open_files(pid))


def open_files(pid: int) -> Iterator[str]:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(f"/proc/{pid}/fd/{fd}")


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_cleanly(run: Program, big: Path, number: signal.Signals) -> None:
    process, workers = started(run, big / "one", big / "two")
    result = finish(process, number)
    assert result.code == 130
    assert counts(result.json) == {}
    assert "interrupted" in result.err
    assert all(gone(pid) for pid in workers)
    assert run("list", "big_extractor").out == ""


def test_ctrl_c_reaches_the_whole_group(run: Program, big: Path) -> None:
    process, workers = started(run, big)
    for pid in workers:
        os.kill(pid, signal.SIGINT)
    result = finish(process, signal.SIGINT)
    assert result.code == 130
    assert all(gone(pid) for pid in workers)
    assert counts(result.json) in ({}, {"new": 1})


def test_a_killed_worker_is_noticed(run: Program, big: Path) -> None:
    process, workers = started(run, big / "one", big / "two")
    os.kill(workers[0], signal.SIGKILL)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "SIGKILL" in line
    os.kill(workers[1], signal.SIGKILL)
    result = finish(process)
    assert result.code == 1
    assert counts(result.json) == {"failed": 2}


def test_new_workers_replace_killed_ones(run: Program, big: Path) -> None:
    (big / "three").write_bytes(b"3")
    process, workers = started(run, big / "one", big / "two", big / "three")
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    result = finish(process)
    assert result.code == 1
    assert counts(result.json) == {"new": 1, "failed": 2}


def test_workers_do_not_outlive_a_killed_parent(run: Program, big: Path) -> None:
    process, workers = started(run, big)
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in workers))
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_only_a_terminal_shows_the_progress_bar(run: Program, home: Path) -> None:
    os.truncate(os.open(home / "large", os.O_CREAT | os.O_WRONLY), 400 << 20)
    shown = on_terminal(run, "add", "large_extractor", "large", "gone")
    assert "hashing" in shown
    assert "MB/s" in shown or "GB/s" in shown
    assert "gone: No such file" in shown
    assert "1 new" in shown
    assert "hashing" not in on_terminal(run, "add", "large_extractor", "large", "--no-progress")


def test_a_full_disk_is_reported_with_the_number_of_added_files(run: Program, home: Path) -> None:
    folder = home / "many"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}").write_text(f"content {number}")
    command = f"ulimit -f 40; {sys.executable} -m manifestlog add full_extractor many --jobs 1 --json"
    done = subprocess.run(["bash", "-c", command], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["error"] == "DiskFullError"
    landed = json.loads(done.stdout)["new"]
    assert 0 < landed < 200
    assert len(run("list", "full_extractor", "--json").json) == landed
