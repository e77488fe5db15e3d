"""The fetcher of `http` and `https`, over requests.

Invariants:

- The body is taken as it is sent: by default `Accept-Encoding: identity`, and nothing is decoded here.
- Credentials go to a source's own server only. A redirect to another one keeps the other headers, such as `Accept`:
  without them it may send another representation, or refuse.
- A body without a length that ends because its connection was cut is an error wherever that can be told: in chunks, over TLS.
- Certificates are verified. Proxies and trusted authorities come from the configuration (`reach`), else from the environment.
- A client certificate and a body go to a source's own server only, the certificate over TLS only.
- No error shows a header, and none an address that has not been made safe.

It does not repeat anything: that is `download`'s business, which can say so, and be interrupted.
"""

from __future__ import annotations

import http.client
import logging
import math
import re
import socket
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import urllib3
from requests.utils import get_auth_from_url
from urllib3.util.retry import Retry

from manifestlog.extract.config import Defaults
from manifestlog.extract.connections import Adapter
from manifestlog.extract.fetch import Ask, FetchError, Head
from manifestlog.extract.reach import DIRECT, HTTP, Reach, sent, settled, unusable
from manifestlog.extract.secrets import Redactor, is_credential, safe_url
from manifestlog.extract.settings import CHECK_PROXY, wrong_setting
from manifestlog.extract.source import HEADER_VALUE, ETLSource

_BLOCK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_NOT_MODIFIED = 304
_STRONG_AFTER_S = 60

_NO_SECRETS = Redactor(())


def _without_secrets(told: logging.LogRecord) -> bool:
    """urllib3 tells whole addresses, query and all, some of them as warnings."""
    told.msg, told.args = _NO_SECRETS.redact(told.getMessage()), ()
    return True


class HttpResponse(NamedTuple):
    """An answer over HTTP."""

    head: Head
    answer: requests.Response

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes."""
        with _told():
            # `read1` gives what is there: `read` would wait for a whole block, at one byte a second for days.
            while block := self.answer.raw.read1(_BLOCK_BYTES, decode_content=False):
                yield block


class _Request(NamedTuple):
    """What is asked next, on the way through redirects."""

    method: str
    url: str
    headers: dict[str, str]
    reach: Reach
    body: bytes | None = None


class HttpFetcher:
    """One session with its connections; for one process."""

    def __init__(self, defaults: Defaults, secrets: Collection[str] = ()) -> None:
        """No header that holds one of the `secrets` goes to another server."""
        self._defaults = defaults
        self._secrets = secrets
        self._usable: set[tuple[str | None, ...]] = {(None, None, None)}
        self._session = requests.Session()
        adapter = Adapter(_patience_s(defaults))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
            logging.getLogger(name).addFilter(_without_secrets)  # the same one twice counts once

    @contextmanager
    def open(self, source: ETLSource, ask: Ask) -> Iterator[HttpResponse]:
        """Ask for the content."""
        with _told():
            answer = self._follow(source, ask)
        # Closed, not drained: what we leave of a body we did not want to have.
        with answer:
            with _told():
                head = _head(answer)
                if head.status == _NOT_MODIFIED:
                    _keep_connection(answer)
            yield HttpResponse(head, answer)

    def probe(self, source: ETLSource, ask: Ask) -> Head:
        """Ask for the head only."""
        with _told(), self._follow(source, ask, method="HEAD") as answer:
            _keep_connection(answer)
            return _head(answer)

    def _follow(self, source: ETLSource, ask: Ask, *, method: str | None = None) -> requests.Response:
        self._session.cookies.clear()  # those of another source
        request = self._first(source, method)
        for _ in range(self._defaults.redirects_max + 1):
            answer = self._send(request, ask)
            target = self._session.get_redirect_target(answer)
            if target is None:
                return answer
            answer.close()
            request = self._redirected(source, request, answer.status_code, urljoin(request.url, target))
        many = f"more than {self._defaults.redirects_max} redirects, the last to {safe_url(request.url)}"
        raise FetchError(f"{many}: check the source's url", transient=False)

    def _first(self, source: ETLSource, method: str | None) -> _Request:
        reach, headers = settled(source, self._defaults), _configured(self._defaults, source)
        if (reach.cert, reach.key, reach.ca) not in self._usable:
            if wrong := unusable(reach):
                raise FetchError(wrong, transient=False)
            self._usable.add((reach.cert, reach.key, reach.ca))
        body, content_type = (None if method else sent(reach)) or (None, None)
        if content_type is not None:
            headers = {"content-type": content_type, **headers}
        return _Request(method or reach.method or "GET", source.url, headers, reach, body)

    def _redirected(self, source: ETLSource, request: _Request, status: int, url: str) -> _Request:
        """What is asked where a redirect leads: by GET after a POST, but for 307 and 308 (RFC 9110, 15.4)."""
        if urlsplit(url).scheme.lower() not in HTTP:
            raise FetchError(f"the server redirects to {safe_url(url)}, away from HTTP: check the source's url", False)
        if request.method == "POST" and status not in (307, 308):
            kept = {name: value for name, value in request.headers.items() if not name.startswith("content-")}
            request = request._replace(method="GET", headers=kept, body=None)
        if not self._session.should_strip_auth(request.url, url):  # type: ignore[no-untyped-call]
            return request._replace(url=_with_userinfo_of(request.url, url))
        if request.body is not None:
            where = f"the server redirects the POST to another one, {safe_url(url)} (HTTP {status})"
            raise FetchError(
                f"{where}, and the body is not sent there: if it is meant for that one, make it the url", False
            )
        kept = {name: value for name, value in request.headers.items() if self._may_travel(source, name, value)}
        return request._replace(
            url=url, headers=kept, reach=request.reach.model_copy(update={"cert": None, "key": None})
        )

    def _may_travel(self, source: ETLSource, name: str, value: str) -> bool:
        owner = source if name in map(str.lower, source.headers) else self._defaults
        is_secret = any(secret in value for secret in self._secrets if secret)
        return not (is_credential(name, value) or name in owner.private_headers or is_secret)

    def _send(self, request: _Request, ask: Ask) -> requests.Response:
        headers, reach = _headers(request.headers, ask), request.reach
        userinfo = get_auth_from_url(request.url)
        # Said in any case, or requests would look into ~/.netrc, for servers that we were redirected to as well.
        auth = userinfo if any(userinfo) and "authorization" not in headers else _as_it_is
        # What stands here is stronger than the environment, what is None is not; a session's own settings would be weaker.
        return self._session.request(
            request.method,
            request.url,
            headers=headers,
            data=request.body,
            auth=auth,
            timeout=(self._defaults.timeout_connect_s, self._defaults.timeout_read_s),
            stream=True,
            allow_redirects=False,
            verify=reach.ca or None,
            cert=_certificate(request),
            proxies=dict.fromkeys(HTTP, "" if reach.proxy == DIRECT else reach.proxy) if reach.proxy else None,
        )


def _certificate(request: _Request) -> tuple[str, str] | str | None:
    """Not without TLS: a proxy that is reached over TLS would be shown it."""
    cert, key = request.reach.cert, request.reach.key
    if not cert or not request.url.lower().startswith("https:"):
        return None
    return (cert, key) if key else cert


def _patience_s(defaults: Defaults) -> float:
    return min(defaults.stall_s, defaults.timeout_total_s or math.inf) if defaults.bytes_per_s_min else math.inf


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _with_userinfo_of(url: str, target: str) -> str:
    """The target of a redirect on the same server, with the userinfo that its Location leaves out."""
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    parts = urlsplit(target)
    if not at or "@" in parts.netloc:
        return target
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))


def _keep_connection(answer: requests.Response) -> None:
    """Read the body that such an answer does not have: only then is its connection good for the next request."""
    if "Transfer-Encoding" not in answer.headers:  # it may be announced all the same, and would be waited for
        answer.raw.read()


def _configured(defaults: Defaults, source: ETLSource) -> dict[str, str]:
    """Configured headers by their names in lower case, a source's own before the defaults."""
    return {name.lower(): value for owner in (defaults, source) for name, value in owner.headers.items()}


def _headers(configured: Mapping[str, str], ask: Ask) -> dict[str, str]:
    """The headers of a request: ours before the configured ones."""
    found = {"accept-encoding": "identity", **configured}
    asked = {"if-none-match": ask.etag, "if-modified-since": ask.last_modified}
    if ask.start and (ask.if_range is None or _can_be_sent(ask.if_range)):
        asked |= {"range": f"bytes={ask.start}-", "if-range": ask.if_range}
    return found | {name: value for name, value in asked.items() if value is not None and _can_be_sent(value)}


def _can_be_sent(validator: str | None) -> bool:
    """Whether it is one line of a header: an ETag that was registered from elsewhere may be anything.

    Without it the answer is the whole content, and is judged by itself.
    """
    return validator is not None and HEADER_VALUE.fullmatch(validator) is not None


def _head(answer: requests.Response) -> Head:
    start, length = _extent(answer)
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    return Head(
        status=answer.status_code,
        etag=answer.headers.get("ETag") or None,  # an empty one would be the same for ever
        last_modified=answer.headers.get("Last-Modified") or None,
        length_bytes=length,
        start=start,
        retry_after_s=_retry_after_s(answer.headers.get("Retry-After")),
        encoding=None if encoding == "identity" else encoding,
        strong_date=_is_strong(answer.headers.get("Last-Modified"), answer.headers.get("Date")),
        content_type=answer.headers.get("Content-Type") or None,
    )


def _is_strong(last_modified: str | None, date: str | None) -> bool | None:
    """Whether a time names the bytes: what is younger than a minute may have changed twice within its second.

    An answer without a date is of now (RFC 9110, 6.6.1).
    """
    if not last_modified:
        return None
    modified, told = _seconds(last_modified), _seconds(date or "")
    return modified is not None and (time.time() if told is None else told) - modified >= _STRONG_AFTER_S


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _extent(answer: requests.Response) -> tuple[int, int | None]:
    """(where the body begins, length of the whole content)."""
    if answer.status_code in (206, 416):
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if found is None:
            return -1, None
        return int(found[1] or 0), None if found[2] == "*" else int(found[2])
    if answer.status_code == _NOT_MODIFIED:
        return 0, None  # many servers say 0 there
    said = answer.headers.get("Content-Length", "")
    chunked = "Transfer-Encoding" in answer.headers
    return 0, int(said) if _LENGTH.fullmatch(said) and not chunked else None


def _retry_after_s(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(Retry().parse_retry_after(value)))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the libraries as ours."""
    try:
        yield
    except FetchError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        reason, transient = _reason(error)
        raise FetchError(reason, transient) from None  # the library's own text shows the whole address


def _reason(error: BaseException) -> tuple[str, bool]:
    """What happened, in a few words, and whether it may be better next time."""
    chain = list(_causes(error))
    told = next((cause.strerror for cause in chain if isinstance(cause, OSError) and cause.strerror), None)
    if (reason := wrong_setting(chain)) is not None:
        return reason, False
    if any(isinstance(cause, ssl.SSLEOFError) for cause in chain):
        return "the connection was cut without TLS's end mark, so the file may be cut as well", True
    if any(map(_is_of_proxy, chain)):
        return f"the proxy refuses or does not answer{f' ({told})' if told else ''}: {CHECK_PROXY}", True
    for cause in chain:
        if isinstance(cause, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
            untrusted = "the server's certificate or encryption is not trusted: check the url, or your certificates"
            return f"{untrusted} (ca for the source, or the variable REQUESTS_CA_BUNDLE)", False
        if isinstance(cause, socket.gaierror):
            return "the server's name is not known: check the source's url and the network", True
    for kinds, reason in _TRANSIENT_ERRORS:
        # urllib3 counts a refused connection among the time-outs; the system says what it was.
        if told is None and any(isinstance(cause, kinds) for cause in chain):
            return reason, True
    if told is not None or isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError):
        return f"the connection failed ({told or type(chain[-1]).__name__}): check the network and the server", True
    return f"the request cannot be made ({type(error).__name__}): check the source's url", False


def _is_of_proxy(error: BaseException) -> bool:
    is_socks = type(error).__module__ == "socks"  # PySocks, which may be missing
    return is_socks or isinstance(error, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError)


_TRANSIENT_ERRORS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), "no connection within timeout_connect_s"),
    ((requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError), "no data within timeout_read_s"),
    ((http.client.IncompleteRead,), "the connection was cut in the middle of the file"),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that it was made of: requests and urllib3 keep it as arguments and reasons."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return iter(seen)
