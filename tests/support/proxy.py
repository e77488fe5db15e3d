"""A small HTTP proxy on loopback: it forwards absolute addresses, tunnels with CONNECT, and notes what it was asked.

Invariants:

- A request is noted before it is forwarded: what a client has seen, is in the books.
- Leaving `proxying()` ends every connection.
- It forwards to loopback only.
"""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 64 * 1024


class Asked(NamedTuple):
    """A request to the proxy; in a tunnel it sees nothing more."""

    method: str
    target: str
    userinfo: str | None


class Proxy:
    """What was asked; `url` has neither userinfo nor a slash at its end."""

    def __init__(self, port: int, userinfo: str | None, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.port = port
        self.userinfo = userinfo
        self.asked: list[Asked] = []


@contextmanager
def proxying(userinfo: str | None = None, context: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A running proxy; with `userinfo` it serves nobody else, with a `context` it speaks TLS to its clients."""
    with _Listener(("127.0.0.1", 0), _Connection) as listener:
        listener.context = context
        listener.proxy = Proxy(listener.server_address[1], userinfo, "https" if context else "http")
        accepting = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        accepting.start()
        try:
            yield listener.proxy
        finally:
            listener.shutdown()
            accepting.join()
            listener.stopping.set()


class _Listener(socketserver.ThreadingTCPServer):
    """A thread for each connection; leaving waits for all of them."""

    proxy: Proxy
    context: ssl.SSLContext | None = None

    def __init__(self, *arguments: Any) -> None:
        self.stopping = threading.Event()
        super().__init__(*arguments)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


class _Connection(socketserver.BaseRequestHandler):
    """One request; then bytes to and fro until one side has had enough."""

    server: _Listener

    def handle(self) -> None:
        with suppress(OSError):
            head, rest = self._head()
            method, target, _ = head[0].split(" ")
            asked = Asked(method, target, _userinfo(head))
            self.server.proxy.asked.append(asked)
            if self.server.proxy.userinfo not in (None, asked.userinfo):
                self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            self._forward(method, target, head, rest)

    def _head(self) -> tuple[list[str], bytes]:
        """The lines of the request's head, and what came behind it."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.request.recv(_PIECE_BYTES)
            if not piece:
                raise ConnectionAbortedError
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n"), rest

    def _forward(self, method: str, target: str, head: list[str], rest: bytes) -> None:
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        assert parts.hostname in ("127.0.0.1", "localhost"), f"not forwarded: {target}"
        with socket.create_connection((parts.hostname, parts.port or 80), PATIENCE_S) as server:
            if method == "CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = f"{parts.path}?{parts.query}" if parts.query else parts.path
                kept = [line for line in head[1:] if not line.lower().startswith(("proxy-", "connection:"))]
                lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
                server.sendall("\r\n".join(lines).encode("latin-1"))
            server.sendall(rest)
            self._pump(server)

    def _pump(self, server: socket.socket) -> None:
        others = {self.request: server, server: self.request}
        while not self.server.stopping.is_set():
            for one in select.select(list(others), [], [], 0.02)[0]:
                piece = one.recv(_PIECE_BYTES)
                if not piece:
                    return
                others[one].sendall(piece)


def _userinfo(head: list[str]) -> str | None:
    found = next((line for line in head if line.lower().startswith("proxy-authorization: basic ")), None)
    return base64.b64decode(found.rpartition(" ")[2]).decode() if found else None
