"""What holds for every verb: global options, help, exit codes, errors, where output goes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer.main

import manifestlog
from cli.program import one_line, records_of
from manifestlog.cli import app, program
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.names import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

GLOBALS = {"--dir", "--json", "--quiet", "--verbose", "--lock-timeout", "--no-progress"}
GROUP = cast("Any", typer.main.get_command(program.app))
VERBS = sorted(GROUP.list_commands(None))


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_help_text_fits_the_terminal(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    command = GROUP.get_command(None, verb) if verb else GROUP
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name
    assert {option for p in command.params for option in p.opts} >= GLOBALS
    assert app.main([verb, "--help"] if verb else []) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "..." not in out.partition("Options:")[2], "something was cut"


def test_the_list_of_verbs_shows_whole_summaries(run: Program) -> None:
    result = run(COLUMNS="80")
    assert result.code == 0
    listed = result.out.partition("Commands:")[2]
    assert "..." not in listed
    assert all(f"\n  {verb} " in listed for verb in VERBS)


def test_the_version_is_printed(run: Program) -> None:
    assert run("--version") == (0, f"manifestlog {manifestlog.__version__}\n", "")


@pytest.mark.usefixtures("filled")
def test_global_options_work_before_and_after_the_verb(run: Program) -> None:
    (run.home / "manifests").rename(run.home / "elsewhere")
    expected = run("--dir", "elsewhere", "--json", "status").json
    assert len(expected) == 1
    assert run("status", "--json", "--dir", "elsewhere").json == expected
    assert run("--json", "status", "--dir", "elsewhere").json == expected
    assert run("--dir", "nowhere", "status", "--dir", "elsewhere", "--json").json == expected
    assert run("status", "--json", MANIFESTLOG_DIR="elsewhere").json == expected
    assert run("--dir", "elsewhere", "status", "--json", MANIFESTLOG_DIR="nowhere").json == expected


def test_a_path_needs_no_directory(run: Program, filled: Path) -> None:
    assert run("list", filled, "--dir", "nowhere").code == 0
    assert run("list", "manifests/files_extractor.manifest.json").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("list",),
        ("list", "a_b", "--nope"),
        ("--lock-timeout", "-1", "status"),
        ("status", "--lock-timeout", "nan"),
        ("list", "a_b", "--limit", "-1"),
        ("add", "a_b", ".", "--jobs", "0"),
        ("add", "a_b"),
        ("add", "a_b", ".", "--source", ""),
        ("add", "a_b", ".", "--source", "\udcff"),
        ("add", "a_b", ".", "--dataset", "\udcff"),
        ("add", "a_b", ".", "--etl-version", "\udcff"),
        ("init", "a_b", "--etl-version", "\udcff"),
    ],
)
def test_a_usage_error_is_one_line(run: Program, arguments: tuple[str, ...], home: Path) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert one_line(result.err)
    assert result.err.startswith("manifestlog: ")
    assert "--help`" in result.err
    error = run.here(*arguments, "--json").error
    assert (error["error"], error["exit_code"]) == ("UsageError", 2)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("verb", [("list",), ("cat",), ("has", "0" * 64), ("get", "--source", "x")])
def test_a_missing_manifest_is_not_created(run: Program, home: Path, verb: tuple[str, ...]) -> None:
    result = run.here(verb[0], "no_such", *verb[1:])
    assert result.code == 10
    assert one_line(result.err)
    error = run.here(verb[0], "no_such", *verb[1:], "--json").error
    assert (error["error"], error["exit_code"]) == ("ManifestNotFoundError", 10)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("verb", [("list",), ("cat",), ("has", "0" * 64), ("forget", "0" * 64), ("init",)])
def test_damage_is_reported_and_nothing_is_changed(run: Program, filled: Path, verb: tuple[str, ...]) -> None:
    filled.write_bytes(filled.read_bytes()[:100])
    before = {p: p.read_bytes() for p in filled.parent.rglob("*") if p.is_file()}
    result = run.here(verb[0], filled, *verb[1:])
    assert result.code == 12
    assert one_line(result.err)
    assert "byte" in result.err
    assert {p: p.read_bytes() for p in filled.parent.rglob("*") if p.is_file()} == before


def test_a_newer_format_is_reported(run: Program, filled: Path) -> None:
    (segment,) = filled.parent.glob("*.wal-*")
    segment.write_bytes(segment.read_bytes().replace(b'"format":2', b'"format":3'))
    result = run("list", filled, "--json")
    assert (result.code, result.error["error"]) == (13, "NewerFormatError")


def test_a_held_lock_is_reported(run: Program, filled: Path, tree: Path) -> None:
    lock = FileLock(resolve(filled).append_lock, 1)
    with lock:
        for arguments in (("forget", filled, "0" * 64), ("add", filled, tree)):
            result = run("--lock-timeout", "0.1", *arguments)
            assert result.code == 11
            assert f"process {os.getpid()}" in result.err
        assert run("list", filled).code == 0
    lock.close()


def test_a_lock_timeout_may_be_longer_than_the_clock_can_count(run: Program, tree: Path) -> None:
    result = run("--lock-timeout", "99999999999", "add", "files_extractor", tree)
    assert (result.code, result.err) == (0, "")
    canonical = json.loads((run.home / "manifests" / "files_extractor.manifest.json").read_text())
    assert len(canonical["records"]) == 3


def test_a_system_error_is_one_line(run: Program, home: Path) -> None:
    (home / "file").write_text("x")
    path = "file/a_b.manifest.json"
    for verb in ("list", "compact"):
        result = run(verb, path)
        assert result.code == 1
        assert one_line(result.err)
    assert run("init", path, "--json").error["error"] == "NotADirectoryError"


@pytest.mark.usefixtures("filled")
def test_a_full_disk_behind_stdout_is_an_error(run: Program) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "manifestlog", "list", "files_extractor"]
        done = subprocess.run(command, cwd=run.home, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert one_line(done.stderr)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_behind_stderr_changes_no_exit_code(run: Program, options: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "manifestlog", "get", "no_such", "--source", "x", *options]
        assert subprocess.run(command, cwd=run.home, stderr=full, check=False).returncode == 10


def test_warnings_of_the_library_are_printed(run: Program, filled: Path) -> None:
    document = json.loads(filled.read_text().replace("2024-05-01T12:00:00Z", "2024-05-01T12:00:00"))
    foreign = filled.with_name("foreign_extractor.manifest.json")
    foreign.write_text(json.dumps(document, indent=2))
    result = run("list", "foreign_extractor", "--json")
    assert len(result.json) == 3
    assert one_line(result.err)
    assert result.err.startswith("manifestlog: warning: ")
    assert run("list", "foreign_extractor", "--quiet").err == ""


def test_only_a_terminal_gets_colour(run: Program, filled: Path) -> None:
    assert "\x1b" not in run("status").out
    assert "\x1b[" in on_terminal(run, "status", filled)
    plain = on_terminal(run, "status", filled, NO_COLOR="1")
    assert "files_extractor" in plain
    assert "\x1b[3" not in plain


def on_terminal(run: Program, *arguments: object, **environment: str) -> str:
    """The stdout of the program when it is a terminal."""
    ours, theirs = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
    env = clean | {"TERM": "xterm-256color", "COLUMNS": "120"} | environment
    command = [sys.executable, "-m", "manifestlog", *map(str, arguments)]
    with subprocess.Popen(command, cwd=run.home, env=env, stdout=theirs, stderr=theirs):
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
    os.close(ours)
    return shown.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_a_read_only_directory_can_be_read(run: Program, filled: Path, tree: Path) -> None:
    filled.parent.chmod(0o555)
    try:
        for verb in (("list", filled), ("cat", filled), ("status",), ("has", filled, records_of(tree)[0].checksum)):
            assert run(*verb).code == 0
        if os.geteuid() != 0:  # root may write anyway
            result = run("init", "new_extractor")
            assert result.code == 1
            assert one_line(result.err)
    finally:
        filled.parent.chmod(0o755)


def test_other_kinds_of_manifest_open_as_well(run: Program) -> None:
    run.here("init", "x_loader", "--process", "loader")
    for verb in ("list", "cat", "status", "compact"):
        assert run.here(verb, "x_loader").code == 0


def test_the_library_does_not_load_the_command_line() -> None:
    code = "import sys, manifestlog.manager; sys.exit('typer' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "words",
    [
        ("status", "--dir", ""), ("--dir", "", "status"), ("add", "x_download", ""), ("verify", "x_download", "--extra", ""),
        ("verify", "x_download", "--root", ""), ("verify", "x_download", "--root", ".", "--from", ""),
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_working_directory(run: Program, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert (result.code, "must not be empty" in result.err) == (2, True)
