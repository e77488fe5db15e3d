"""The server of the demo: serves a directory on the loopback interface, with conditional and range requests.

    serve.py DIRECTORY [--port 0] [--port-file FILE] [--body-s 0]

Invariants:

- ETags are strong: size and modification time in nanoseconds, so a replaced file gets a new one.
- It supports `If-None-Match`, `If-Modified-Since`, single ranges and `If-Range`, and keeps connections open.
- It serves nothing outside the directory, and answers this machine only.
- It writes its URL to the port file, or prints it, once it answers requests. SIGTERM and Ctrl-C end it; it then prints a summary.

It does not compress, list directories or accept uploads.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d+)-(\d*)|bytes=-(\d+)")
PIECE_BYTES = 64 * 1024


class Span(NamedTuple):
    """The part of a file to send: up to, not with, `end`."""

    start: int
    end: int


@dataclass
class Served:
    """Counts of what was sent. A response is counted before the client receives it."""

    requests: int = 0
    bodies: int = 0
    size_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, size_bytes: int | None) -> None:
        """Count a request; `size_bytes` is the size of its body, or None without a body."""
        with self._lock:
            self.requests += 1
            self.bodies += size_bytes is not None
            self.size_bytes += size_bytes or 0


class Handler(BaseHTTPRequestHandler):
    """Answer GET and HEAD; answer POST like GET and ignore its body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing; the summary at the end is enough."""

    def _answer(self) -> None:
        path = find_file(self.server.folder, self.path)
        if path is None:
            self._send_head(404, {"Content-Length": "0"})
            return
        with path.open("rb") as file:  # headers must describe the file that is sent, so open it first
            self._send_file(file)

    def _send_file(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        date = formatdate(found.st_mtime, usegmt=True)
        headers = {"ETag": etag, "Last-Modified": date, "Accept-Ranges": "bytes"}
        if self._is_unchanged(etag, date):
            self._send_head(304, headers)
            return
        span = self._span(etag, date, found.st_size)
        if span is None:
            self._send_span(200, headers, file, Span(0, found.st_size))
        elif span.start >= span.end:
            self._send_head(416, headers | {"Content-Range": f"bytes */{found.st_size}", "Content-Length": "0"})
        else:
            content_range = f"bytes {span.start}-{span.end - 1}/{found.st_size}"
            self._send_span(206, headers | {"Content-Range": content_range}, file, span)

    def _is_unchanged(self, etag: str, date: str) -> bool:
        asked = self.headers.get("If-None-Match")
        if asked is None:
            return bool(self.headers.get("If-Modified-Since") == date)
        return etag in {tag.strip().removeprefix("W/") for tag in asked.split(",")}

    def _span(self, etag: str, date: str, size_bytes: int) -> Span | None:
        """Return the requested range, or None for the whole file."""
        match = RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None or self.command != "GET" or self.headers.get("If-Range", etag) not in (etag, date):
            return None
        first, last, tail = match.groups()
        if tail:
            return Span(max(0, size_bytes - int(tail)), size_bytes)
        return Span(int(first), min(size_bytes, int(last) + 1) if last else size_bytes)

    def _send_span(self, status: int, headers: dict[str, str], file: BinaryIO, span: Span) -> None:
        length = span.end - span.start
        self._send_head(status, headers | {"Content-Length": str(length)}, None if self.command == "HEAD" else length)
        if self.command != "HEAD":
            self._copy(file, span)

    def _send_head(self, status: int, headers: dict[str, str], body_bytes: int | None = None) -> None:
        self.server.served.count(body_bytes)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _copy(self, file: BinaryIO, span: Span) -> None:
        file.seek(span.start)
        left = span.end - span.start
        if self.server.body_s:
            self.wfile.write(file.read(left // 2))
            left -= left // 2
            time.sleep(self.server.body_s)
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            self.wfile.write(piece)
            left -= len(piece)


class Server(ThreadingHTTPServer):
    """Serve each connection in a thread of its own."""

    request_queue_size = 128

    def __init__(self, port: int, folder: Path, body_s: float) -> None:
        self.folder = folder.resolve()
        self.body_s = body_s
        self.served = Served()
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close their connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def find_file(folder: Path, target: str) -> Path | None:
    """Return the file that a request names, or None if it is not a file in the directory."""
    name = unquote(urlsplit(target).path)
    try:
        path = (folder / name.lstrip("/")).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None
    except (OSError, ValueError):  # the name is too long or contains NUL
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a directory on the loopback interface until SIGTERM.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0: any free port [default: 0]")
    parser.add_argument("--port-file", type=Path, help="file for the URL [default: standard output]")
    parser.add_argument("--body-s", type=float, default=0, help="seconds that each body takes, at least [default: 0]")
    given = parser.parse_args()
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before threads start, so that they inherit it
    with Server(given.port, given.folder, given.body_s) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        _announce(f"http://127.0.0.1:{server.server_address[1]}", given.port_file)
        signal.sigwait(ends)
        server.shutdown()
    served = server.served
    print(f"served {served.requests} requests, {served.bodies} bodies, {served.size_bytes} bytes", file=sys.stderr)


def _announce(url: str, port_file: Path | None) -> None:
    if port_file is None:
        print(url, flush=True)
        return
    temporary = port_file.with_name(f".{port_file.name}.tmp")
    temporary.write_text(f"{url}\n", encoding="ascii")
    os.replace(temporary, port_file)


if __name__ == "__main__":
    main()
