"""A server at a distance: it waits 100 ms on each new connection and 50 ms before each response.

`python -m benchmarks.distant_server FOLDER PORT_FILE [--near | --narrow | --slow]` serves a folder on all addresses 127.0.0.N and
writes its port to a file. It answers GET with 200, 206 or, to a matching `If-None-Match`, 304, and counts whole bodies:
`/bodies` answers with their number. With `--near` it waits for nothing, which shows what it can do by itself. With
`--narrow` each connection gets 2 MB a second. With `--slow` the address `SLOW_HOST` waits 2 s before each response.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

CONNECT_S = 0.1
ANSWER_S = 0.05
NARROW_BYTES_PER_S = 2_000_000
SLOW_HOST, SLOW_ANSWER_S = "127.0.0.9", 2.0
_PIECE_BYTES = 20_000
_RANGE = re.compile(r"range: bytes=(\d+)-(\d*)", re.IGNORECASE)


class Distant:
    """Files in memory, served after a while."""

    def __init__(
        self, folder: Path, connect_s: float, answer_s: float, bytes_per_s: float, slow_answer_s: float
    ) -> None:
        self._files = {
            f"/{path.relative_to(folder)}": (
                f'"{path.stat().st_mtime_ns:x}-{path.stat().st_size:x}"',
                path.read_bytes(),
            )
            for path in folder.rglob("*")
            if path.is_file()
        }
        self._connect_s, self._answer_s, self._bytes_per_s = connect_s, answer_s, bytes_per_s
        self._slow_answer_s = slow_answer_s
        self._bodies = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        await asyncio.sleep(self._connect_s)
        answer_s = self._slow_answer_s if writer.get_extra_info("sockname")[0] == SLOW_HOST else self._answer_s
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                await asyncio.sleep(answer_s)
                await self._send(writer, self._answer(request))
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        began, size = time.monotonic(), len(data) if self._bytes_per_s == math.inf else _PIECE_BYTES
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            early = (start + size) / self._bytes_per_s - (time.monotonic() - began)
            if early > 0 and start + size < len(data):
                await asyncio.sleep(early)

    def _answer(self, request: list[str]) -> bytes:
        path = request[0].split(" ")[1]
        if path == "/bodies":
            return _response("200 OK", "", str(self._bodies).encode())
        if path not in self._files:
            return _response("404 Not Found", "", b"")
        etag, body = self._files[path]
        if any(line.lower().startswith("if-none-match:") and etag in line for line in request):
            return f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode()
        if request[0].startswith("HEAD"):
            return _response("200 OK", etag, body)[: -len(body)]
        if found := next(filter(None, map(_RANGE.match, request)), None):
            return _part(found, etag, body)
        self._bodies += 1
        return _response("200 OK", etag, body)


def _part(asked: re.Match[str], etag: str, body: bytes) -> bytes:
    start, end = int(asked[1]), int(asked[2] or len(body) - 1) + 1
    extent = f"{etag}\r\nContent-Range: bytes {start}-{end - 1}/{len(body)}"
    return _response("206 Partial Content", extent, body[start:end])


def _response(status: str, etag: str, body: bytes) -> bytes:
    tag = f"ETag: {etag}\r\n" if etag else ""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{tag}\r\n".encode() + body


async def _main(folder: Path, port_file: Path, option: str) -> None:
    waits = 0 if option == "--near" else 1
    bytes_per_s = NARROW_BYTES_PER_S if option == "--narrow" else math.inf
    slow_answer_s = SLOW_ANSWER_S if option == "--slow" else waits * ANSWER_S
    distant = Distant(folder, waits * CONNECT_S, waits * ANSWER_S, bytes_per_s, slow_answer_s)
    server = await asyncio.start_server(distant.serve, "0.0.0.0", 0, backlog=1024)
    port = str(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(port_file.write_text, port, encoding="ascii")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2]), "".join(sys.argv[3:])))
