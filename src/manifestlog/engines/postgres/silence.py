"""Detects a server that has stopped responding: it has sent nothing for a long time, and accepts no connection either.

The connection does not show this, because the system of the server's machine keeps it open whatever the server does.
Time alone does not show it either: some statements take long, and some wait for others.

Invariants:

- The test connects to the server of this connection, not to another one that the location names.
- A server that refuses the connection has answered.
"""

from __future__ import annotations

from typing import Any

import psycopg


class SilentServerError(psycopg.OperationalError):
    """The server stands still; a connection to it counts as lost."""


def check(connection: psycopg.Connection[Any]) -> None:
    """Raise `SilentServerError` if the server of this connection lets nobody in, within the location's `connect_timeout`."""
    info = connection.info
    given: dict[str, Any] = info.get_parameters() | {"host": info.host, "port": info.port}
    if "hostaddr" in given:
        given["hostaddr"] = info.hostaddr
    if info.password:
        given["password"] = info.password
    try:
        psycopg.connect(**given).close()
    except psycopg.errors.ConnectionTimeout as error:
        raise SilentServerError("it stands still: it neither answers nor lets anybody in") from error
    except (psycopg.Error, OSError):
        return  # it has answered, or the connection will say that it is gone
