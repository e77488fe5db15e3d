"""A real PgBouncer in transaction mode before a PostgreSQL server, on a free port of loopback."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg

from support.children import PATIENCE_S, time_limit
from support.packages import program
from support.postgres import LIFE_S, as_user, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

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
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_reset_query =
"""


@contextmanager
def pooling(server: Server) -> Iterator[int]:
    """The port of a pooler that gives each transaction any of four sessions."""
    own = free_port()
    configuration = server.folder / f"pgbouncer-{own}.ini"
    # `auth_type = any` has no user of its own to connect with: the databases name one
    text = CONFIGURATION.format(folder=server.folder, port=server.port, own=own)
    configuration.write_text(text.replace("* = host", "* = user=postgres host"), encoding="utf-8")
    configuration.chmod(0o644)
    process = subprocess.Popen(
        ["timeout", str(LIFE_S), program("pgbouncer", PACKAGE), "-q", configuration],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=server.folder, **as_user(),
    )  # fmt: skip
    try:
        with time_limit(PATIENCE_S):
            while True:
                assert process.poll() is None, "PgBouncer did not start"
                with suppress(psycopg.OperationalError):
                    psycopg.connect(
                        f"host=127.0.0.1 port={own} user=postgres dbname=postgres connect_timeout=5"
                    ).close()
                    break
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
        yield own
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
