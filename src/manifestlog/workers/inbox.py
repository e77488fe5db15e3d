"""The ends of a pipe between processes: whole messages, as many as one system call moves.

`multiprocessing` waits for a pipe, reads the length of a message, and then the message: three system calls and a new
selector each time. This module reads everything at once, however many messages there are. It understands messages from
`Connection.send` and from an `Outbox`.

Invariants:

- A message is returned once, whole, and in order. A message that is cut because its sender died is never returned.
- Nothing waits for the rest of a message: other pipes are served meanwhile.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

_BLOCK_BYTES = 1 << 16
_SIZE, _LONG_SIZE = struct.Struct("!i"), struct.Struct("!Q")
_IS_LONG = -1
_LONG_BYTES = 0x7FFFFFFF


class Inbox:
    """The messages that come through a pipe."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._end = pipe, _Borrowed(pipe)
        self._data = bytearray()

    def take(self) -> list[Any]:
        """Wait for bytes, and return the messages that are whole by now. Raises `EOFError`, or `OSError`, at the end."""
        block = self._end.of(self._pipe).recv(_BLOCK_BYTES)
        if not block:
            raise EOFError
        self._data += block
        return [ForkingPickler.loads(message) for message in self._whole()]

    def _whole(self) -> Iterator[bytes]:
        start = 0
        while (extent := self._extent(start)) is not None:
            begin, end = extent
            if end > len(self._data):
                break
            yield bytes(self._data[begin:end])
            start = end
        del self._data[:start]

    def _extent(self, start: int) -> tuple[int, int] | None:
        """Return where the message that starts here has its bytes; None if its length has not arrived."""
        begin = start + _SIZE.size
        if begin > len(self._data):
            return None
        (size,) = _SIZE.unpack_from(self._data, start)
        if size != _IS_LONG:
            return begin, begin + size
        if begin + _LONG_SIZE.size > len(self._data):
            return None
        (size,) = _LONG_SIZE.unpack_from(self._data, begin)
        return begin + _LONG_SIZE.size, begin + _LONG_SIZE.size + size


def framed(message: Any) -> bytes:
    """Return the bytes of a message in a pipe."""
    data = bytes(ForkingPickler.dumps(message))
    if len(data) > _LONG_BYTES:
        return _SIZE.pack(_IS_LONG) + _LONG_SIZE.pack(len(data)) + data
    return _SIZE.pack(len(data)) + data


class Outbox:
    """Sends messages through a pipe."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._end = pipe, _Borrowed(pipe)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages that are `framed`, with one system call if they fit. Raises `OSError`."""
        self._end.of(self._pipe).sendall(b"".join(messages))


class _Borrowed(socket.socket):
    """The socket that a pipe with two ends is. It is made once, and the pipe goes on owning the descriptor."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, pipe.fileno())
        if self.gettimeout() is not None:  # the program's default for its sockets, under which a send may end half-way
            self.settimeout(None)

    def of(self, pipe: Connection[Any, Any]) -> Self:
        """Raise `OSError` if the pipe is closed: its descriptor may be another file's by now."""
        pipe.fileno()
        return self

    def __del__(self) -> None:
        self.detach()
