"""A proxy on loopback before an S3 server, which answers in its place that it is busy, as often as a test says.

Invariants:

- Everything else is forwarded as it came, so that signatures hold.
- Leaving `busy()` ends it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from support.accepting import accepting
from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_OF_ONE_CONNECTION = frozenset({"connection", "transfer-encoding", "keep-alive"})


class BusyStore:
    """What it refuses, and how often it has."""

    def __init__(self, port: int, server: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.server = server
        self.refused = 0
        self._refuses: tuple[str, str] = ("", "")
        self._left = 0
        self._lock = threading.Lock()

    def refuse(self, method: str, text: str, times: int) -> None:
        """Refuse the next so many requests by this method whose address has this text."""
        with self._lock:
            self._refuses, self._left, self.refused = (method, text), times, 0

    def is_busy(self, method: str, path: str) -> bool:
        with self._lock:
            if not self._left or method != self._refuses[0] or self._refuses[1] not in path:
                return False
            self._left -= 1
            self.refused += 1
            return True


@contextmanager
def busy(server: str) -> Iterator[BusyStore]:
    """A proxy before the server at this URL; it refuses nothing yet."""
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        listener.store = BusyStore(listener.server_address[1], server)
        with accepting(listener):
            yield listener.store


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    store: BusyStore


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        store = self.server.store
        if store.is_busy(self.command, self.path):
            self._send(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            return
        connection = HTTPConnection(urlsplit(store.server).netloc, timeout=PATIENCE_S)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OF_ONE_CONNECTION | {"expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            found = connection.getresponse()
            self._send(found.status, found.getheaders(), found.read())
        finally:
            connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 -- the library's names

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        told = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        if "content-length" not in told:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
