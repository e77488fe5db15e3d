"""Turns errors of the HTTP library into `FetchError`: what failed in a few words, and whether a retry may help.

Invariants:

- No message contains one of the library's: those show whole URLs, and headers.
- After an interruption, every error is `StopAskedError`: it comes from the sockets that were shut down.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from urllib3 import exceptions

from manifestlog.extract.fetchers.open_sockets import OpenSockets
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.fetchers.setting_errors import CHECK_PROXY, explain_setting_error

_OF_LIBRARY = (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
_UNTRUSTED = "the server's certificate or TLS version is not trusted: check the url, or your certificates (ca for the source, or the variable REQUESTS_CA_BUNDLE)"
_TRANSIENT_ERRORS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((exceptions.ConnectTimeoutError,), "no connection within timeout_connect_s"),
    ((exceptions.ReadTimeoutError, TimeoutError), "no data within timeout_read_s"),
    ((http.client.IncompleteRead,), "the connection was cut before the end of the file"),
)


@contextmanager
def translated_errors(sockets: OpenSockets) -> Iterator[None]:
    """Turn errors of the library into `FetchError`, or into `StopAskedError` after an interruption."""
    try:
        yield
    except FetchError:
        raise
    except _OF_LIBRARY as error:
        sockets.check()
        reason, transient = _reason(error)
        raise FetchError(reason, transient) from None  # the library's message contains the whole URL


def _reason(error: BaseException) -> tuple[str, bool]:
    """Return what failed, in a few words, and whether a retry may help."""
    chain = list(_causes(error))
    system = next((cause.strerror for cause in chain if isinstance(cause, OSError) and cause.strerror), None)
    if (reason := explain_setting_error(chain)) is not None:
        return reason, False
    if any(isinstance(cause, ssl.SSLEOFError) for cause in chain):
        return "the connection was cut without a TLS close_notify, so the file may be incomplete", True
    if any(map(_is_of_proxy, chain)):
        return f"the proxy refuses or does not respond{f' ({system})' if system else ''}: {CHECK_PROXY}", True
    for cause in chain:
        if isinstance(cause, exceptions.SSLError):
            return _UNTRUSTED, False
        if isinstance(cause, socket.gaierror):
            return "the server's name cannot be resolved: check the source's url and the network", True
    for kinds, reason in _TRANSIENT_ERRORS:
        # urllib3 reports a refused connection as a timeout; the system's error tells them apart.
        if system is None and any(isinstance(cause, kinds) for cause in chain):
            return reason, True
    if system is not None or isinstance(error, exceptions.ProtocolError | exceptions.NewConnectionError | OSError):
        return f"the connection failed ({system or type(chain[-1]).__name__}): check the network and the server", True
    return f"the request cannot be sent ({type(error).__name__}): check the source's url", False


def _is_of_proxy(error: BaseException) -> bool:
    is_socks = type(error).__module__ == "socks"  # PySocks may not be installed
    return is_socks or isinstance(error, exceptions.ProxyError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all errors it wraps, which urllib3 keeps in arguments and reasons."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return iter(seen)
