"""A server at a distance: it waits 100 ms on each new connection and 50 ms before each response.

`python -m benchmarks.distant_server FOLDER PORT_FILE [--near]` serves a folder on all addresses 127.0.0.N and writes its
port to a file. It answers GET with 200 or, to a matching `If-None-Match`, with 304, and counts whole bodies: `/bodies`
answers with their number. With `--near` it waits for nothing, which shows what it can do by itself.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

CONNECT_S = 0.1
ANSWER_S = 0.05


class Distant:
    """Files in memory, served after a while."""

    def __init__(self, folder: Path, connect_s: float, answer_s: float) -> None:
        self._files = {
            f"/{path.relative_to(folder)}": (
                f'"{path.stat().st_mtime_ns:x}-{path.stat().st_size:x}"',
                path.read_bytes(),
            )
            for path in folder.rglob("*")
            if path.is_file()
        }
        self._connect_s, self._answer_s = connect_s, answer_s
        self._bodies = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        await asyncio.sleep(self._connect_s)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                await asyncio.sleep(self._answer_s)
                writer.write(self._answer(request))
                await writer.drain()
        writer.close()

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
        self._bodies += 1
        return _response("200 OK", etag, body)


def _response(status: str, etag: str, body: bytes) -> bytes:
    tag = f"ETag: {etag}\r\n" if etag else ""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{tag}\r\n".encode() + body


async def _main(folder: Path, port_file: Path, *, near: bool) -> None:
    distant = Distant(folder, 0.0 if near else CONNECT_S, 0.0 if near else ANSWER_S)
    server = await asyncio.start_server(distant.serve, "0.0.0.0", 0, backlog=1024)
    port = str(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(port_file.write_text, port, encoding="ascii")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2]), near="--near" in sys.argv))
