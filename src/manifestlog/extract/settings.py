"""What an error of the HTTP libraries says of this machine's settings: the proxy, the certificates.

Invariants:

- Where the cause is a setting, the message names it; nothing of its value is shown, as a proxy's address may hold a password.

It does not import the libraries: their errors are known by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CHECK_PROXY = "correct proxy for the source, or the variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
_ALERT = re.compile(r"ALERT_(\w+)\]")
_WANTED = "CERTIFICATE_REQUIRED"
_REFUSED = (
    "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA", "ACCESS_DENIED",
)  # fmt: skip


def wrong_setting(causes: Iterable[BaseException]) -> str | None:
    """Which setting is wrong and what to do, or what of the server no setting can mend; None for anything else."""
    return next(filter(None, map(_wrong, causes)), None)


def _wrong(error: BaseException) -> str | None:
    text, kind = str(error), type(error).__name__
    if kind == "InvalidSchema" and "SOCKS" in text:
        return f"a SOCKS proxy is set, and PySocks is not installed: pip install PySocks, or {CHECK_PROXY}"
    if kind in ("InvalidProxyURL", "ProxySchemeUnknown", "ProxySchemeUnsupported"):
        return f"the address of the proxy cannot be used: {CHECK_PROXY}"
    if isinstance(error, OSError) and "CA certificate bundle" in text:
        return "the file of CA certificates is not there: correct the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, or set ca for the source"
    if kind == "SOCKS5AuthError" or (isinstance(error, OSError) and text.startswith("Tunnel connection failed: 407")):
        return f"the proxy wants other credentials: {CHECK_PROXY}"
    if kind == "SSLError" and (alert := _ALERT.search(text)):
        return _alerted(alert[1])
    if kind == "SSLError" and "WRONG_VERSION_NUMBER" in text:
        return "what answers there does not speak TLS: check the scheme and the port of the source's url"
    if kind == "InvalidHeader" and "Content-Length" in text:
        return "the server names two lengths for one answer: tell whoever runs it"
    if kind == "HTTPException" and "headers" in text:
        return "the server sends more than 100 header lines, which nobody reads: tell whoever runs it"
    if kind == "LineTooLong":
        return "the server sends a header line of more than 65,536 bytes, which nobody reads: tell whoever runs it"
    return None


def _alerted(alert: str) -> str | None:
    """What a server's alert says of the client certificate; None when it is about something else."""
    if alert == _WANTED:
        return "the server wants a client certificate: set cert, and key, for the source"
    if alert in _REFUSED:
        said = alert.replace("_", " ").lower()
        return (
            f"the server refuses the client certificate ({said}): correct cert and key, or ask whoever runs the server"
        )
    if alert == "HANDSHAKE_FAILURE":
        return "the server refuses the encryption: it may want a client certificate (set cert, and key), or another TLS version"
    return None
