"""`verify`: the ledger against real files, looked at by several processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import children_of, finish, one_line, open_manifest, records_of, wait_until
from cli.test_add import gone, is_hashing
from cli.test_program import on_terminal
from manifestlog import ManifestRecord, Observation

if TYPE_CHECKING:
    from cli.program import Program, Result

STATES = ["ok", "missing", "changed", "unreadable"]
WHEN = datetime(2024, 5, 1, 12, tzinfo=UTC)
MANIFEST = "files_extractor"


def counts(result: Result) -> dict[str, int]:
    return {name: result.json[name] for name in (*STATES, "unregistered", "superseded", "left") if result.json[name]}


def states(result: Result) -> dict[str, str]:
    """State of each file that was found not to be as it should, by name."""
    return {Path(one["file_path"]).name: one["state"] for one in result.json["findings"]}


def remembered(home: Path) -> list[dict[str, str]]:
    path = home / "manifests" / f"{MANIFEST}.manifest.verified.jsonl"
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def record(path: Path | str, content: bytes = b"a", **fields: Any) -> ManifestRecord:
    given: dict[str, Any] = {
        "source_id": "s",
        "dataset": "d",
        "checksum": hashlib.sha256(content).hexdigest(),
        "file_path": Path(path),
        "file_size": len(content),
        "ts_downloaded": WHEN,
        "version": "1.0.0",
    }
    return ManifestRecord(**(given | fields))


def register(run: Program, *records: ManifestRecord) -> Path:
    path = run.home / "manifests" / f"{MANIFEST}.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add_many(records)
    return path


# -- what is found -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_files_that_match_their_records_are_ok(run: Program) -> None:
    result = run("verify", MANIFEST)
    assert (result.code, result.err) == (0, "")
    assert one_line(result.out)
    assert result.out.startswith("3 ok, 0 missing, 0 changed, 0 unreadable, 0 left; 6 B read in ")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("level", ["presence", "size", "full"])
def test_a_deleted_file_is_missing_at_every_level(run: Program, tree: Path, level: str) -> None:
    (tree / "a.txt").unlink()
    result = run("verify", MANIFEST, "--level", level, "--json")
    assert result.code == 1
    assert counts(result) == {"ok": 2, "missing": 1}
    assert states(result) == {"a.txt": "missing"}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("level", "code"), [("presence", 0), ("size", 1), ("full", 1)])
def test_another_size_is_found_at_level_size_and_above(run: Program, tree: Path, level: str, code: int) -> None:
    (tree / "a.txt").write_bytes(b"aa")
    result = run("verify", MANIFEST, "--level", level, "--json")
    assert result.code == code
    assert counts(result) == ({"ok": 2, "changed": 1} if code else {"ok": 3})


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("level", "code"), [("presence", 0), ("size", 0), ("full", 1)])
def test_changed_content_of_the_same_size_is_found_at_level_full(
    run: Program, tree: Path, level: str, code: int
) -> None:
    (tree / "a.txt").write_bytes(b"b")
    assert run("verify", MANIFEST, "--level", level).code == code


@pytest.mark.usefixtures("filled")
def test_a_finding_has_a_path_and_a_reason(run: Program, tree: Path) -> None:
    (tree / "a.txt").write_bytes(b"b")
    result = run("verify", MANIFEST)
    assert result.out.splitlines()[0] == (f"changed: {tree}/a.txt: its checksum is {hashlib.sha256(b'b').hexdigest()}")
    (found,) = run("verify", MANIFEST, "--json").json["findings"]
    assert found == {
        "state": "changed",
        "file_path": f"{tree}/a.txt",
        "checksum": hashlib.sha256(b"a").hexdigest(),
        "reason": f"its checksum is {hashlib.sha256(b'b').hexdigest()}",
    }


@pytest.mark.usefixtures("filled")
def test_one_flipped_bit_in_a_large_file_is_found(run: Program, tree: Path) -> None:
    data = bytearray(os.urandom(3_000_000))
    (tree / "big").write_bytes(data)
    run("add", MANIFEST, tree / "big")
    assert run("verify", MANIFEST).code == 0
    data[2_000_000] ^= 1
    (tree / "big").write_bytes(data)
    assert states(run("verify", MANIFEST, "--json")) == {"big": "changed"}


@pytest.mark.usefixtures("filled")
def test_a_missing_folder_is_a_missing_file(run: Program, tree: Path) -> None:
    (tree / "sub").rename(tree / "away")
    (tree / "sub").write_bytes(b"a file in the folder's place")
    assert states(run("verify", MANIFEST, "--json")) == {"b.txt": "missing"}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("level", ["presence", "full"])
def test_pipes_sockets_directories_and_devices_are_changed(run: Program, tree: Path, level: str) -> None:
    for name in ("a.txt", ".hidden", "sub/b.txt"):
        (tree / name).unlink()
    os.mkfifo(tree / "a.txt")
    (tree / ".hidden").mkdir()
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tree / "sub"):  # a socket's path may not be long
        server.bind("b.txt")
    (tree / "zero").symlink_to("/dev/zero")
    register(run, record(tree / "zero", b"zz", source_id="zero"))
    result = run("verify", MANIFEST, "--level", level, "--json")
    assert result.code == 1
    assert states(result) == dict.fromkeys(("a.txt", ".hidden", "b.txt", "zero"), "changed")


@pytest.mark.usefixtures("filled")
def test_links_to_files_are_followed(run: Program, tree: Path) -> None:
    (tree / "a.txt").rename(tree / "real")
    (tree / "a.txt").symlink_to("real")
    assert run("verify", MANIFEST).code == 0
    (tree / "real").unlink()
    assert states(run("verify", MANIFEST, "--json")) == {"a.txt": "missing"}


@pytest.mark.usefixtures("filled")
def test_a_file_that_cannot_be_examined_is_unreadable(run: Program, tree: Path) -> None:
    (tree / "a.txt").unlink()
    (tree / "a.txt").symlink_to("a.txt")
    register(run, record("/" + "x" * 300, b"long", source_id="long"), record("nul\0", b"nul", source_id="nul"))
    result = run("verify", MANIFEST, "--json")
    assert result.code == 1
    assert counts(result) == {"ok": 2, "unreadable": 3}


@pytest.mark.usefixtures("filled")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_read_permission_is_unreadable(run: Program, tree: Path) -> None:
    (tree / "a.txt").chmod(0)
    result = run("verify", MANIFEST, "--json")
    assert states(result) == {"a.txt": "unreadable"}
    assert result.code == 1
    assert run("verify", MANIFEST, "--level", "size").code == 0


def test_a_file_that_changes_while_it_is_read_is_changed(run: Program, home: Path) -> None:
    big = sparse(home / "one", 1 << 35)
    register(run, record(big, checksum="0" * 64, file_size=1 << 35))
    process = run.start("verify", MANIFEST, "--jobs", 1, "--json")
    wait_until(lambda: any(is_hashing(pid) for pid in children_of(process.pid)))
    os.truncate(big, 5)
    result = finish(process)
    assert result.code == 1
    assert [one["reason"] for one in result.json["findings"]] == [
        "it changed while it was read; verify it again when nothing writes to it"
    ]


def test_a_file_that_vanishes_while_it_is_read_is_missing(run: Program, home: Path) -> None:
    big = sparse(home / "one", 1 << 29)
    register(run, record(big, checksum="0" * 64, file_size=1 << 29))
    process = run.start("verify", MANIFEST, "--jobs", 1, "--json")
    wait_until(lambda: any(is_hashing(pid) for pid in children_of(process.pid)))
    big.unlink()
    assert states(finish(process)) == {"one": "missing"}


def sparse(path: Path, size: int) -> Path:
    """A file of zeros that takes no space."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.ftruncate(fd, size)
    os.close(fd)
    return path


def test_control_characters_in_names_are_escaped(run: Program, home: Path) -> None:
    name = "a\nmissing: /etc/passwd\x1b[2J"
    register(run, record(home / name))
    result = run("verify", MANIFEST)
    assert len(result.out.splitlines()) == 2
    assert "\x1b" not in result.out
    assert run("verify", MANIFEST, "--json").json["findings"][0]["file_path"] == str(home / name)


# -- which files -------------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_root_dir(run: Program, home: Path) -> None:
    register(run, record("raw/a"))
    (home / "manifests" / "raw").mkdir()
    (home / "manifests" / "raw" / "a").write_bytes(b"a")
    assert run("verify", MANIFEST).code == 0


def test_another_root_can_be_given(run: Program, home: Path) -> None:
    register(run, record("raw/a"))
    (home / "copy" / "raw").mkdir(parents=True)
    (home / "copy" / "raw" / "a").write_bytes(b"a")
    assert run("verify", MANIFEST).code == 1
    assert run("verify", MANIFEST, "--root", "copy").code == 0


def test_the_files_of_all_sources_are_verified(run: Program, home: Path) -> None:
    for name in ("mine", "theirs"):
        (home / name).write_bytes(b"a")
    other = Observation(
        source_id="t", dataset="d", file_path=home / "theirs", etag=None, ts_downloaded=WHEN, version="1"
    )
    register(run, record(home / "mine", also_seen=(other,)))
    assert counts(run("verify", MANIFEST, "--json")) == {"ok": 2}
    (home / "theirs").unlink()
    assert states(run("verify", MANIFEST, "--json")) == {"theirs": "missing"}


@pytest.mark.usefixtures("filled")
def test_a_file_that_was_added_again_is_compared_with_its_new_record(run: Program, tree: Path) -> None:
    (tree / "a.txt").write_bytes(b"newer")
    run("add", MANIFEST, tree)
    result = run("verify", MANIFEST, "--json")
    assert result.code == 0
    assert counts(result) == {"ok": 3, "superseded": 1}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("sample", "files"), [("2", 2), ("50%", 2), ("1%", 1), ("100%", 3), ("1000", 3)])
def test_a_sample_has_the_requested_number_of_files(run: Program, sample: str, files: int) -> None:
    result = run("verify", MANIFEST, "--sample", sample, "--json")
    assert counts(result) == {"ok": files}
    assert result.json["sample"] == files
    assert f"--seed {result.json['seed']}" in result.err


@pytest.mark.usefixtures("filled")
def test_a_seed_chooses_the_same_sample_again(run: Program) -> None:
    for _ in range(2):
        assert run("verify", MANIFEST, "--sample", "1", "--seed", 7).code == 0
    first, second = remembered(run.home)
    assert first["file_path"] == second["file_path"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "wrong",
    [
        *(("--sample", text) for text in ("0", "-1", "0%", "101%", "nan%", "few", "%")),
        *(("--max-duration", text) for text in ("0", "-5", "soon", "5x", "nan")),
        ("--level", "deep"),
        ("--jobs", "0"),
    ],
)
def test_invalid_options_are_a_usage_error(run: Program, wrong: tuple[str, str]) -> None:
    result = run.here("verify", MANIFEST, *wrong)
    assert result.code == 2
    assert one_line(result.err)


def test_a_manifest_without_files_ends_with_0(run: Program) -> None:
    run("init", MANIFEST)
    assert counts(run("verify", MANIFEST, "--json")) == {}


# -- files that no record names ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_unregistered_files_are_reported_without_failing(run: Program, tree: Path) -> None:
    (tree / "new").write_bytes(b"n")
    (tree / "sub" / "empty").touch()
    result = run("verify", MANIFEST, "--extra", tree, "--json")
    assert result.code == 0
    assert counts(result) == {"ok": 3, "unregistered": 2}
    assert states(result) == {"new": "unregistered", "empty": "unregistered"}


@pytest.mark.usefixtures("filled")
def test_the_path_to_a_directory_makes_no_difference(run: Program, home: Path) -> None:
    (home / "link").symlink_to("data")
    assert counts(run("verify", MANIFEST, "--extra", "link", "--extra", "data/sub/..", "--json")) == {"ok": 3}


@pytest.mark.usefixtures("filled")
def test_working_files_of_extract_and_manifests_are_not_data_files(run: Program, tree: Path) -> None:
    for name in ("x.5eed1234.part", "x.5eed1234.part.json", ".manifestlog.claims"):
        (tree / name).write_bytes(b"x")
    result = run("verify", MANIFEST, "--extra", tree, "--extra", "manifests", "--json")
    assert counts(result) == {"ok": 3}


@pytest.mark.usefixtures("filled")
def test_an_older_path_of_a_content_counts_as_registered(run: Program, tree: Path) -> None:
    (tree / "a.txt").write_bytes(b"newer")
    run("add", MANIFEST, tree)
    assert counts(run("verify", MANIFEST, "--extra", tree, "--json")) == {"ok": 3, "superseded": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
@pytest.mark.usefixtures("filled")
def test_an_unreadable_directory_is_a_failure(run: Program, home: Path) -> None:
    (home / "closed").mkdir(0)
    result = run("verify", MANIFEST, "--extra", "closed", "--json")
    assert result.code == 1
    assert states(result) == {"closed": "unreadable"}
    assert counts(result) == {"ok": 3}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("option", ["--untracked", "--root"])
def test_a_directory_that_is_not_there_is_a_usage_error(run: Program, option: str) -> None:
    """It is probably misspelt, and reading every file first would take hours."""
    result = run.here("verify", MANIFEST, option, "nowhere")
    assert (result.code, result.out, one_line(result.err)) == (2, "", True)
    assert "nowhere: no such directory" in result.err


# -- what is remembered ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_each_files_state_is_recorded(run: Program, tree: Path) -> None:
    (tree / "a.txt").unlink()
    run("verify", MANIFEST)
    assert {Path(one["file_path"]).name: one["state"] for one in remembered(run.home)} == {
        "a.txt": "missing",
        "b.txt": "ok",
        ".hidden": "ok",
    }


def _order_of_a_run(run: Program) -> list[str]:
    """All files are missing, so each is a line, in the order in which one worker took them."""
    lines = run("verify", MANIFEST, "--jobs", 1, "--quiet").out.splitlines()
    return [line.split(":")[1].rpartition("/")[2] for line in lines]


def test_the_next_run_starts_with_files_that_were_never_verified(run: Program) -> None:
    register(run, *(record(f"f{n}", b"%d" % n, source_id=f"{n}") for n in range(6)))
    run("verify", MANIFEST, "--sample", 2, "--jobs", 1)
    sampled = [Path(one["file_path"]).name for one in remembered(run.home)]
    order = _order_of_a_run(run)
    assert sorted(order) == [f"f{n}" for n in range(6)]
    assert order[-2:] == sampled


def test_files_verified_longest_ago_come_next(run: Program) -> None:
    register(run, *(record(f"f{n}", b"%d" % n, source_id=f"{n}") for n in range(6)))
    order = _order_of_a_run(run)
    run("verify", MANIFEST, "--sample", 1)
    last = Path(remembered(run.home)[-1]["file_path"]).name
    assert _order_of_a_run(run) == [*(name for name in order if name != last), last]


def test_the_next_run_continues_after_an_interrupted_one(run: Program, home: Path) -> None:
    for number in range(40):
        path = sparse(home / f"f{number}", 100_000_000 + number)
        register(run, record(path, checksum=f"{number:064}", file_size=100_000_000 + number, source_id=path.name))
    first = _interrupted_after_more_than(0, run)
    both = _interrupted_after_more_than(len(first), run)
    assert len(set(both)) == len(both)


def _interrupted_after_more_than(count: int, run: Program) -> list[str]:
    process = run.start("verify", MANIFEST, "--jobs", 2, "--json")
    wait_until(lambda: _lines(run.home) > count)
    result = finish(process, signal.SIGINT)
    assert result.code == 130
    assert "interrupted" in result.err
    paths = [one["file_path"] for one in remembered(run.home)]
    assert result.json["left"] == 40 - (len(paths) - count)
    return paths


def _lines(home: Path) -> int:
    try:
        return len(remembered(home))
    except (FileNotFoundError, ValueError):
        return 0


@pytest.mark.usefixtures("filled")
def test_after_the_deadline_no_file_is_started(run: Program) -> None:
    result = run("verify", MANIFEST, "--max-duration", "0.000001", "--json")
    assert result.code == 0
    assert counts(result) == {"left": 3}
    assert counts(run("verify", MANIFEST, "--max-duration", "1h", "--json")) == {"ok": 3}


def test_after_the_deadline_the_current_file_is_finished(run: Program, tree: Path, home: Path) -> None:
    big = sparse(home / "one", 1 << 30)
    register(run, record(big, checksum="0" * 64, file_size=1 << 30, source_id="one"), *records_of(tree))
    over = time.monotonic() + 4
    process = run.start("verify", MANIFEST, "--max-duration", "4", "--jobs", 1, "--json")
    worker = wait_until(lambda: next(filter(is_hashing, children_of(process.pid)), None))
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: time.monotonic() > over + 1)  # the program began to count later than we
    os.kill(worker, signal.SIGCONT)
    result = finish(process)
    assert result.code == 1
    assert counts(result) == {"changed": 1, "left": 3}


@pytest.mark.usefixtures("filled")
def test_without_its_journal_it_starts_again(run: Program, home: Path) -> None:
    run("verify", MANIFEST)
    path = home / "manifests" / f"{MANIFEST}.manifest.verified.jsonl"
    for data in (b"\0" * 1000, b"\n\xff" * 1000, b""):
        path.write_bytes(data)
        assert run("verify", MANIFEST).code == 0
    path.unlink()
    assert run("verify", MANIFEST).code == 0
    assert len(remembered(home)) == 3


def test_an_unwritable_journal_is_reported_once(run: Program, filled: Path) -> None:
    filled.with_name(f"{MANIFEST}.manifest.verified.jsonl").mkdir()
    result = run("verify", MANIFEST)
    assert result.code == 0
    assert one_line(result.err)
    assert "the next run will verify these files again" in result.err
    assert run("verify", MANIFEST, "--quiet").err == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_can_be_verified(run: Program, filled: Path) -> None:
    filled.parent.chmod(0o555)
    try:
        result = run("verify", MANIFEST)
        assert result.code == 0
        assert "Permission denied" in result.err
    finally:
        filled.parent.chmod(0o755)


def test_nothing_is_written_to_the_manifest(run: Program, filled: Path) -> None:
    def files() -> dict[str, tuple[int, bytes]]:
        found = {path.name: path for path in filled.parent.iterdir() if path.is_file() and "verified" not in path.name}
        return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in found.items()}

    before = files()
    run("verify", MANIFEST)
    assert files() == before


def test_no_other_verb_reads_the_journal(run: Program, filled: Path) -> None:
    def answers() -> list[Result]:
        verbs = (("check", MANIFEST), ("status",), ("list", MANIFEST), ("cat", MANIFEST))
        return [run.here(*verb, "--json") for verb in verbs]

    before = answers()
    run("verify", MANIFEST)
    assert answers() == before
    run("add", MANIFEST, filled)  # a log, so that there is something to merge
    kept = remembered(run.home)
    assert run("compact", MANIFEST).code == 0
    assert remembered(run.home) == kept


# -- many processes ----------------------------------------------------------------------------------------------------


def test_many_files_in_many_processes(run: Program, home: Path) -> None:
    folder = home / "many"
    folder.mkdir()
    for number in range(1_500):
        (folder / f"{number}").write_text(f"content {number}")
    run("add", MANIFEST, folder)
    (folder / "700").write_text("content seven")
    result = run("verify", MANIFEST, "--jobs", 4, "--json")
    assert counts(result) == {"ok": 1_499, "changed": 1}
    assert len({one["file_path"] for one in remembered(home)}) == 1_500


def started(run: Program, home: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A run that takes minutes."""
    records = [
        record(sparse(home / name, 1 << 38), checksum=digit * 64, file_size=1 << 38, source_id=name)
        for name, digit in (("one", "1"), ("two", "2"))
    ]
    register(run, *records)
    process = run.start("verify", MANIFEST, "--jobs", 2, "--json")
    workers = wait_until(lambda: len(found := children_of(process.pid)) == 2 and found)
    wait_until(lambda: all(is_hashing(pid) for pid in workers))
    return process, workers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_cleanly(run: Program, home: Path, number: signal.Signals) -> None:
    process, workers = started(run, home)
    result = finish(process, number)
    assert result.code == 130
    assert counts(result) == {"left": 2}
    assert all(gone(pid) for pid in workers)


def test_a_killed_workers_file_is_reported_and_not_recorded(run: Program, home: Path) -> None:
    process, workers = started(run, home)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    result = finish(process)
    assert result.code == 1
    assert counts(result) == {"unreadable": 2}
    assert all("SIGKILL" in one["reason"] for one in result.json["findings"])
    assert remembered(home) == []


# -- how it talks ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_quiet_prints_findings_only(run: Program, tree: Path) -> None:
    assert run("verify", MANIFEST, "--quiet") == (0, "", "")
    (tree / "a.txt").unlink()
    result = run("verify", MANIFEST, "--quiet")
    assert result.out == f"missing: {tree}/a.txt: the file does not exist\n"


@pytest.mark.usefixtures("filled")
def test_json_has_everything(run: Program) -> None:
    found = run("verify", MANIFEST, "--json").json
    names = ["manifest", "findings", "level", "files", *STATES, "unregistered", "superseded", "left", "sample", "seed"]
    assert list(found) == [*names, "seconds", "bytes"]
    assert (found["level"], found["files"], found["bytes"], found["unregistered"]) == ("full", 3, 6, None)


def test_a_closed_pipe_ends_it_with_1(run: Program) -> None:
    register(run, *(record(f"f{n}", b"%d" % n, source_id=f"{n}") for n in range(3_000)))
    process = run.start("verify", MANIFEST)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 1


def test_only_a_terminal_shows_the_progress_bar(run: Program, home: Path) -> None:
    size = 400 << 20
    register(run, record(sparse(home / "one", size), checksum="0" * 64, file_size=size), record(home / "two", b"2"))
    shown = on_terminal(run, "verify", MANIFEST, "--jobs", 1)
    assert "MB/s" in shown or "GB/s" in shown
    assert "hashing" in shown
    assert "missing: " in shown
    assert "hashing" not in on_terminal(run, "verify", MANIFEST, "--no-progress")


@pytest.mark.usefixtures("filled")
def test_a_damaged_manifest_is_reported(run: Program, filled: Path) -> None:
    filled.write_bytes(b"{")
    result = run("verify", MANIFEST, "--json")
    assert (result.code, result.out) == (12, "")
