"""Sends statements over one connection in as few messages as possible: a script of several is one write and one read.

psycopg's own pipeline sends each statement separately and so wakes the server for each: an addition took three times as
long. So this module uses libpq's pipeline mode through `psycopg.pq`.

Invariants:

- A script is one round trip. Its first error is raised, and nothing after it has run.
- Parameters and results are binary. A prepared statement is identified by its text and the types of its parameters.
- While it waits, other threads run, and Ctrl-C ends the wait. The connection is then not idle, so it is never used
  again.
- No wait is for ever: a server that has stopped responding counts as lost (`silence`).
"""

from __future__ import annotations

import re
import select
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from struct import Struct
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format

from manifestlog.engines.postgres import silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg.pq.abc import PGconn, PGresult

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]

_BOOL, _BYTES, _INT, _TEXT = 16, 17, 20, 25
_ARRAYS = {_BOOL: 1000, _BYTES: 1001, _TEXT: 1009, _INT: 1016}
_int = Struct("!q").pack
_sized_int = Struct("!iq").pack
_length = Struct("!i").pack
_array = Struct("!iiiii").pack
_NULL = _length(-1)
_BOOLS = {True: b"\1", False: b"\0"}
_SIZED_BOOLS = {True: b"\0\0\0\1\1", False: b"\0\0\0\1\0"}
_PLACE = re.compile("%[sb]")
_FAILED = frozenset({ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE})

_Key = tuple[str, tuple[int, ...]]
Sent = tuple[tuple[int, ...], list[bytes | None], list[Format]]
"""The types, values and formats of parameters."""


class Reply:
    """What a statement of a script has returned, once the script has run."""

    __slots__ = ("_wire", "result")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.result: PGresult | None = None

    @property
    def rows(self) -> Rows:
        """The rows; none before the script has run."""
        return [] if self.result is None else self._wire.load(self.result)


_Waiting = tuple["Reply | None", "_Key | None"]
"""What a result is for: a statement, or its preparation."""


class Wire:
    """One connection, which one thread uses at a time."""

    def __init__(self, connection: Connection, *, prepares: bool, patience_s: float | None = None) -> None:
        """Prepare; after each `patience_s` without a word from the server, it is asked whether it stands still."""
        self._connection = connection
        self._patience_ms = None if patience_s is None else max(1, int(patience_s * 1000))
        self._pgconn: PGconn = connection.pgconn
        self._prepares = prepares
        self._prepared: dict[_Key, bytes] = {}
        self._names = count()
        self._poller = select.poll()
        self._poller.register(self._pgconn.socket, select.POLLIN)
        self._loader = Transformer(connection)
        self._encoding = "utf-8"
        self._script: list[tuple[str, tuple[object, ...], Reply]] = []

    def add(self, statement: str, parameters: tuple[object, ...]) -> Reply:
        """Add a statement to the script that `run` runs."""
        reply = Reply(self)
        self._script.append((statement, parameters, reply))
        return reply

    def ask(self, statement: str, parameters: tuple[object, ...]) -> Rows:
        """Run one statement, and return its rows. Raises `psycopg.Error`."""
        return self._asked(statement, parameters).rows

    def value(self, statement: str, parameters: tuple[object, ...]) -> bytes | None:
        """Run one statement, and return the bytes of the first column of its first row. Raises `psycopg.Error`."""
        result = self._asked(statement, parameters).result
        return result.get_value(0, 0) if result is not None and result.ntuples else None

    def _asked(self, statement: str, parameters: tuple[object, ...]) -> Reply:
        types, values, formats = encoded(parameters)
        name = self._prepared.get((statement, types))
        reply = Reply(self)
        if name is None:  # the first time, or never prepared
            self._script.append((statement, parameters, reply))
            self.run()
            return reply
        self._pgconn.send_query_prepared(name, values, formats, Format.BINARY)
        self._flush()
        error = self._receive_one(reply, None)
        if error is not None:
            raise error
        return reply

    def run(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Run the script, and call `meanwhile` while the server works. Raises `psycopg.Error`."""
        script, self._script = self._script, []
        if not script:
            return
        # A client that is stopped while it sends leaves its locks to nobody: so as little as possible happens in between.
        ready = [(statement, encoded(parameters), reply) for statement, parameters, reply in script]
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        waiting: list[_Waiting] = []
        for one in ready:
            self._send(*one, waiting)
        pgconn.pipeline_sync()
        self._flush()
        if meanwhile is not None:
            meanwhile()
        error = self._receive(waiting)
        pgconn.exit_pipeline_mode()
        if error is not None:
            raise error

    def discard(self) -> None:
        """Forget the script."""
        self._script = []

    def copy_in(self, statement: str, blocks: Iterable[bytes]) -> None:
        """Run a COPY that reads these blocks. Raises `psycopg.Error`, and what `blocks` raises.

        After an error of `blocks` the connection is inside the COPY, so it is never used again, and nothing is stored.
        """
        self._pgconn.send_query_params(statement.encode(), None)
        self._flush()
        begun = self._result()
        if begun is None or begun.status != ExecStatus.COPY_IN:
            self._receive_one(None, None)  # reads on to the end of the statement
            raise self._error_of(begun)
        for block in blocks:
            self._pgconn.put_copy_data(block)
            self._flush()  # or all of it would wait in memory
        self._pgconn.put_copy_end()
        self._flush()
        if (error := self._receive_one(None, None)) is not None:
            raise error

    def _error_of(self, result: PGresult | None) -> psycopg.Error:
        if result is None:
            return psycopg.OperationalError("the connection is lost")
        return psycopg.errors.error_from_result(result, self._encoding)

    def _send(self, statement: str, parameters: Sent, reply: Reply, waiting: list[_Waiting]) -> None:
        types, values, formats = parameters
        if not self._prepares:
            self._pgconn.send_query_params(numbered(statement), values, types, formats, Format.BINARY)
        else:
            key = statement, types
            name = self._prepared.get(key)
            if name is None:
                name = self._prepared[key] = b"m%d" % next(self._names)
                self._pgconn.send_prepare(name, numbered(statement), types)
                waiting.append((None, key))
            self._pgconn.send_query_prepared(name, values, formats, Format.BINARY)
        waiting.append((reply, None))

    # -- waiting ---------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        while self._pgconn.flush():
            both = select.poll()  # `select` takes no descriptor over 1023
            both.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
            if any(event & select.POLLIN for event in self._wait(both)):
                self._pgconn.consume_input()

    def _result(self) -> PGresult | None:
        while self._pgconn.is_busy():
            if self._wait(self._poller):
                self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _wait(self, poller: select.poll) -> list[int]:
        """Wait for the server and return what has happened: nothing, if it is there and has said nothing for long."""
        found = [event for _, event in poller.poll(self._patience_ms)]
        if not found:
            silence.check(self._connection)
        return found

    def _receive(self, waiting: Sequence[_Waiting]) -> psycopg.Error | None:
        """Read the results of a script up to its end; return its first error."""
        error: psycopg.Error | None = None
        for one in waiting:
            found = self._receive_one(*one)
            error = error or found
        if (end := self._result()) is None or end.status != ExecStatus.PIPELINE_SYNC:
            return error or self._error_of(None)
        return error

    def _receive_one(self, reply: Reply | None, key: _Key | None) -> psycopg.Error | None:
        """Read the results of one statement, or of preparing it; return its error."""
        error: psycopg.Error | None = None
        good = False
        while (result := self._result()) is not None:
            status = result.status
            if status in _FAILED:
                error = error or self._error_of(result)
                if self._pgconn.status:
                    break  # the connection is lost; nothing ends the statement
            elif status != ExecStatus.PIPELINE_ABORTED:
                good = True
                if reply is not None:
                    reply.result = result
        if key is not None and not good:
            self._prepared.pop(key, None)
        return error

    def load(self, result: PGresult) -> Rows:
        """Return the rows of a result."""
        if not result.ntuples:
            return []
        self._loader.set_pgresult(result, set_loaders=True, format=Format.BINARY)
        return self._loader.load_rows(0, result.ntuples, tuple)


@dataclass(slots=True, frozen=True)
class Array:
    """A parameter that is encoded already: while the server does something else, for example."""

    kind: int
    value: bytes


@lru_cache(maxsize=256)
def numbered(statement: str) -> bytes:
    """Return a statement with its placeholders numbered, as the server has them."""
    number = count(1)
    return _PLACE.sub(lambda _: f"${next(number)}", statement).encode()


def encoded(parameters: Sequence[object]) -> Sent:
    """Return the types, values and formats of parameters."""
    types: list[int] = []
    values: list[bytes | None] = []
    formats = [Format.BINARY] * len(parameters)
    value: bytes | None
    for place, one in enumerate(parameters):
        if type(one) is bytes:  # nearly all are bytes or integers
            kind, value = _BYTES, one
        elif type(one) is int:
            kind, value = _INT, _int(one)
        elif isinstance(one, Array):
            kind, value = one.kind, one.value
        elif not isinstance(one, list | tuple):
            kind, value = _scalar(one)
        elif one:
            made = array(one)
            kind, value = made.kind, made.value
        else:  # of whatever type the statement says
            kind, value, formats[place] = 0, b"{}", Format.TEXT
        types.append(kind)
        values.append(value)
    return tuple(types), values, formats


def _scalar(one: object) -> tuple[int, bytes | None]:
    if type(one) is bytes:
        return _BYTES, one
    if type(one) is int:
        return _INT, _int(one)
    if one is None:
        return 0, None
    if type(one) is bool:
        return _BOOL, _BOOLS[one]
    assert isinstance(one, str)  # and every kind of text
    return _TEXT, str(one).encode()


def array(items: Sequence[Any]) -> Array:
    """Return an array of these, of which there is at least one, as a parameter that is encoded already."""
    kind = next((_scalar(one)[0] for one in items if one is not None), _BYTES)
    if kind == _INT:
        parts = [_NULL if one is None else _sized_int(8, one) for one in items]
    elif kind == _BOOL:
        parts = [_NULL if one is None else _SIZED_BOOLS[one] for one in items]
    else:
        data = items if kind == _BYTES else [None if one is None else one.encode() for one in items]
        parts = [part for one in data for part in ((_NULL,) if one is None else (_length(len(one)), one))]
    return Array(_ARRAYS[kind], b"".join((_array(1, 1, kind, len(items), 1), *parts)))
