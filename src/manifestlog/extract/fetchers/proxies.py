"""Finds the proxy in the environment for a URL: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.

Invariants:

- An entry of `no_proxy` is a host or a domain, either with a port, an IPv4 address, or a network such as `10.0.0.0/8`;
  `*` matches everything.
- Without such a variable, nothing is imported, except on macOS, whose settings count too.

A configured proxy has priority, and is not handled here.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlunparse

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from manifestlog.extract.fetchers.addresses import Address
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.fetchers.setting_errors import INVALID_PROXY


def proxy_of_environment(address: Address) -> str:
    """Return the URL of the proxy, or an empty string without one."""
    if sys.platform != "darwin" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return ""
    from urllib.request import getproxies  # noqa: PLC0415 -- slow to import, and rarely needed

    return "" if _is_exempt(address) or _is_exempt_by_system(address.host) else _chosen(getproxies(), address)


def _chosen(proxies: Mapping[str, str], address: Address) -> str:
    keys = (f"{address.scheme}://{address.host}", address.scheme, f"all://{address.host}", "all")
    return next((proxies[key] for key in keys if key in proxies), "")


@lru_cache(maxsize=64)
def with_scheme(proxy: str) -> str:
    """Return a proxy's URL with a scheme: the environment may name `host:port` only."""
    try:
        scheme, auth, _, _, path, query, fragment = parts = parse_url(proxy)
    except LocationParseError:
        raise FetchError(INVALID_PROXY, transient=False) from None
    netloc = parts.netloc
    if not netloc:
        netloc, path = path, netloc
    if auth:
        netloc = f"{auth}@{netloc}"
    return urlunparse((scheme or "http", netloc or "", path or "", "", query or "", fragment or ""))


def _is_exempt(address: Address) -> bool:
    """Return whether an entry of `no_proxy` names this server; the names may be spelled in capitals too."""
    value = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    entries = [entry for entry in value.replace(" ", "").split(",") if entry]
    if _packed(address.host) is not None:
        return any(_covers(entry, address.host) for entry in entries)
    names = {address.host, f"{address.host}:{address.port}" if address.port else address.host}
    return _ends_with_one_of(names, (entry.lstrip(".") for entry in entries))


def _is_exempt_by_system(host: str) -> bool:
    from urllib.request import proxy_bypass  # noqa: PLC0415

    try:
        return bool(proxy_bypass(host))
    except (TypeError, socket.gaierror):  # macOS looks the name up
        return False


def _ends_with_one_of(names: Iterable[str], domains: Iterable[str]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains for name in names)


def _covers(entry: str, ip: str) -> bool:
    """Return whether an entry is this IPv4 address, or a network around it."""
    network, slash, length = entry.partition("/")
    base, packed = _packed(network), _packed(ip)
    if not slash or base is None or packed is None or not _is_length(length):
        return entry == ip
    return (base ^ packed) >> (32 - int(length)) == 0


def _is_length(text: str) -> bool:
    return text.isdecimal() and 1 <= int(text) <= 32


def _packed(ip: str) -> int | None:
    """Return an IPv4 address as a number; None for a name."""
    try:
        return int.from_bytes(socket.inet_aton(ip))
    except OSError:
        return None
