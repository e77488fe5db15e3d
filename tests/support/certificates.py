"""An authority of the tests' own, and what it has signed: by the real `openssl`, for a day.

Invariants:

- Certificates of servers are for `127.0.0.1` and `localhost`.
"""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
_HERE = "subjectAltName=IP:127.0.0.1,DNS:localhost"
PASSWORD = "an0ther-5ecret"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Signs certificates, which lie in its folder."""

    folder: Path
    ca: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """A new one."""
        folder.mkdir(parents=True, exist_ok=True)
        ca, key = folder / "ca.pem", folder / "ca.key"
        uses = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # which Python 3.13 insists on
        _openssl("-x509", *_KEY, "-nodes", "-days", "1", "-subj", "/CN=Tests", *uses, "-keyout", key, "-out", ca)
        return cls(folder, ca, key)

    def issue(self, name: str, *, encrypted: bool = False) -> Issued:
        """A certificate in this name, of a server or of a client."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        _openssl(
            *("-x509", "-CA", self.ca, "-CAkey", self.key, *_KEY, "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", _HERE, "-addext", "basicConstraints=critical,CA:FALSE"),
            *(("-passout", f"pass:{PASSWORD}") if encrypted else ("-nodes",)),
            *("-keyout", key, "-out", cert),
        )
        return Issued(cert, key)

    def context(self, *, wants_clients: bool = False) -> ssl.SSLContext:
        """For a server; one that `wants_clients` takes only those with a certificate of this authority."""
        server = self.issue("server")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.cert, server.key)
        if wants_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", "req", *arguments], check=True, capture_output=True)
