"""A slot of the pool: a connection with its statements and scripts, and the identity of a writer, which outlives it.

Invariants:

- A slot belongs to one thread at a time. Its operations are numbered, so that a repeated try can find the first one.
- A forked child closes its copy of the socket and sends nothing on it: the session belongs to its parent.

It does not know tables.
"""

from __future__ import annotations

import socket
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from manifestlog.engines.postgres.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from manifestlog.engines.postgres.wire import Connection, Reply, Rows


class Fence(NamedTuple):
    """Claims that must still be there when a transaction commits."""

    names: list[bytes]
    tokens: list[int]


class Slot:
    """What one thread works with at a time: a connection, and the identity of a writer that outlives it."""

    def __init__(self, patience_s: float | None = None) -> None:
        self.connection: Connection | None = None
        self._patience_s = patience_s
        self.has_session = True
        """Whether settings and prepared statements last; false behind a pooler that shares its sessions."""
        self.server_version = 0
        self.writer = uuid.uuid4().bytes
        self.op = 0
        self.in_doubt = False
        """Whether a commit was sent whose answer has not come."""
        self._wire: Wire | None = None

    @property
    def live(self) -> Connection:
        assert self.connection is not None
        return self.connection

    def connected(self, connection: Connection, settings: str | None) -> None:
        """Use this connection; with `settings`, its session is ours alone, and gets them."""
        self.connection, self.has_session = connection, settings is not None
        self.server_version = connection.info.server_version
        self._wire = Wire(connection, prepares=self.has_session, patience_s=self._patience_s)
        if settings is not None:
            connection.execute(settings.encode())

    def rows(self, statement: str, *parameters: object) -> Rows:
        """Run a statement, and return its rows."""
        wire = self._wire
        assert wire is not None
        return wire.ask(statement, parameters)

    def value(self, statement: str, *parameters: object) -> bytes | None:
        """Run a statement, and return the bytes of the first column of its first row; None if there is no row."""
        wire = self._wire
        assert wire is not None
        return wire.value(statement, parameters)

    @contextmanager
    def script(self, meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
        """Run the statements that are sent in this block, in one round trip at its end.

        `meanwhile` is called while the server works.
        """
        wire = self._wire
        assert wire is not None
        try:
            yield
        except BaseException:
            wire.discard()
            raise
        wire.run(meanwhile)

    def send(self, statement: str, *parameters: object) -> Reply:
        """Add a statement to the script; its rows are there when the script has run."""
        assert self._wire is not None
        return self._wire.add(statement, parameters)

    def copy_in(self, statement: str, blocks: Iterable[bytes]) -> None:
        """Run a COPY that reads these blocks."""
        assert self._wire is not None
        self._wire.copy_in(statement, blocks)

    def recover(self) -> None:
        """Make the connection idle, or close it."""
        connection = self.connection
        if connection is None:
            return
        status = connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR) and not connection.closed:
            with suppress(psycopg.Error):
                self.rows("ROLLBACK")  # not by the connection, which waits for ever for a server that stands still
        if connection.closed or connection.info.transaction_status != TransactionStatus.IDLE:
            self.disconnect()

    def disconnect(self) -> None:
        connection, self.connection, self._wire = self.connection, None, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def abandon(self) -> None:
        """Let go of a connection that a fork has copied."""
        connection, self.connection, self._wire = self.connection, None, None
        if connection is not None and not connection.closed:
            with suppress(OSError, psycopg.Error):
                socket.close(connection.fileno())
