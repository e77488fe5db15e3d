"""The cookies of one chain of redirects.

Invariants:

- A cookie from a redirect is sent to the servers that it names, until the chain ends.
- A configured `Cookie` header has priority.
- Without a cookie, nothing is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from http.cookiejar import CookieJar
    from urllib.request import Request

    import urllib3


class _Answer(NamedTuple):
    """What a cookie jar expects of a response."""

    headers: urllib3.HTTPHeaderDict

    def info(self) -> urllib3.HTTPHeaderDict:
        return self.headers


class Cookies:
    """Keeps the cookies of the redirects so far."""

    def __init__(self) -> None:
        self._jar: CookieJar | None = None

    def take(self, url: str, sent: Mapping[str, str], answer: urllib3.BaseHTTPResponse) -> None:
        """Take the cookies of an answer to a request with these headers."""
        if "Set-Cookie" not in answer.headers:
            return
        if self._jar is None:
            from http.cookiejar import CookieJar  # noqa: PLC0415 -- rarely needed

            self._jar = CookieJar()
        self._jar.extract_cookies(_Answer(answer.headers), _request(url, sent))  # type: ignore[arg-type]

    def header(self, url: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the `cookie` header for the next request, if any."""
        if self._jar is None or "cookie" in headers:
            return {}
        request = _request(url, headers)
        self._jar.add_cookie_header(request)
        value = request.get_header("Cookie")
        return {"cookie": value} if value else {}


def _request(url: str, headers: Mapping[str, str]) -> Request:
    """Return the request as a cookie jar sees it: at the host that a configured `Host` header names."""
    from urllib.request import Request  # noqa: PLC0415

    if "host" in headers:
        url = urlunsplit(urlsplit(url)._replace(netloc=headers["host"]))
    return Request(url, unverifiable=True)  # noqa: S310 -- nothing is opened
