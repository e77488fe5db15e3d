"""A proxy before a PostgreSQL server that knows where messages begin, and cuts the connection at one of them.

Invariants:

- It forwards one message of a client at a time, as a slow network may: what comes after the cut never arrives.
- It cuts once. Whoever connects again is served.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cut(StrEnum):
    """When the connection is cut.

    - `BEFORE`: the message never arrives.
    - `AFTER`: it arrives, and its sender is gone at once.
    - `UNANSWERED`: it arrives and is carried out; the answer is lost.
    """

    BEFORE = "before"
    AFTER = "after"
    UNANSWERED = "unanswered"


@dataclass
class Proxy:
    """Where it listens, and what it has seen."""

    port: int
    server: str
    messages: int = 0
    """How many messages clients have sent since `arm`, without those that open a connection."""
    cuts: int = 0
    stalled: threading.Event = field(default_factory=threading.Event)
    """Set when a client's message has stopped in its middle, where it stays."""
    over: threading.Event = field(default_factory=threading.Event)
    _armed: tuple[int, Cut] | None = None
    _stall_at: int = 0
    _stall_in: bytes | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, number: int, cut: Cut) -> None:
        """Cut at the message of this number, counted from now; 0: never."""
        with self._lock:
            self.messages, self.cuts = 0, 0
            self._armed = (number, cut) if number else None

    def stall(self, statement: int) -> None:
        """Stop inside the statement of this number, counted from now, as a client does that is stopped there."""
        with self._lock:
            self._stall_at = statement

    def stall_in(self, statement: bytes) -> None:
        """Stop inside the next statement with this text."""
        with self._lock:
            self._stall_in = statement

    def is_stalled_at(self, kind: bytes, statement: bytes) -> bool:
        """Return whether this message stops in its middle."""
        if kind != b"B":  # with which the server has all of a statement
            return False
        with self._lock:
            self._stall_at -= 1
            if found := statement == self._stall_in:
                self._stall_in = None
            return found or self._stall_at == 0

    def due(self) -> Cut | None:
        """Count a message, and return how to cut at it, if at all."""
        with self._lock:
            self.messages += 1
            if self._armed is None or self._armed[0] != self.messages:
                return None
            cut, self._armed = self._armed[1], None
            self.cuts += 1
            return cut


@contextmanager
def cutting(server: str) -> Iterator[Proxy]:
    """A proxy before the server at this Unix socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener.getsockname()[1], server)
        threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
        yield proxy
        proxy.over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, proxy: Proxy) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(client, proxy), daemon=True).start()


def _serve(client: socket.socket, proxy: Proxy) -> None:
    with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError, EOFError):
        server.connect(proxy.server)
        mute, texts = threading.Event(), dict[bytes, bytes]()
        threading.Thread(target=_answer, args=(server, client, mute), daemon=True).start()
        _forward_opening(client, server)
        while True:
            kind, message = _message(client)
            cut = proxy.due() if kind != b"X" else None
            if proxy.is_stalled_at(kind, _statement(kind, message, texts)):
                server.sendall(message[:3])
                proxy.stalled.set()
                proxy.over.wait()
                _shut(client)
                _shut(server)
                return
            if cut is Cut.UNANSWERED:
                mute.set()
            if cut is not Cut.BEFORE:
                server.sendall(message)
            if cut is Cut.UNANSWERED:
                _rest_of_script(client, server)
            if cut is not None:
                _shut(client)
                if cut is not Cut.UNANSWERED:
                    _shut(server)
                else:
                    server.shutdown(socket.SHUT_WR)
                    mute.wait(10.0)
                return


def _statement(kind: bytes, message: bytes, texts: dict[bytes, bytes]) -> bytes:
    """Return the statement that a message prepares or runs; `texts` has those that were prepared, by their names."""
    if kind not in (b"P", b"B"):
        return b""
    first, second, _ = message[5:].split(b"\0", 2)
    if kind == b"B":
        return texts[second]
    texts[first] = second
    return second


def _rest_of_script(client: socket.socket, server: socket.socket) -> None:
    """Forward what belongs to the same script, up to its last message, and wait until the server has carried it out."""
    client.settimeout(0.05)
    with suppress(TimeoutError):
        while True:
            server.sendall(_message(client)[1])


def _answer(server: socket.socket, client: socket.socket, mute: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(65536):
            if not mute.is_set():
                client.sendall(data)
    _shut(client)


def _forward_opening(client: socket.socket, server: socket.socket) -> None:
    """Forward what a client says before its first statement: requests for encryption, which we refuse, and its name."""
    while True:
        head = _exactly(client, 4)
        body = _exactly(client, struct.unpack("!i", head)[0] - 4)
        code = struct.unpack("!i", body[:4])[0]
        if code in (80877103, 80877104):  # SSL, GSS
            client.sendall(b"N")
            continue
        server.sendall(head + body)
        return


def _message(client: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(client, 1)
    head = _exactly(client, 4)
    return kind, kind + head + _exactly(client, struct.unpack("!i", head)[0] - 4)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
