"""What an error of the HTTP libraries says of this machine's settings: the proxy, the certificates.

Invariants:

- Where the cause is a setting, the message names it; nothing of its value is shown, as a proxy's address may hold a password.

It does not import the libraries: their errors are known by name.
"""

from __future__ import annotations

from collections.abc import Iterable

_PROXY = "correct the variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"


def wrong_setting(causes: Iterable[BaseException]) -> str | None:
    """Which setting is wrong and what to do, or what of the server no setting can mend; None for anything else."""
    return next(filter(None, map(_wrong, causes)), None)


def _wrong(error: BaseException) -> str | None:
    text, kind = str(error), type(error).__name__
    if kind == "InvalidSchema" and "SOCKS" in text:
        return f"a SOCKS proxy is set, and PySocks is not installed: pip install PySocks, or {_PROXY}"
    if kind in ("InvalidProxyURL", "ProxySchemeUnknown", "ProxySchemeUnsupported"):
        return f"the address of the proxy cannot be used: {_PROXY}"
    if isinstance(error, OSError) and "CA certificate bundle" in text:
        return "the file of CA certificates is not there: correct the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
    if kind == "HTTPException" and "headers" in text:
        return "the server sends more than 100 header lines, which nobody reads: tell whoever runs it"
    if kind == "LineTooLong":
        return "the server sends a header line of more than 65,536 bytes, which nobody reads: tell whoever runs it"
    return None
