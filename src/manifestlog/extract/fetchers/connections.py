"""HTTP connections that report a truncated TLS stream, limit the time to read a response, and can be interrupted.

Invariants:

- A body that ends without TLS's close_notify is an error, and so is one that an interruption ends.
- The response head, and each read of the body, must arrive within `patience_s` of its first byte, even if the server
  sends single bytes. The socket's own timeout limits the time without any byte.
- If a server closes a kept connection before the first byte of a response, the error is `StaleConnectionError`. On a
  new connection, the same end is a failure.
- The kernel limits the waits of a plain connection (`kernel_timed`), Python those of a TLS connection or a SOCKS proxy.

It does not know the request or the meaning of the response.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import Any

import urllib3
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from manifestlog.extract.fetchers.kernel_timed import KernelTimedSocket
from manifestlog.extract.fetchers.open_sockets import OpenSockets
from manifestlog.extract.fetchers.protocol import FetchError

_BUFFER_BYTES = 1 << 15
"""Takes the head and a small body in one system call."""


class StaleConnectionError(Exception):
    """The server closed a kept connection instead of answering on it."""


class _Reader(io.RawIOBase):
    """The bytes of a response; reading fails once the deadline has passed, and after an interruption."""

    def __init__(self, raw: io.RawIOBase, sockets: OpenSockets, patience_s: float) -> None:
        self._raw, self._sockets, self._patience_s = raw, sockets, patience_s
        self._deadline: float | None = None
        self.has_begun = False

    def restart(self) -> None:
        """Restart the deadline for the next part of the response."""
        self._deadline = None

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            reason = f"the server sends its response too slowly (not complete within stall_s, {self._patience_s:g} s)"
            raise FetchError(reason, transient=True)
        size: int | None = self._raw.readinto(buffer)
        self._sockets.check()  # an interruption looks like the end of the body
        if size is None:
            raise TimeoutError  # of the kernel
        if self._deadline is None:  # the deadline starts at the first byte: a slow server may prepare its response
            self._deadline = time.monotonic() + self._patience_s
        self.has_begun = self.has_begun or bool(size)
        return size

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response that is read with a deadline."""

    def __init__(self, connection: _Connection, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.reader = _Reader(self.fp.detach(), connection.sockets, connection.patience_s)
        self.fp = io.BufferedReader(self.reader, _BUFFER_BYTES)

    def read1(self, n: int = -1) -> bytes:
        self.reader.restart()
        return super().read1(n)


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that can be interrupted, and knows whether it was kept."""

    sockets: OpenSockets
    patience_s: float
    timeout_read_s: float
    is_direct: bool
    _reader: _Reader | None = None
    _is_kept = False

    def connect(self) -> None:
        self._is_kept = False
        super().connect()
        if isinstance(self.sock, KernelTimedSocket):
            self.sock.leave_to_kernel(self.timeout_read_s)

    def _new_conn(self) -> socket.socket:
        if self.is_direct:
            return self._connected()
        sock = super()._new_conn()  # PySocks connects: its sockets are known, and can be interrupted, from now on
        self.sockets.add(sock)
        return sock

    def _connected(self) -> socket.socket:
        """Connect as the library does, but to sockets that are known before they connect."""
        try:
            return _connect(self)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error

    def response_class(self, sock: Any, *arguments: Any, **options: Any) -> _TimedResponse:  # type: ignore[override]
        response = _TimedResponse(self, sock, *arguments, **options)
        self._reader = response.reader
        return response

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]  # as its base
        try:
            response = super().getresponse()
        except (ConnectionError, ssl.SSLEOFError) as error:
            if self._is_kept and (self._reader is None or not self._reader.has_begun):
                raise StaleConnectionError from error
            raise
        self._is_kept = True
        return response


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    """A TLS connection that reports a body without close_notify as an error.

    If the server closes the connection during the request, its response is read anyway: its alert states the reason.
    """

    def connect(self) -> None:
        super().connect()
        vars(self.sock)["suppress_ragged_eofs"] = False  # read by `ssl.SSLSocket`, and by urllib3 for TLS in TLS

    def request(self, *arguments: Any, **options: Any) -> None:
        try:
            super().request(*arguments, **options)
        except ssl.SSLEOFError:
            raise BrokenPipeError from None  # urllib3 then reads the response


def _connect(connection: _Connection) -> socket.socket:
    """Try each address of the server in turn; raises the last one's error."""
    host = connection._dns_host.strip("[]")  # noqa: SLF001 -- with the final dot that spares the search domains
    try:
        host.encode("idna")
    except UnicodeError:
        raise LocationParseError(f"'{host}', label empty or too long") from None
    failure = OSError("getaddrinfo returns an empty list")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, connection.port, allowed_gai_family(), socket.SOCK_STREAM
    ):
        try:
            return _connect_to(connection, KernelTimedSocket(family, kind, protocol), address)
        except OSError as error:
            failure = error
    raise failure


def _connect_to(connection: _Connection, sock: socket.socket, address: Any) -> socket.socket:
    try:
        connection.sockets.add(sock)
        for option in connection.socket_options or ():
            sock.setsockopt(*option)
        sock.settimeout(connection.timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def use_our_connections(
    manager: urllib3.PoolManager, sockets: OpenSockets, patience_s: float, timeout_read_s: float
) -> None:
    """Make a manager open these connections."""
    settings = {"sockets": sockets, "patience_s": patience_s, "timeout_read_s": timeout_read_s}
    manager.pool_classes_by_scheme = {
        scheme: _with_our_connections(pool, settings) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _with_our_connections(pool: Any, settings: dict[str, Any]) -> Any:
    """Return the same kind of pool with these connections mixed in; SOCKS proxies use a connection class of their own."""
    of_library = pool.ConnectionCls
    plain, tls = urllib3.connection.HTTPConnection, urllib3.connection.HTTPSConnection
    ours = _TlsConnection if issubclass(of_library, tls) else _Connection
    is_direct = of_library in (plain, tls)
    bases = (ours,) if is_direct else (ours, of_library)
    made = type("_OurConnection", bases, {**settings, "is_direct": is_direct})
    return type("_Pool", (pool,), {"ConnectionCls": made})
