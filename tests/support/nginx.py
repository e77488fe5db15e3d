"""A real nginx on loopback, and what it says it has sent.

Invariants:

- `requests()` is complete: a request whose answer has reached its client, or whose client has gone, is in it. One worker
  writes every line unbuffered, before it takes up the next request; so it is asked a question first, and the answer awaited.
- The port is ours from the start: it is bound here and handed down, so nobody can take it in between.
- Nothing is cached: a changed file is served at once. (nginx makes ETags of the size and the modification time in whole seconds.)

It does not misbehave: see `badserver`.
"""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import socket
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.children import PATIENCE_S
from support.packages import program

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "nginx-light"
LIFE_S = 3600
"""Longer than any test or benchmark; nobody outlives a run that was killed."""

CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 1000; }}
http {{
    types {{
        application/json json;
        application/gzip gz;
        text/plain txt;
    }}
    default_type application/octet-stream;
    log_format lines escape=json
        '{{"method":"$request_method","uri":"$request_uri","status":$status,"body_bytes_sent":$body_bytes_sent,'
        '"http_range":"$http_range","http_if_none_match":"$http_if_none_match",'
        '"http_if_modified_since":"$http_if_modified_since","content_encoding":"$sent_http_content_encoding",'
        '"completion":"$request_completion","request_id":"$request_id"}}';
    access_log access.jsonl lines;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    sendfile on;
    tcp_nopush on;
    open_file_cache off;
    keepalive_requests 100000;
    etag on;
    gzip on;
    gzip_min_length 20;
    gzip_types text/plain application/json;
    {limit_rate}
    server {{
        listen 127.0.0.1:{port};
        root "{folder}";
        location = {question} {{ access_log off; return 204; }}
    }}
}}
"""

QUESTION = "/.are-you-there"


@dataclass(frozen=True)
class Request:
    """One line of the log; a header that was not sent is None."""

    method: str
    uri: str
    status: int
    body_bytes_sent: int
    http_range: str | None
    http_if_none_match: str | None
    http_if_modified_since: str | None
    content_encoding: str | None
    """`gzip` for a client that did not say `Accept-Encoding: identity`."""
    completed: bool
    """The whole answer went out: the client did not go away in the middle."""
    request_id: str


@dataclass(frozen=True)
class Nginx:
    """A running server; `url` has no slash at its end."""

    url: str
    port: int
    log: Path

    def requests(self) -> list[Request]:
        """Everything that was asked and is over, in the order in which it ended."""
        _ask(self.port)
        return [_parse(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def bodies(self) -> Counter[str]:
        """How many whole bodies went out, by uri: a GET, status 200, sent to the end."""
        return Counter(r.uri for r in self.requests() if (r.method, r.status, r.completed) == ("GET", 200, True))

    def range_bytes(self) -> Counter[str]:
        """How many bytes went out in answers to ranges (206), by uri, broken off or not."""
        found: Counter[str] = Counter()
        for request in self.requests():
            if request.status == 206:
                found[request.uri] += request.body_bytes_sent
        return found

    def bytes_sent(self) -> int:
        """The bytes of all bodies that were files: of 200 and 206, broken off or not."""
        return sum(r.body_bytes_sent for r in self.requests() if r.status in (200, 206))


@contextmanager
def serving(folder: Path, *, limit_rate: str | None = None) -> Iterator[Nginx]:
    """Serve `folder`; `limit_rate` is nginx's: bytes per second and connection, such as `100k`."""
    nginx = program("nginx", PACKAGE)
    with tempfile.TemporaryDirectory(prefix="nginx-") as name, socket.socket() as listener:
        prefix = Path(name)
        listener.bind(("127.0.0.1", 0))
        listener.listen(511)
        listener.setblocking(False)  # nginx takes it as it is
        port: int = listener.getsockname()[1]
        (prefix / "nginx.conf").write_text(_configuration(folder, port, limit_rate), encoding="utf-8")
        process = _start(nginx, prefix, listener)
        listener.close()  # from now on nginx is the only one who could answer: if it is dead, asking fails
        try:
            _wait_until_ready(port, prefix)
            yield Nginx(f"http://127.0.0.1:{port}", port, prefix / "access.jsonl")
        finally:
            _stop(process)


def _configuration(folder: Path, port: int, limit_rate: str | None) -> str:
    account = f"user {pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name};"
    return CONFIGURATION.format(
        user=account if os.geteuid() == 0 else "",  # root's worker would become somebody who may not read the folder
        limit_rate=f"limit_rate {limit_rate};" if limit_rate else "",
        folder=folder.resolve(),
        port=port,
        question=QUESTION,
    )


def _start(program: str, prefix: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    number = listener.fileno()
    with (prefix / "stderr.log").open("wb") as stderr:
        return subprocess.Popen(
            ["timeout", str(LIFE_S), program, "-p", f"{prefix}/", "-c", "nginx.conf", "-e", "error.log"],
            env=os.environ | {"NGINX": f"{number};"},  # how one nginx hands its sockets to the next
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def _wait_until_ready(port: int, prefix: Path) -> None:
    """The kernel keeps the question until nginx is there to answer it."""
    try:
        _ask(port)
    except OSError as error:
        said = "".join(path.read_text(encoding="utf-8") for path in sorted(prefix.glob("*.log")))
        raise RuntimeError(f"nginx did not start: {said or error}") from error


def _ask(port: int) -> None:
    """A question, and its answer up to the end of the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", QUESTION, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204, f"nginx answers {answer.status} to a simple question"
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    finally:
        process.kill()


def _parse(line: str) -> Request:
    found: dict[str, Any] = {name: None if value == "" else value for name, value in json.loads(line).items()}
    return Request(completed=found.pop("completion") == "OK", **found)
