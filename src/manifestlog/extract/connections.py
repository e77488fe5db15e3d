"""The connections that `http` asks over: over TLS a cut is an error, and no answer keeps its reader waiting for ever.

Invariants:

- A body that ends without TLS's own end mark is an error.
- Between two pieces of a body, and before the end of a head, a server may take `patience_s` from its first byte on,
  however many bytes it trickles meanwhile. How long it may send nothing is the socket's own time-out.

It does not know what is asked, nor what an answer means.
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

from manifestlog.extract.fetch import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable


class _Patience(io.RawIOBase):
    """The bytes of an answer, as long as its reader has patience."""

    def __init__(self, raw: io.RawIOBase, patience_s: float) -> None:
        self._raw, self._patience_s = raw, patience_s
        self._until: float | None = None

    def begin(self) -> None:
        """Wait for something else: all of the patience is there again."""
        self._until = None

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None and time.monotonic() > self._until:
            reason = f"the server answers byte by byte, and its time (stall_s, {self._patience_s:g} s) is over"
            raise FetchError(reason, transient=True)
        size: int | None = self._raw.readinto(buffer)
        if self._until is None:  # a server that thinks for long has not begun
            self._until = time.monotonic() + self._patience_s
        return size

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read with patience, but not with endless patience."""

    def __init__(self, patience_s: float, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._patience = _Patience(self.fp.detach(), patience_s)
        self.fp = io.BufferedReader(self._patience)

    def read1(self, n: int = -1) -> bytes:
        self._patience.begin()
        return super().read1(n)


class _TlsConnection(urllib3.connection.HTTPSConnection):
    """A connection over TLS that tells the end of a body from a cut one: without TLS's own end mark it is an error.

    One that the server ends while we still ask is read all the same: its alert is there, which says why.
    """

    def connect(self) -> None:
        super().connect()
        vars(self.sock)["suppress_ragged_eofs"] = False  # of `ssl.SSLSocket`, and of urllib3's for TLS within TLS

    def request(self, *arguments: Any, **options: Any) -> None:
        try:
            super().request(*arguments, **options)
        except ssl.SSLEOFError:
            raise BrokenPipeError from None  # after which urllib3 reads


class Adapter(requests.adapters.HTTPAdapter):
    """The library's, with our connections, through a proxy as well; it repeats nothing."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        super().__init__(max_retries=Retry(0, read=False))

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._use_ours(self.poolmanager)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The certificate of a proxy is verified as well, though it is asked for an address without TLS."""
        super().cert_verify(conn, "https://" if conn.scheme == "https" else url, verify, cert)  # type: ignore[no-untyped-call]

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self._use_ours(manager)
        return manager

    def _use_ours(self, manager: urllib3.PoolManager) -> None:
        manager.pool_classes_by_scheme = {
            scheme: _with_our_connections(pool, self._patience_s)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }


@cache
def _with_our_connections(pool: Any, patience_s: float) -> Any:
    """The same kind of pool, with connections that are ours as well: those through a SOCKS proxy are made in another way."""
    if hasattr(pool, "is_ours"):
        return pool
    of_library = pool.ConnectionCls
    bases = (
        (_TlsConnection, of_library) if issubclass(of_library, urllib3.connection.HTTPSConnection) else (of_library,)
    )
    answer: Callable[..., _Answer] = partial(_Answer, patience_s)
    connection = type("_Connection", bases, {"response_class": staticmethod(answer)})
    return type("_Pool", (pool,), {"ConnectionCls": connection, "is_ours": True})
