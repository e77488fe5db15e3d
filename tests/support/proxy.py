"""A small HTTP proxy on loopback: it forwards absolute addresses, tunnels with CONNECT or by SOCKS, and notes what it was asked.

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

from support.accepting import accepting
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
def proxying(
    userinfo: str | None = None, context: ssl.SSLContext | None = None, *, socks: bool = False
) -> Iterator[Proxy]:
    """A running proxy; with `userinfo` it serves nobody else, with a `context` it speaks TLS to its clients.

    With `socks` it is one of SOCKS 5 (RFC 1928), which is told names.
    """
    with _Listener(("127.0.0.1", 0), _SocksConnection if socks else _Connection) as listener:
        listener.context = context
        scheme = "socks5h" if socks else "https" if context else "http"
        listener.proxy = Proxy(listener.server_address[1], userinfo, scheme)
        try:
            with accepting(listener):
                yield listener.proxy
        finally:
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
            _pump(self.request, server, self.server.stopping, says_close=method != "CONNECT")


def _pump(client: socket.socket, server: socket.socket, stopping: threading.Event, *, says_close: bool = False) -> None:
    """To and fro until one side has had enough; the client is told in the answer's head that this is its only one."""
    others, unsaid = {client: server, server: client}, says_close
    while not stopping.is_set():
        for one in select.select(list(others), [], [], 0.02)[0]:
            piece = one.recv(_PIECE_BYTES)
            if not piece:
                return
            if one is server and unsaid and b"\r\n" in piece:
                unsaid, piece = False, piece.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            others[one].sendall(piece)


class _SocksConnection(socketserver.BaseRequestHandler):
    """One connection to somewhere, by SOCKS 5."""

    server: _Listener

    def handle(self) -> None:
        with suppress(OSError):
            userinfo = self._greet()
            _, command, _, kind = self._exactly(4)
            size = {1: 4, 3: 0, 4: 16}[kind] or self._exactly(1)[0]
            name, port = self._exactly(size), int.from_bytes(self._exactly(2), "big")
            host = socket.inet_ntop(socket.AF_INET, name) if kind == 1 else name.decode()
            assert (command, host) in ((1, "127.0.0.1"), (1, "localhost")), f"not forwarded: {host}"
            self.server.proxy.asked.append(Asked("CONNECT", f"{host}:{port}", userinfo))
            try:
                server = socket.create_connection((host, port), PATIENCE_S)
            except ConnectionRefusedError:
                self.request.sendall(bytes([5, 5, 0, 1, *bytes(6)]))
                return
            with server:
                self.request.sendall(bytes([5, 0, 0, 1, *bytes(6)]))
                _pump(self.request, server, self.server.stopping)

    def _greet(self) -> str | None:
        """Who asks, by RFC 1929; None where nobody wants to know."""
        wanted = self.server.proxy.userinfo
        _, count = self._exactly(2)
        offered = self._exactly(count)
        method = 0 if wanted is None else 2
        self.request.sendall(bytes([5, method if method in offered else 255]))
        if method not in offered:
            raise ConnectionAbortedError
        if wanted is None:
            return None
        self._exactly(1)
        userinfo = ":".join([self._exactly(self._exactly(1)[0]).decode() for _ in range(2)])
        self.request.sendall(bytes([1, userinfo != wanted]))
        if userinfo != wanted:
            raise ConnectionAbortedError
        return userinfo

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.request.recv(size - len(data))
            if not piece:
                raise ConnectionAbortedError
            data += piece
        return data


def _userinfo(head: list[str]) -> str | None:
    found = next((line for line in head if line.lower().startswith("proxy-authorization: basic ")), None)
    return base64.b64decode(found.rpartition(" ")[2]).decode() if found else None
