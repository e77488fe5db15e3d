"""A real PgBouncer before a PostgreSQL server, on a free port of loopback."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from support.children import PATIENCE_S, time_limit
from support.packages import program
from support.postgres import LIFE_S, as_user, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Server

PACKAGE = "pgbouncer"
CONFIGURATION = """
[databases]
* = host={folder} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {sessions}
max_client_conn = 200
server_reset_query =
"""


@dataclass
class Pooler:
    """One pooler, started and stopped at will."""

    port: int
    _configuration: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        process = self._process = subprocess.Popen(
            ["timeout", str(LIFE_S), program("pgbouncer", PACKAGE), "-q", self._configuration],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=self._configuration.parent, **as_user(),
        )  # fmt: skip
        with time_limit(PATIENCE_S):
            while True:
                assert process.poll() is None, "PgBouncer did not start"
                with suppress(psycopg.OperationalError):
                    psycopg.connect(
                        f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=5"
                    ).close()
                    return
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)

    def stop(self) -> None:
        """End it, and with it every connection."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(PATIENCE_S)


@contextmanager
def poolers(server: Server, mode: str = "transaction") -> Iterator[Pooler]:
    """A pooler whose clients get a session for each transaction, or in the mode `session` for as long as they stay."""
    own, sessions = free_port(), 4 if mode == "transaction" else 50
    configuration = server.folder / f"pgbouncer-{own}.ini"
    # `auth_type = any` has no user of its own to connect with: the databases name one
    text = CONFIGURATION.format(folder=server.folder, port=server.port, own=own, mode=mode, sessions=sessions)
    configuration.write_text(text.replace("* = host", "* = user=postgres host"), encoding="utf-8")
    configuration.chmod(0o644)
    found = Pooler(own, configuration)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@contextmanager
def pooling(server: Server) -> Iterator[int]:
    """The port of a pooler that gives each transaction any of four sessions."""
    with poolers(server) as found:
        yield found.port
