"""The plainest client there is: one request on one connection, nothing repaired, nothing followed."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

from support.children import PATIENCE_S


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    """What arrived, also when it ended too early."""
    error: Exception | None = None
    """How it ended, if not well."""


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE_S)


def ask(url: str, method: str = "GET", **headers: str) -> Answer:
    """Send a request; headers by their Python names: `if_none_match='"a"'`."""
    connection = connect(url)
    try:
        return ask_on(connection, url, method, **headers)
    finally:
        connection.close()


def ask_on(connection: http.client.HTTPConnection, url: str, method: str = "GET", **headers: str) -> Answer:
    """Send a request on an open connection."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, urlsplit(url).path, headers={"accept-encoding": "identity"} | named)
    with connection.getresponse() as response:
        found = bytearray()
        error: Exception | None = None
        try:
            while piece := response.read(1):
                found += piece
        except (OSError, http.client.HTTPException) as raised:
            error = raised
        lower = {name.lower(): value for name, value in response.getheaders()}
        if error is None and response.length:
            error = http.client.IncompleteRead(bytes(found), response.length)
        return Answer(response.status, lower, bytes(found), error)
