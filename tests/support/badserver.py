"""A small HTTP/1.1 server on loopback that does to each request what a script says, down to the byte.

Invariants:

- Each path has its own list of steps; a request takes the next one, and the last one repeats. A path without steps is 501.
- A request is noted before its answer begins, and bytes are counted before they go out: what a client has seen, is in the books.
- Leaving `misbehaving()` ends every answer that hangs. What went wrong inside a step, a client that went away apart, is raised there.

It does not know what an answer looks like: see `answers`.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from support.accepting import accepting
from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """What was asked; `path` with its query, names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    client: str | None = None
    """The name in the client's certificate."""


class Exchange:
    """One request, and the connection on which a step answers it."""

    def __init__(self, server: BadServer, connection: socket.socket, request: Request) -> None:
        self.server = server
        self.request = request
        self.keeps_connection = request.headers.get("connection", "").lower() != "close"
        self._connection = connection

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status line and the headers, exactly these."""
        reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        self._connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))

    def body(self, data: bytes) -> None:
        """These bytes of the body, counted; none for HEAD."""
        if self.request.method == "HEAD":
            return
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            self.server.count(self.request.path, len(piece))
            self._connection.sendall(piece)

    def frame(self, data: bytes) -> None:
        """Bytes around the body, such as the length of a chunk; none for HEAD."""
        if self.request.method != "HEAD":
            self._connection.sendall(data)

    def hang_up(self) -> None:
        """End the connection after this answer."""
        self.keeps_connection = False

    def reset(self) -> None:
        """End the connection with RST instead of FIN (unless a process forked meanwhile holds a copy of it)."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.keeps_connection = False

    def wait_for(self, event: threading.Event) -> None:
        """Until the test sets it, or leaves."""
        while not event.wait(0.02):
            if self.server.stopping.is_set():
                raise ConnectionAbortedError

    def wait_until_gone(self) -> None:
        """Until the client hangs up, or the test leaves."""
        while self._connection.recv(_PIECE_BYTES):
            pass
        self.keeps_connection = False


Step: TypeAlias = "Callable[[Exchange], None]"


class BadServer:
    """What to answer, and what was asked; `url` has no slash at its end."""

    def __init__(self, port: int, scheme: str = "http") -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.port = port
        self.stopping = threading.Event()
        self.failures: list[Exception] = []
        self._changed = threading.Condition()
        self._scripts: dict[str, list[Step]] = {}
        self._requests: list[Request] = []
        self._bodies: Counter[str] = Counter()

    def script(self, path: str, *steps: Step) -> str:
        """From now on this path takes these steps; its url."""
        with self._changed:
            self._scripts[path] = list(steps)
        return self.url + path

    @property
    def requests(self) -> list[Request]:
        """Everything that was asked so far, in order."""
        with self._changed:
            return list(self._requests)

    @property
    def bodies(self) -> Counter[str]:
        """How many bytes of bodies went out so far, by path."""
        with self._changed:
            return Counter(self._bodies)

    def asked(self, path: str) -> list[Request]:
        """What was asked of this path so far."""
        return [request for request in self.requests if request.path == path]

    def wait_until(self, true: Callable[[BadServer], object]) -> None:
        """Until the books say so: `server.wait_until(lambda s: s.bodies["/a"] >= 10)`."""
        with self._changed:
            assert self._changed.wait_for(lambda: true(self), PATIENCE_S), "waited in vain for the server's client"

    def count(self, path: str, size_bytes: int) -> None:
        with self._changed:
            self._bodies[path] += size_bytes
            self._changed.notify_all()

    def next_step(self, request: Request) -> Step:
        """Note the request, and say what to do with it."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            steps = self._scripts.get(request.path, [_unscripted])
            return steps.pop(0) if len(steps) > 1 else steps[0]


def _unscripted(exchange: Exchange) -> None:
    exchange.head(501, {"Content-Length": "0"})


@contextmanager
def misbehaving(context: ssl.SSLContext | None = None) -> Iterator[BadServer]:
    """A running server; with a `context` it speaks TLS."""
    with _Listener(("127.0.0.1", 0), _Connection) as listener, ExitStack() as ending:
        listener.context = context
        server = listener.bad_server = BadServer(listener.server_address[1], "https" if context else "http")
        ending.callback(listener.end_connections)
        ending.enter_context(accepting(listener))
        ending.callback(server.stopping.set)
        yield server
    if server.failures:
        raise ExceptionGroup("steps of the misbehaving server failed", server.failures)


class _Listener(socketserver.ThreadingTCPServer):
    """A thread for each connection; leaving waits for all of them."""

    request_queue_size = 128
    bad_server: BadServer
    context: ssl.SSLContext | None = None

    def __init__(self, *arguments: Any) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.context is not None:  # the handshake is made by the first read, in the connection's own thread
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET_ON_CLOSE)) == _RESET_ON_CLOSE:
            self.close_request(request)  # without the FIN that would come first
        else:
            super().shutdown_request(request)

    def end_connections(self) -> None:
        """Wake every thread that waits for its client."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.StreamRequestHandler):
    """Request after request, until one side has had enough."""

    disable_nagle_algorithm = True
    server: _Listener

    def handle(self) -> None:
        bad_server = self.server.bad_server
        try:
            while (request := _read_request(self.rfile, self.connection)) is not None:
                exchange = Exchange(bad_server, self.connection, request)
                bad_server.next_step(request)(exchange)
                if not exchange.keeps_connection:
                    return
        except (ConnectionError, TimeoutError, ssl.SSLError):
            return
        except Exception as error:
            bad_server.failures.append(error)


def _read_request(stream: Any, connection: socket.socket) -> Request | None:
    """The next request, with a body that has a length; None at the end of the connection."""
    lines = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        lines.append(line)
    if not lines:
        return None
    method, path, _ = lines[0].split(" ")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body, _client(connection))


def _client(connection: socket.socket) -> str | None:
    """The common name in the certificate that a client has shown."""
    shown = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    subject: Any = shown.get("subject", ()) if shown else ()
    return next((value for parts in subject for name, value in parts if name == "commonName"), None)
