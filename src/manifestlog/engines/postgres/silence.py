"""Notices a server that stands still: it has said nothing for a long time, and lets nobody in either.

The connection does not tell, because the system of the server's machine keeps it open whatever the server does. Nor does
the time alone: some statements take long, and some wait for others.

Invariants:

- It asks the server that the connection leads to, and no other one that the location names.
- A server that refuses has answered.
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
