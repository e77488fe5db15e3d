"""Prepares URLs for requests: normalises them, removes their userinfo, and compares their servers.

Invariants:

- A URL is sent as a browser would: host names in IDNA, unsafe characters quoted, dot segments removed, no fragment.
- `is_same_server` decides what may follow a redirect. A change from http to https on the standard ports is the same
  server.

It opens no connection.
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from manifestlog.extract.fetchers.protocol import FetchError

_SAFE = "!#$%&'()*+,/:;=?@[]~"
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """The parts of a normalised URL."""

    scheme: str
    host: str
    """In lower case, without the brackets of an IPv6 address."""
    port: int | None
    target: str
    """Path and query."""
    absolute: str
    """The whole URL without userinfo and fragment, which a forwarding proxy needs."""


def address_of(url: str) -> Address:
    """Return the parts of a URL as they are sent; raises `FetchError` for an invalid one."""
    try:
        parts = parse_url(url.lstrip())
    except LocationParseError:
        raise _invalid() from None
    if not parts.scheme or not parts.host or parts.host.startswith(("*", ".")):
        raise _invalid()
    port = f":{parts.port}" if parts.port else ""
    sent = _requoted(urlunsplit((parts.scheme, parts.host + port, parts.path or "/", parts.query or "", "")))
    split = urlsplit(sent)
    target = f"{split.path}?{split.query}" if split.query else split.path
    return Address(split.scheme, split.hostname or "", split.port, target, sent)


def _invalid() -> FetchError:
    return FetchError("the request cannot be sent (its URL is invalid): check the source's url", transient=False)


def _requoted(url: str) -> str:
    """Return the URL with each character quoted that must be, and none that need not be."""
    try:
        return quote(_without_needless_escapes(url), safe=_SAFE)
    except ValueError:  # a percent sign that starts no escape
        return quote(url, safe=_SAFE.replace("%", ""))


def _without_needless_escapes(url: str) -> str:
    first, *others = url.split("%")
    return first + "".join(map(_unescaped, others))


def _unescaped(part: str) -> str:
    """Return what follows a percent sign, with it, or decoded if its character need not be escaped."""
    digits = part[:2]
    if len(digits) == 2 and digits.isalnum() and (char := chr(int(digits, 16))) in _UNRESERVED:
        return char + part[2:]
    return f"%{part}"


def basic_auth(url: str) -> str | None:
    """Return the value of the header for the userinfo in a URL; None without user or password."""
    user, password = userinfo_of(url)
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode('latin-1')).decode()}" if user or password else None


def userinfo_of(url: str) -> tuple[str, str]:
    """Return decoded user and password; empty unless the URL has both."""
    parts = urlsplit(url)
    if parts.username is None or parts.password is None:
        return "", ""
    return unquote(parts.username), unquote(parts.password)


def with_userinfo_of(url: str, target: str) -> str:
    """Return a redirect's target on the same server, with the userinfo that its Location omits."""
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    parts = urlsplit(target)
    if not at or "@" in parts.netloc:
        return target
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))


def is_same_server(url: str, target: str) -> bool:
    """Return whether credentials for a URL may be sent to a redirect's target."""
    old, new = urlsplit(url), urlsplit(target)
    if old.hostname != new.hostname:
        return False
    if old.scheme == new.scheme:
        standard = (_PORTS.get(old.scheme), None)
        return old.port == new.port or (old.port in standard and new.port in standard)
    upgraded = (old.scheme, new.scheme) == ("http", "https")
    return upgraded and old.port in (80, None) and new.port in (443, None)
