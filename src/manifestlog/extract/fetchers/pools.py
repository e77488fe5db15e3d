"""The connection pools of a fetcher: one for each server, proxy and set of TLS options.

Invariants:

- Threads share the pools. A connection is kept after a complete response, and the next request to its server uses it,
  whatever the source.
- A client certificate belongs to its pool: no other request uses a connection that shows it, and no proxy sees it.
- TLS contexts and the environment's proxies are looked up once, not for each request.

It does not know requests or redirects.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import urllib3

from manifestlog.extract.fetchers.addresses import Address, basic_auth, userinfo_of
from manifestlog.extract.fetchers.connections import use_our_connections
from manifestlog.extract.fetchers.open_sockets import OpenSockets
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.fetchers.proxies import proxy_of_environment, with_scheme
from manifestlog.extract.fetchers.setting_errors import INVALID_PROXY, NO_SOCKS
from manifestlog.extract.fetchers.tls import new_context
from manifestlog.extract.request_options import DIRECT, RequestOptions

POOLS_MAX = 64
"""Of each set of options; the one that was unused for longest gives way, with its idle connections."""
CONNECTIONS_KEPT_MAX = 64
"""For each server: as many as threads may use at once. More would be opened, and closed after one response."""


class _Settings(NamedTuple):
    """What tells pools to the same server apart."""

    proxy: str
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Pools:
    """Finds the pool for a request."""

    def __init__(self, sockets: OpenSockets, patience_s: float, timeout_read_s: float) -> None:
        self._sockets, self._patience_s, self._timeout_read_s = sockets, patience_s, timeout_read_s
        self._managers: dict[_Settings, urllib3.PoolManager] = {}
        self._proxies: dict[tuple[str, str, int | None], str] = {}
        self._lock = threading.Lock()

    def of(self, address: Address, options: RequestOptions) -> tuple[urllib3.HTTPConnectionPool, str]:
        """Return the pool for a request, and the target that its request line names."""
        proxy = self._proxy_of(address, options)
        manager = self._manager(_settings(address, options, proxy))
        pool = manager.connection_from_host(address.host, address.port, address.scheme)
        forwards = proxy and address.scheme == "http" and not _is_socks(proxy)
        return pool, address.absolute if forwards else address.target

    def _proxy_of(self, address: Address, options: RequestOptions) -> str:
        proxy = options.proxy or self._of_environment(address)
        return with_scheme(proxy) if proxy and proxy != DIRECT else ""

    def _of_environment(self, address: Address) -> str:
        server = (address.scheme, address.host, address.port)
        if server not in self._proxies:
            self._proxies[server] = proxy_of_environment(address)
        return self._proxies[server]

    def _manager(self, settings: _Settings) -> urllib3.PoolManager:
        found = self._managers.get(settings)
        if found is None:
            with self._lock:  # a context takes 10 ms, which threads that start together should pay once
                found = self._managers.get(settings) or self._new_manager(settings)
                self._managers[settings] = found
        return found

    def _new_manager(self, wanted: _Settings) -> urllib3.PoolManager:
        options: dict[str, Any] = {"num_pools": POOLS_MAX, "maxsize": CONNECTIONS_KEPT_MAX}
        if wanted.tls:
            options["ssl_context"] = new_context(self._sockets, wanted.ca, wanted.cert, wanted.key)
        if not wanted.proxy:
            manager = urllib3.PoolManager(**options)
        elif _is_socks(wanted.proxy):
            manager = _through_socks(wanted.proxy, options)
        else:
            if wanted.tls and _speaks_tls(wanted.proxy):
                options["proxy_ssl_context"] = new_context(self._sockets, wanted.ca, None, None)
            manager = _through_proxy(wanted.proxy, options)
        use_our_connections(manager, self._sockets, self._patience_s, self._timeout_read_s)
        return manager


def _settings(address: Address, options: RequestOptions, proxy: str) -> _Settings:
    """Return the settings that matter for this URL: a certificate over TLS to the server only."""
    if address.scheme == "https":
        return _Settings(proxy, True, options.ca or None, options.cert or None, options.key or None)
    return _Settings(proxy, True, options.ca or None) if _speaks_tls(proxy) else _Settings(proxy)


def _speaks_tls(proxy: str) -> bool:
    return proxy.lower().startswith("https:")


def _is_socks(proxy: str) -> bool:
    return proxy.lower().startswith("socks")


def _through_socks(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    if importlib.util.find_spec("socks") is None:
        raise FetchError(NO_SOCKS, transient=False)
    from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 -- needs PySocks

    user, password = userinfo_of(proxy)
    return SOCKSProxyManager(proxy, username=user, password=password, **options)


def _through_proxy(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    if not urlsplit(proxy).hostname:
        raise FetchError(INVALID_PROXY, transient=False)
    user, _ = userinfo_of(proxy)
    headers = {"Proxy-Authorization": basic_auth(proxy) or ""} if user else {}
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
