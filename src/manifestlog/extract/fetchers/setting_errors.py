"""Recognises errors of the HTTP library that come from local settings: proxy and certificates.

Invariants:

- If a setting is the cause, the message names it but not its value, since a proxy URL may contain a password.

It recognises the library's errors by name, without importing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CHECK_PROXY = "correct proxy for the source, or the variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
NO_SOCKS = f"the SOCKS proxy needs PySocks, which is not installed: pip install PySocks, or {CHECK_PROXY}"
INVALID_PROXY = f"the proxy's URL is invalid: {CHECK_PROXY}"
_ALERT = re.compile(r"ALERT_(\w+)\]")
_ALERT_REQUIRED = "CERTIFICATE_REQUIRED"
_ALERTS_REFUSED = (
    "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA", "ACCESS_DENIED",
)  # fmt: skip


def explain_setting_error(causes: Iterable[BaseException]) -> str | None:
    """Return which setting is wrong, or which server fault no setting can fix, and what to do; None for other errors."""
    return next(filter(None, map(_explain, causes)), None)


def _explain(error: BaseException) -> str | None:
    text, kind = str(error), type(error).__name__
    if kind in ("ProxySchemeUnknown", "ProxySchemeUnsupported"):
        return INVALID_PROXY
    if kind == "SOCKS5AuthError" or (isinstance(error, OSError) and text.startswith("Tunnel connection failed: 407")):
        return f"the proxy rejects the credentials: {CHECK_PROXY}"
    if kind == "SSLError" and (alert := _ALERT.search(text)):
        return _explain_alert(alert[1])
    if kind == "SSLError" and "WRONG_VERSION_NUMBER" in text:
        return "the server does not speak TLS: check scheme and port of the source's url"
    if kind == "InvalidHeader" and "Content-Length" in text:
        return "the server sends two different lengths for one response: report it to its operator"
    if kind == "HTTPException" and "headers" in text:
        return "the server sends more than 100 header lines, the maximum: report it to its operator"
    if kind == "LineTooLong":
        return "the server sends a header line over 65,536 bytes, the maximum: report it to its operator"
    return None


def _explain_alert(alert: str) -> str | None:
    """Return what a TLS alert of the server says about the client certificate; None if it concerns something else."""
    if alert == _ALERT_REQUIRED:
        return "the server requires a client certificate: set cert and key for the source"
    if alert in _ALERTS_REFUSED:
        said = alert.replace("_", " ").lower()
        return f"the server rejects the client certificate ({said}): correct cert and key, or ask its operator"
    if alert == "HANDSHAKE_FAILURE":
        return "the server rejects the TLS handshake: it may require a client certificate (set cert and key) or another TLS version"
    return None
