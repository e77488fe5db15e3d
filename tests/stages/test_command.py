"""One command of a stage: how it ends, what it prints, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog.files import disk
from manifestlog.stages.command import CommandResult, run_command
from manifestlog.stages.errors import CommandNotStartedError
from manifestlog.stages.guard import Guard
from manifestlog.stages.kept_output import HEAD_BYTES, TAIL_BYTES
from manifestlog.workers.stop import Stop, StopAskedError
from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Link, Start

NEVER_S = 100
"""Longer than any test: who waits for it fails."""


def _sh(script: str, *arguments: str, **options: object) -> CommandResult:
    return run_command(["sh", "-c", script, "sh", *arguments], **options)  # type: ignore[arg-type]


def _wait_for_the_end_of(*pids: int) -> None:
    """Return when these processes have ended; fail if one goes on."""
    for pid in pids:
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            ended, _, _ = select.select([fd], [], [], PATIENCE_S)
            os.close(fd)
            assert ended, f"process {pid} goes on"


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """A file for the number of a process, which is killed if the test leaves it."""
    path = tmp_path / "pid"
    yield path
    with suppress(ProcessLookupError):
        os.kill(int(path.read_text()), signal.SIGKILL)


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_command_that_succeeds_has_no_problem() -> None:
    result = run_command(["true"])
    assert (result.exit_code, result.signal, result.problem()) == (0, None, None)


def test_the_exit_code_is_kept() -> None:
    assert _sh("exit 7").exit_code == 7


def test_the_problem_names_the_exit_code() -> None:
    assert _sh("exit 7").problem() == "exited with 7"


def test_a_command_killed_by_a_signal_says_which() -> None:
    result = _sh("kill -9 $$")
    assert (result.exit_code, result.signal) == (None, 9)


def test_a_kill_by_the_system_is_said_as_such() -> None:
    assert str(_sh("kill -9 $$").problem()).startswith("was killed by signal 9 (SIGKILL)")


def test_a_signal_without_a_name_is_said_by_its_number() -> None:
    number = signal.SIGRTMIN + 1
    assert _sh(f"kill -{number} $$").problem() == f"was killed by signal {number}"


def test_a_command_that_writes_too_large_a_file_dies_of_the_limit(tmp_path: Path) -> None:
    """Python ignores SIGXFSZ; its commands do not."""
    result = _sh('ulimit -f 1; exec dd if=/dev/zero of="$1" bs=4096 count=100 2>/dev/null', str(tmp_path / "out"))
    assert "SIGXFSZ" in str(result.problem())


def test_the_arguments_reach_the_command_as_they_are() -> None:
    strange = "a b;$(c) 'd' \"e\" *\n~"
    assert run_command(["printf", "%s", strange]).stdout_tail == strange


def test_the_command_runs_in_the_directory_given(tmp_path: Path) -> None:
    assert run_command(["pwd", "-P"], cwd=tmp_path).stdout_tail.strip() == str(tmp_path.resolve())


def test_the_command_has_the_environment_given() -> None:
    assert (
        run_command(["env"], env={"ONLY": "this", "PATH": os.environ["PATH"]}).stdout_tail.splitlines()[0]
        == "ONLY=this"
    )


def test_the_command_reads_nothing() -> None:
    assert run_command(["cat"]).exit_code == 0


def test_the_command_inherits_no_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert _sh(f"test -e /dev/fd/{file.fileno()}").exit_code == 1


def test_the_command_inherits_the_descriptors_that_it_shall_hold(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        assert _sh(f"test -e /dev/fd/{file.fileno()}", held=[file.fileno()]).exit_code == 0


# -- not started -------------------------------------------------------------------------------------------------------


def test_a_missing_command_is_one_clear_error() -> None:
    with pytest.raises(CommandNotStartedError, match=r"^no-such-tool: the command cannot be started: No such file"):
        run_command(["no-such-tool", "x"])


def test_a_file_that_is_not_executable_says_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(CommandNotStartedError, match="chmod"):
        run_command([str(script)])


def test_a_script_without_an_interpreter_says_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo x\n")
    script.chmod(0o755)
    with pytest.raises(CommandNotStartedError, match="#!/bin/sh"):
        run_command([str(script)])


def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandNotStartedError, match="its working directory"):
        run_command(["true"], cwd=tmp_path / "none")


def test_arguments_that_are_too_long_are_an_error_of_them_alone() -> None:
    """Those of another item may fit."""
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        run_command(["true", "x" * (1 << 22)])


def test_the_error_crosses_processes() -> None:
    error = CommandNotStartedError("tool", "missing", "convert")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_command_that_takes_too_long_is_ended() -> None:
    result = run_command(["sleep", str(NEVER_S)], timeout_s=0.05)
    assert (result.timed_out, result.signal) == (True, signal.SIGTERM)


def test_a_timeout_is_said_with_its_setting() -> None:
    assert (
        run_command(["sleep", str(NEVER_S)], timeout_s=0.05).problem(0.05)
        == "took longer than timeout_s (0.05 s) and was ended"
    )


def test_a_command_may_clean_up_when_its_time_is_over(tmp_path: Path) -> None:
    done = tmp_path / "cleaned"
    _sh("trap 'touch \"$1\"; exit 0' TERM; while :; do sleep 0.01; done", str(done), timeout_s=0.1)
    assert done.exists()


def test_a_command_that_ignores_the_end_is_killed() -> None:
    result = _sh("trap '' TERM; while :; do sleep 0.01; done", timeout_s=0.1, grace_s=0.05)
    assert (result.timed_out, result.signal) == (True, signal.SIGKILL)


def test_the_children_of_a_command_end_with_it(pid_file: Path) -> None:
    _sh(f'sleep {NEVER_S} & echo $! >"$1"; wait', str(pid_file), timeout_s=0.3)
    _wait_for_the_end_of(int(pid_file.read_text()))


def test_what_a_command_printed_before_its_time_was_over_is_kept() -> None:
    assert _sh(f"echo begun; sleep {NEVER_S}", timeout_s=0.3).stdout_tail == "begun\n"


# -- children ----------------------------------------------------------------------------------------------------------


def test_children_left_behind_are_killed(pid_file: Path) -> None:
    _sh(f'sleep {NEVER_S} & echo $! >"$1"', str(pid_file))
    _wait_for_the_end_of(int(pid_file.read_text()))


def test_children_left_behind_are_a_problem() -> None:
    assert "left processes running" in str(_sh(f"sleep {NEVER_S} & exit 0").problem())


def test_a_child_that_ends_soon_after_the_command_is_waited_for(tmp_path: Path) -> None:
    """The shell does not wait for the last part of `>(…)`."""
    result = _sh('(sleep 0.05; echo late >"$1") & exit 0', str(tmp_path / "out"))
    assert (result.problem(), (tmp_path / "out").read_text()) == (None, "late\n")


def test_a_daemon_that_holds_the_pipes_does_not_hold_the_stage() -> None:
    daemon = f"import subprocess; print(subprocess.Popen(['sleep', '{NEVER_S}'], start_new_session=True).pid)"
    result = run_command([sys.executable, "-c", daemon])
    os.kill(int(result.stdout_tail), signal.SIGKILL)
    assert result.problem() is None


# -- output ------------------------------------------------------------------------------------------------------------


def test_what_a_command_prints_is_kept(tmp_path: Path) -> None:
    _sh("echo out; echo err >&2", log_dir=tmp_path / "logs")
    assert [(tmp_path / "logs" / name).read_text() for name in ("stdout.log", "stderr.log")] == ["out\n", "err\n"]


def test_the_end_of_what_it_prints_is_in_the_result() -> None:
    result = _sh("seq 10000; seq 20000 >&2")
    assert (result.stdout_tail[-6:], result.stderr_tail[-6:]) == ("10000\n", "20000\n")


def test_a_silent_command_leaves_no_file(tmp_path: Path) -> None:
    run_command(["true"], log_dir=tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_a_silent_attempt_removes_what_the_last_one_printed(tmp_path: Path) -> None:
    _sh("echo err >&2", log_dir=tmp_path)
    run_command(["true"], log_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_prints_too_much_fills_no_disk(tmp_path: Path) -> None:
    _sh("head -c 20000000 /dev/zero", log_dir=tmp_path)
    assert (tmp_path / "stdout.log").stat().st_size < HEAD_BYTES + TAIL_BYTES + 100


def test_of_too_much_output_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    _sh("seq 1000000", log_dir=tmp_path)
    lines = (tmp_path / "stdout.log").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("1", "1000000")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    _sh("seq 1000000", log_dir=tmp_path)
    total = sum(len(f"{n}\n") for n in range(1, 1_000_001))
    assert f"\n[{total - HEAD_BYTES - TAIL_BYTES:,} bytes left out]\n" in (tmp_path / "stdout.log").read_text()


def test_output_that_fits_just_so_is_complete(tmp_path: Path) -> None:
    size = HEAD_BYTES + TAIL_BYTES
    _sh(f"head -c {size} /dev/zero", log_dir=tmp_path)
    assert (tmp_path / "stdout.log").read_bytes() == bytes(size)


def test_output_that_is_no_text_is_shown_all_the_same() -> None:
    assert _sh(r"printf '\377x'").stdout_tail == "\ufffdx"


def test_a_log_that_cannot_be_written_does_not_fail_the_command(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    result = _sh("echo out", log_dir=tmp_path / "logs")
    assert (result.problem(), result.stdout_tail, result.stdout_path) == (None, "out\n", None)


# -- stop --------------------------------------------------------------------------------------------------------------


def test_a_stop_request_ends_the_command(tmp_path: Path) -> None:
    os.mkfifo(begun := tmp_path / "begun")
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, stop.ask)
    pids: list[int] = []

    def ask() -> None:
        pids.append(int(begun.read_text()))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        with pytest.raises(StopAskedError):
            _sh(f'echo $$ >"$1"; exec sleep {NEVER_S}', str(begun), stop=stop)
    finally:
        asker.join()
        signal.signal(signal.SIGUSR1, before)
    _wait_for_the_end_of(*pids)


def test_after_a_stop_request_no_command_starts(tmp_path: Path) -> None:
    stop = Stop()
    stop.asked = True
    with pytest.raises(StopAskedError):
        run_command(["touch", str(tmp_path / "begun")], stop=stop)
    assert not (tmp_path / "begun").exists()


def _work_with_a_lock(link: Link, path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert disk.lock_byte(fd, 7)
    run_command(["sh", "-c", f"echo $$ >{path}.begun; exec sleep {NEVER_S}"], held=[fd])


def test_a_command_whose_worker_is_killed_holds_its_lock_until_it_ends(start: Start, tmp_path: Path) -> None:
    """The lock belongs to the open file, which the command has inherited: no other run takes its input."""
    os.mkfifo(begun := tmp_path / "lock.begun")
    worker = start(_work_with_a_lock, tmp_path / "lock")
    pid = int(begun.read_text())
    worker.kill()
    worker.join()
    fd = os.open(tmp_path / "lock", os.O_RDWR)
    found = [disk.lock_byte(fd, 7)]
    os.kill(pid, signal.SIGKILL)
    _wait_for_the_end_of(pid)
    found.append(disk.lock_byte(fd, 7))
    os.close(fd)
    assert found == [False, True]


class _ToldGuard(Guard):
    """A guard that says what it watches."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def watch(self, group: int) -> None:
        super().watch(group)
        self._link.send(group)


def _work_with_a_guard(link: Link) -> None:
    with _ToldGuard(link) as guard:
        run_command(["sleep", str(NEVER_S)], guard=guard)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_the_process_that_runs_it(start: Start, number: signal.Signals) -> None:
    worker = start(_work_with_a_guard)
    group = worker.receive()
    worker.kill(number)
    worker.join()
    _wait_for_the_end_of(group)


def test_a_guard_forgets_a_command_that_has_ended(tmp_path: Path) -> None:
    """Its number may belong to another group by then."""
    with Guard() as guard:
        run_command(["true"], guard=guard)
        other = subprocess.Popen(["sleep", str(NEVER_S)], start_new_session=True)
        guard.be_ready()
        guard.watch(other.pid)
        guard.release()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_process_without_its_guard_runs_commands_all_the_same() -> None:
    with Guard() as guard:
        run_command(["true"], guard=guard)
        assert guard.pid is not None
        os.kill(guard.pid, signal.SIGKILL)
        assert run_command(["true"], guard=guard).problem() is None
