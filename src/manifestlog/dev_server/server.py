"""Starts the server, waits until it is ready, and stops it.

Invariants:

- The server ends with its block: its connections are closed, and everything that was committed is on the disk.
- A signal to this process does not reach the server, because the server has its own session.
- The server itself prevents a second one from using its data (`postmaster.pid`).

It makes no connection: `postmaster.pid`, which the server writes, shows that it is ready.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifestlog import names
from manifestlog.dev_server import programs
from manifestlog.dev_server.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from manifestlog.server_errors import ServerError

_LOOK_S = 0.02
_STOP_S = 60.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CONNECTIONS_MAX = 200


@dataclass(frozen=True)
class DevServer:
    """A running server."""

    url: str
    """The database's URL, for `--dir` and `manifests_dir`."""
    directory: str
    pid: int
    version: str
    """PostgreSQL's, such as `18.6`."""
    user: str | None
    """The user that runs it, if root has started it."""
    _process: Popen[bytes]

    def manifest(self, name: str) -> str:
        """Return the location of the manifest with this name."""
        return names.joined(self.url, names.check_name(name))

    def wait(self) -> int:
        """Wait until the server ends by itself; return its exit code, 0 if it was asked to end."""
        return self._process.wait()


@contextmanager
def serving(directory: str | os.PathLike[str]) -> Iterator[DevServer]:
    """Run a PostgreSQL server for development until the end of the block; its data are below `directory`.

    The directory is created, or was created by an earlier call. The server listens on a socket in it, which only its
    owner may use. Committed data survive a crash.

    Raises `ServerError` if the directory belongs to something else, or the server does not start, and `ManifestError`
    without the extra `[dev-server]`.
    """
    runs_as = programs.account()
    folder = Folder(Path(os.path.abspath(directory)), runs_as)
    folder.check_path()
    if folder.is_answering():
        raise _runs_already(folder)
    folder.prepare()
    found = programs.find(folder.path, runs_as)
    version = programs.version(found, runs_as)
    folder.initialise(found, version)
    with _process_of(folder, found) as process:
        user = runs_as.name if runs_as else None
        yield DevServer(folder.url, str(folder.path), process.pid, version, user, process)


def _runs_already(folder: Folder) -> ServerError:
    pid, _ = folder.state()
    return folder.error(f"a server runs here already, process {pid}", f"use {folder.url}, or stop it: kill -INT {pid}")


@contextmanager
def _process_of(folder: Folder, found: Path) -> Iterator[Popen[bytes]]:
    """Run the server's process during the block, which begins when it is ready."""
    # An exception of a signal's handler between fork and assignment would leave a server that nobody stops.
    deliver_signals = _hold_signals()
    try:
        process, said_before = _start(folder, found)
        try:
            deliver_signals()
            _wait_until_ready(folder, process, said_before)
            yield process
        finally:
            _stop(process)
    finally:
        deliver_signals()


def _hold_signals() -> Callable[[], None]:
    """Hold back the signals that would end this process; return what delivers them and ends that.

    They are not blocked: any other thread would take them then, and Python calls their handlers in the main thread. Nor are
    they noted as stop requests, as by `workers.interrupts.Interrupts`: they are only late. Each goes to the handler that it
    had, which may raise, as soon as there is somebody who stops the server.
    """
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no handler is called in any other
        before = {number: signal.signal(number, lambda came_now, _frame: came.append(came_now)) for number in _ENDING}

    def deliver() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        while came:
            signal.raise_signal(came.pop())

    return deliver


def _start(folder: Folder, found: Path) -> tuple[Popen[bytes], int]:
    """Start the server; return its process, and the length of its log before."""
    quoted = str(folder.path).replace('"', '""')
    options = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": f'"{quoted}"',
        "unix_socket_permissions": "0700",
        "max_connections": str(_CONNECTIONS_MAX),
    }
    given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with open(os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
        size = log.tell()
        process = programs.start([found / "postgres", "-D", folder.data, *given], folder.runs_as, log)
    return process, size


def _wait_until_ready(folder: Folder, process: Popen[bytes], said_before: int) -> None:
    while folder.state() != (process.pid, True):
        if programs.has_ended(process, _LOOK_S):
            if folder.is_answering():
                raise _runs_already(folder)
            raise folder.error(_last_words(folder.log, said_before), f"see {folder.log}")


def _last_words(log: Path, said_before: int) -> str:
    """Return why the server did not start, in its own words."""
    said = log.read_bytes()[said_before:].decode(errors="replace").splitlines()
    fatal = [line.partition("FATAL:")[2].strip() for line in said if "FATAL:" in line]
    return f"the server did not start ({[*said, 'it said nothing', *fatal][-1]})"


def _stop(process: Popen[bytes]) -> None:
    """Ask the server to end its connections and to stop; end it at once if it does not."""
    process.send_signal(signal.SIGINT)  # no effect on a process that has ended
    if not programs.has_ended(process, _STOP_S):
        process.send_signal(signal.SIGQUIT)
        process.wait()
