"""TLS contexts: the trusted authorities, and the certificate to show.

Invariants:

- Certificates are always verified: against `ca`, else the file or directory of `REQUESTS_CA_BUNDLE` or
  `CURL_CA_BUNDLE`, else certifi's public authorities.
- A context does not change after connections use it: OpenSSL does not allow that while other threads work with it.

`request_options` has already checked configured files; here an error comes from the environment.
"""

from __future__ import annotations

import os
import ssl

import certifi
import urllib3
from urllib3.util.ssl_ import create_urllib3_context

from manifestlog.extract.fetchers.open_sockets import OpenSockets
from manifestlog.extract.fetchers.protocol import FetchError

_MISSING = "the file of CA certificates is missing: correct the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, or set ca for the source"


def new_context(sockets: OpenSockets, ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Return a context that verifies the server, and shows a client certificate if there is one."""
    context: ssl.SSLContext = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    _trust(context, ca or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where())
    if cert:
        context.load_cert_chain(cert, key)
    context.sslsocket_class = _socket_class(sockets)
    context.set_alpn_protocols(["http/1.1"])
    # urllib3 sets them again for each connection.
    vars(context)["set_alpn_protocols"] = _ignore
    return context


def _ignore(_protocols: list[str]) -> None:
    """Leave the context as it is."""


def _trust(context: ssl.SSLContext, path: str) -> None:
    if not os.path.exists(path):
        raise FetchError(_MISSING, transient=False)
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(path)
    except OSError as error:
        raise urllib3.exceptions.SSLError(error) from error


def _socket_class(sockets: OpenSockets) -> type[ssl.SSLSocket]:
    """Return a kind of TLS socket that can be interrupted from its handshake on."""

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 -- as its base
            sockets.add(self)
            super().do_handshake(block)

    return Socket
