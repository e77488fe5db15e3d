"""Runs one command of a stage: its process group, its time limit, and its output.

Invariants:

- No shell is involved: each argument reaches the command unchanged.
- When `run_command` returns or raises, no process of the command's group is left. A process that has created its own
  session (a daemon) is not followed.
- The disk space and memory for a command's output are limited: the beginning and the end are kept, the rest is counted.
- If a worker is killed, the `guard` kills its command. Until it ends, the command holds the descriptors `held`, and
  with them the worker's claims: no other run takes its input meanwhile.

It does not judge the files that the command wrote, and starts no threads.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from manifestlog.files import system
from manifestlog.stages.errors import CommandNotStartedError
from manifestlog.stages.guard import Guard
from manifestlog.stages.kept_output import KeptOutput
from manifestlog.workers.scarcity import is_scarce
from manifestlog.workers.stop import Stop

GRACE_S = 10.0
"""How long a command has between SIGTERM and SIGKILL."""
_LEFT_BEHIND_S = 1.0
"""How long processes may outlive the command that started them, such as the last part of a pipeline."""
_SLICE_S, _SLICE_WITHOUT_PIDFD_S = 0.5, 0.01
_READ_BYTES = 1 << 16
_DRAINED_BYTES_MAX = 1 << 20


class CommandResult(NamedTuple):
    """How a command ended, and what it printed."""

    exit_code: int | None
    """None if a signal killed it."""
    signal: int | None
    """The signal that killed it; after a timeout it is ours."""
    timed_out: bool
    left_running: bool
    """Whether processes of its group outlived it by a second; they were killed, and their output may be incomplete."""
    stdout_tail: str
    stderr_tail: str
    """The last 4,000 bytes of what it printed."""
    seconds: float
    stdout_path: Path | None
    stderr_path: Path | None
    """The file with what it printed, or the beginning and the end of it; None if it printed nothing, or the disk is full."""

    def problem(self, timeout_s: float | None = None) -> str | None:
        """Return why the command failed, as half a sentence; None if it succeeded."""
        if self.timed_out:
            return f"took longer than timeout_s ({timeout_s:g} s) and was ended"
        if self.signal is not None:
            return f"was killed by {signal_name(self.signal)}" + _KILLERS.get(self.signal, "")
        if self.exit_code:
            return f"exited with {self.exit_code}"
        if self.left_running:
            return "ended, but left processes running, which were killed; let it wait for them"
        return None


_KILLERS: dict[int, str] = {
    signal.SIGKILL: ", perhaps by the system for lack of memory",
    signal.SIGXFSZ: ": a file grew beyond the limit (`ulimit -f`)",
}


def signal_name(number: int) -> str:
    """Return a signal as text: `signal 9 (SIGKILL)`."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return f"signal {number}"


def run_command(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    stop: Stop | None = None,
    held: Collection[int] = (),
    guard: Guard | None = None,
    program: str | None = None,
    grace_s: float = GRACE_S,
) -> CommandResult:
    """Run a command and wait for it; its standard input is empty.

    What it prints goes to `stdout.log` and `stderr.log` in `log_dir`, which is created when the command prints something;
    the files of an earlier attempt are removed. After `timeout_s` seconds its process group receives SIGTERM, and SIGKILL
    `grace_s` seconds later. The command inherits the descriptors `held`, and `guard` watches it. `program` is the path of its
    program, where that is known: then no directory of PATH is searched. Raises `CommandNotStartedError` if it cannot be
    started, `OSError` (`E2BIG`) if only these arguments are too long, and `StopAskedError` on a stop request, after the
    command has been ended in the same way.
    """
    began = time.monotonic()
    with _stoppable(stop):
        pass  # a stop request from before
    logs = [None if log_dir is None else os.path.join(log_dir, name) for name in ("stdout.log", "stderr.log")]
    streams = [KeptOutput(path) for path in logs]
    if guard is not None:
        guard.be_ready()  # before the command, so that nothing comes between its start and the watch
    command = _Command(argv, program, cwd, env, held, streams)
    if guard is not None:
        guard.watch(command.process.pid)
    deadline = None if timeout_s is None else began + timeout_s
    try:
        timed_out = not command.ends_before(deadline, stop)
        if timed_out:
            command.end(grace_s)
        left_running = not timed_out and command.leaves_something()
    except BaseException:
        command.end(grace_s)
        raise
    finally:
        if guard is not None:
            guard.release()
        command.close()
    code = command.process.returncode
    out, err = streams
    return CommandResult(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        timed_out=timed_out,
        left_running=left_running,
        stdout_tail=out.tail_text(),
        stderr_tail=err.tail_text(),
        seconds=time.monotonic() - began,
        stdout_path=out.path,
        stderr_path=err.path,
    )


def is_too_long(error: Exception) -> bool:
    """Return whether an error says that the arguments and variables of a command are longer than the system allows."""
    return isinstance(error, OSError) and error.errno == errno.E2BIG


def _stoppable(stop: Stop | None) -> AbstractContextManager[None]:
    return nullcontext() if stop is None else stop.interruptible()


class _Command:
    """A command that has been started, its process group, and the pipes that it prints to."""

    def __init__(
        self,
        argv: Sequence[str],
        program: str | None,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
        held: Collection[int],
        streams: Sequence[KeptOutput],
    ) -> None:
        try:
            self.process = subprocess.Popen(  # noqa: S603 -- the user's own command, as a list
                argv, executable=program, cwd=cwd, env=env, bufsize=0, pass_fds=held, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            if is_scarce(error) or is_too_long(error):
                raise  # a lack of processes or memory, or the arguments of one item: not a mistake in the command
            raise CommandNotStartedError(str(argv[0]), _why(error, cwd)) from None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._open = dict(zip((self.process.stdout.fileno(), self.process.stderr.fileno()), streams, strict=True))
        self._streams = streams
        self._pidfd = _pidfd(self.process.pid)
        self._poll = select.poll()
        for fd in self._open:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        if self._pidfd >= 0:
            self._poll.register(self._pidfd, select.POLLIN)

    def ends_before(self, deadline: float | None, stop: Stop | None) -> bool:
        """Read what it prints until it ends; return whether it did so before the deadline. Raises `StopAskedError`."""
        slice_s = _SLICE_S if self._pidfd >= 0 else _SLICE_WITHOUT_PIDFD_S
        while self.process.poll() is None:
            left_s = slice_s if deadline is None else min(slice_s, deadline - time.monotonic())
            if left_s <= 0:
                return False
            # In slices, for the reason given in `Stop.sleep`.
            with _stoppable(stop):
                ready = self._poll.poll(left_s * 1000)
            self._read([fd for fd, _ in ready])
        return True

    def _read(self, ready: Iterable[int]) -> None:
        for fd in ready:
            if (stream := self._open.get(fd)) is not None:
                data = os.read(fd, _READ_BYTES)
                if data:
                    stream.take(data)
                else:
                    self._forget(fd)

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._open[fd]

    def leaves_something(self) -> bool:
        """Wait a moment for the rest of its group, and kill it; return whether there was something to kill."""
        until = time.monotonic() + _LEFT_BEHIND_S
        self._forget_pidfd()
        while self._signal(0) and _has_living_members(self.process.pid):
            if time.monotonic() >= until:
                self._signal(signal.SIGKILL)
                return True
            self._read([fd for fd, _ in self._poll.poll(_SLICE_WITHOUT_PIDFD_S * 1000)])
        return False

    def end(self, grace_s: float) -> None:
        """End the group: SIGTERM, and SIGKILL after `grace_s` seconds, or when the command itself has ended."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            self.ends_before(time.monotonic() + grace_s, None)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; return whether it has members left.

        The number of a group that has ended could name another one only after the kernel has given out all other numbers.
        """
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):  # some systems answer with the second if only a zombie is left
            return False
        return True

    def close(self) -> None:
        """Read what is left in the pipes, and close everything."""
        for fd, stream in self._open.items():
            _drain(fd, stream)
        for stream in self._streams:
            stream.finish()
        self._forget_pidfd()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _forget_pidfd(self) -> None:
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            self._poll.unregister(fd)
            os.close(fd)


def _has_living_members(group: int) -> bool:
    """Return whether a group has a process that is no zombie: where process 1 waits for no orphans, zombies stay."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:  # no such directory (macOS)
        return True
    for pid in pids:
        with suppress(OSError):
            # The name in parentheses may hold anything; state, parent and group come after it.
            state, _, its_group, *_ = system.process_stat(pid).rpartition(b")")[2].split()
            if int(its_group) == group and state not in (b"Z", b"X"):
                return True
    return False


def _drain(fd: int, stream: KeptOutput) -> None:
    """Read what a pipe holds; a bounded amount, because a daemon may write to it for ever."""
    room = _DRAINED_BYTES_MAX
    with suppress(BlockingIOError):
        while room > 0 and (data := os.read(fd, _READ_BYTES)):
            stream.take(data)
            room -= len(data)


def _pidfd(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends; -1 where the system has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # macOS; Linux before 5.3, or without descriptors: the wait looks more often
        return -1


def _why(error: OSError | ValueError, cwd: str | os.PathLike[str] | None) -> str:
    """Return why a command cannot be started, and what to do."""
    if not isinstance(error, OSError):
        return f"{error}; correct `command`"
    if cwd is not None and os.fspath(error.filename or "") == os.fspath(cwd):
        return f"its working directory {os.fspath(cwd)}: {error.strerror}; create it, or name another one"
    remedies = {
        errno.ENOENT: "install it, or correct `command` (or the interpreter in its first line)",
        errno.EACCES: "make it executable (chmod +x), or correct `command`",
        errno.ENOEXEC: "start it with its interpreter, or add a first line such as #!/bin/sh",
    }
    return f"{error.strerror}; {remedies.get(error.errno or 0, 'correct `command`')}"
