"""Truncated bodies without a length: never registered where the transport shows the truncation."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from extract.running import pattern
from manifestlog.extract import Result
from support import answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Here
    from support.badserver import BadServer, Exchange

BODY = pattern(1000)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The TLS context of a server with its own certificate, which clients trust."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = "subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(certificate, key)
    return found


@contextmanager
def serving(context: ssl.SSLContext, answer: bytes, *, says_end: bool) -> Iterator[str]:
    """A TLS server that sends the same to every client, with or without a close_notify; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, context, answer, says_end), daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}/a.bin"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(server: socket.socket, context: ssl.SSLContext, answer: bytes, says_end: bool) -> None:
    while True:
        try:
            plain, _ = server.accept()
        except OSError:
            return
        with plain, suppress(OSError):
            tls = context.wrap_socket(plain, server_side=True)
            with tls:
                tls.recv(65536)
                tls.sendall(answer)
                if says_end:
                    with suppress(OSError):
                        tls.unwrap()
                else:
                    tls.shutdown(socket.SHUT_WR)


def without_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body


def test_a_body_over_tls_that_is_cut_fails(here: Here, context: ssl.SSLContext) -> None:
    with serving(context, without_length(BODY), says_end=False) as url:
        assert here.fetch(url).result is Result.FAILED


def test_it_is_reported_as_a_cut(here: Here, context: ssl.SSLContext) -> None:
    with serving(context, without_length(BODY), says_end=False) as url:
        assert "the connection was cut" in (here.fetch(url).error or "")


def test_a_body_over_tls_that_ends_as_it_should_is_registered(here: Here, context: ssl.SSLContext) -> None:
    with serving(context, without_length(BODY), says_end=True) as url:
        assert here.fetch(url).result is Result.NEW


def test_a_body_with_a_length_needs_no_end_mark(here: Here, context: ssl.SSLContext) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY
    with serving(context, answer, says_end=False) as url:
        assert here.fetch(url).result is Result.NEW


def test_chunks_without_their_end_fail(here: Here, bad: BadServer) -> None:
    def step(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked"})
        exchange.frame(b"3e8\r\n")
        exchange.body(BODY)
        exchange.frame(b"\r\n")
        exchange.hang_up()

    assert here.fetch(bad.script("/a", step), retries=0).result is Result.FAILED


def test_a_connection_that_is_reset_fails(here: Here, bad: BadServer) -> None:
    def step(exchange: Exchange) -> None:
        exchange.head(200, {})
        exchange.body(BODY)
        exchange.reset()

    assert here.fetch(bad.script("/a", step, answers.whole(b"x")), retries=0).result is Result.FAILED
