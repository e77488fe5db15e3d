"""HTTP connections that report a truncated TLS stream and bound the time to read a response.

Invariants:

- A body that ends without TLS's close_notify is an error.
- The response head, and each read of the body, must arrive within `timeout_s` of its first byte, even when the server
  trickles bytes. The socket's own timeout bounds the time without any byte.

It does not know the request or the meaning of the response.
"""

from __future__ import annotations

import http.client
import io
import ssl
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from urllib3.util.retry import Retry

from manifestlog.extract.fetchers.protocol import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable


class _DeadlineReader(io.RawIOBase):
    """The bytes of a response; reading fails once the deadline has passed."""

    def __init__(self, raw: io.RawIOBase, timeout_s: float) -> None:
        self._raw, self._timeout_s = raw, timeout_s
        self._deadline: float | None = None

    def restart(self) -> None:
        """Restart the deadline for the next part of the response."""
        self._deadline = None

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            reason = f"the server sends its response too slowly (not complete within stall_s, {self._timeout_s:g} s)"
            raise FetchError(reason, transient=True)
        size: int | None = self._raw.readinto(buffer)
        if self._deadline is None:  # the deadline starts at the first byte: a slow server may prepare its response
            self._deadline = time.monotonic() + self._timeout_s
        return size

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response that is read with a deadline."""

    def __init__(self, timeout_s: float, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._reader = _DeadlineReader(self.fp.detach(), timeout_s)
        self.fp = io.BufferedReader(self._reader)

    def read1(self, n: int = -1) -> bytes:
        self._reader.restart()
        return super().read1(n)


class _TlsConnection(urllib3.connection.HTTPSConnection):
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


class Adapter(requests.adapters.HTTPAdapter):
    """The library's adapter with these connections, also through proxies; it never retries."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        super().__init__(max_retries=Retry(0, read=False))

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._use_our_connections(self.poolmanager)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Verify the certificate of an HTTPS proxy too, even for a URL without TLS."""
        super().cert_verify(conn, "https://" if conn.scheme == "https" else url, verify, cert)  # type: ignore[no-untyped-call]

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self._use_our_connections(manager)
        return manager

    def _use_our_connections(self, manager: urllib3.PoolManager) -> None:
        manager.pool_classes_by_scheme = {
            scheme: _with_our_connections(pool, self._timeout_s)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }


@cache
def _with_our_connections(pool: Any, timeout_s: float) -> Any:
    """Return the same kind of pool with these connections mixed in; SOCKS proxies use a connection class of their own."""
    if hasattr(pool, "is_ours"):
        return pool
    of_library = pool.ConnectionCls
    bases = (
        (_TlsConnection, of_library) if issubclass(of_library, urllib3.connection.HTTPSConnection) else (of_library,)
    )
    answer: Callable[..., _TimedResponse] = partial(_TimedResponse, timeout_s)
    connection = type("_Connection", bases, {"response_class": staticmethod(answer)})
    return type("_Pool", (pool,), {"ConnectionCls": connection, "is_ours": True})
