"""The fetcher for `http` and `https`, on top of requests.

Invariants:

- The body is taken as sent: the default is `Accept-Encoding: identity`, and nothing is decoded here.
- Credentials go to the source's own server only. After a redirect to another server the other headers, such as
  `Accept`, are kept: without them that server may send another representation, or refuse.
- A body without a length that is cut short is an error wherever the transport shows it: chunked encoding, TLS.
- Certificates are verified. Proxies and trusted authorities come from the configuration (`request_options`), otherwise
  from the environment.
- A client certificate and a request body go to the source's own server only, the certificate over TLS only.
- No error shows a header. Errors show a URL only without its secrets.

It never retries: `download` does, since it can report a retry and be interrupted.
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

from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.redaction import Redactor, is_credential
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.fetchers.connections import Adapter
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, ResponseHead
from manifestlog.extract.fetchers.setting_errors import CHECK_PROXY, explain_setting_error
from manifestlog.extract.request_options import (
    DIRECT,
    HTTP,
    RequestOptions,
    effective_options,
    encoded_body,
    tls_problem,
)
from manifestlog.model.headers import HEADER_VALUE
from manifestlog.model.safe_urls import safe_url

_BLOCK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_NOT_MODIFIED = 304
_STRONG_AFTER_S = 60

_NO_SECRETS = Redactor(())


def _without_secrets(record: logging.LogRecord) -> bool:
    """Remove secrets from the URLs in urllib3's log messages, some of which are warnings."""
    record.msg, record.args = _NO_SECRETS.redact(record.getMessage()), ()
    return True


class HttpResponse(NamedTuple):
    """A response over HTTP."""

    head: ResponseHead
    answer: requests.Response

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""
        with _translated_errors():
            # `read1` returns what has arrived; `read` would wait for a whole block, even at one byte a second.
            while block := self.answer.raw.read1(_BLOCK_BYTES, decode_content=False):
                yield block


class _Hop(NamedTuple):
    """The next request on a chain of redirects."""

    method: str
    url: str
    headers: dict[str, str]
    options: RequestOptions
    body: bytes | None = None


class HttpFetcher:
    """A session with its connections; for one process."""

    def __init__(self, defaults: Defaults, secrets: Collection[str] = ()) -> None:
        """Open a session; a header that contains one of the `secrets` never goes to another server."""
        self._defaults = defaults
        self._secrets = secrets
        self._usable: set[tuple[str | None, ...]] = {(None, None, None)}
        self._session = requests.Session()
        adapter = Adapter(_patience_s(defaults))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
            logging.getLogger(name).addFilter(_without_secrets)  # adding it twice has no effect

    @contextmanager
    def open(self, source: ETLSource, request: FetchRequest) -> Iterator[HttpResponse]:
        """Request the content."""
        with _translated_errors():
            answer = self._follow(source, request)
        # Close without draining: the caller left the rest of the body because it does not need it.
        with answer:
            with _translated_errors():
                head = _head(answer)
                if head.status == _NOT_MODIFIED:
                    _keep_connection(answer)
            yield HttpResponse(head, answer)

    def probe(self, source: ETLSource, request: FetchRequest) -> ResponseHead:
        """Request the head only."""
        with _translated_errors(), self._follow(source, request, method="HEAD") as answer:
            _keep_connection(answer)
            return _head(answer)

    def _follow(self, source: ETLSource, request: FetchRequest, *, method: str | None = None) -> requests.Response:
        self._session.cookies.clear()  # they belong to another source
        hop = self._first_hop(source, method)
        for _ in range(self._defaults.redirects_max + 1):
            answer = self._send(hop, request)
            target = self._session.get_redirect_target(answer)
            if target is None:
                return answer
            answer.close()
            hop = self._next_hop(source, hop, answer.status_code, urljoin(hop.url, target))
        many = f"more than {self._defaults.redirects_max} redirects, the last to {safe_url(hop.url)}"
        raise FetchError(f"{many}: check the source's url", transient=False)

    def _first_hop(self, source: ETLSource, method: str | None) -> _Hop:
        options, headers = effective_options(source, self._defaults), _configured(self._defaults, source)
        if (options.cert, options.key, options.ca) not in self._usable:
            if wrong := tls_problem(options):
                raise FetchError(wrong, transient=False)
            self._usable.add((options.cert, options.key, options.ca))
        body, content_type = (None if method else encoded_body(options)) or (None, None)
        if content_type is not None:
            headers = {"content-type": content_type, **headers}
        return _Hop(method or options.method or "GET", source.url, headers, options, body)

    def _next_hop(self, source: ETLSource, hop: _Hop, status: int, url: str) -> _Hop:
        """Return the request to a redirect's target: GET after a POST, except for 307 and 308 (RFC 9110, 15.4)."""
        if urlsplit(url).scheme.lower() not in HTTP:
            raise FetchError(f"the server redirects away from HTTP, to {safe_url(url)}: check the source's url", False)
        if hop.method == "POST" and status not in (307, 308):
            kept = {name: value for name, value in hop.headers.items() if not name.startswith("content-")}
            hop = hop._replace(method="GET", headers=kept, body=None)
        if not self._session.should_strip_auth(hop.url, url):  # type: ignore[no-untyped-call]
            return hop._replace(url=_with_userinfo_of(hop.url, url))
        if hop.body is not None:
            where = f"the server redirects the POST to another server, {safe_url(url)} (HTTP {status})"
            raise FetchError(
                f"{where}; the body is not sent there: if that server is intended, make it the source's url", False
            )
        kept = {name: value for name, value in hop.headers.items() if self._may_forward(source, name, value)}
        return hop._replace(url=url, headers=kept, options=hop.options.model_copy(update={"cert": None, "key": None}))

    def _may_forward(self, source: ETLSource, name: str, value: str) -> bool:
        owner = source if name in map(str.lower, source.headers) else self._defaults
        is_secret = any(secret in value for secret in self._secrets if secret)
        return not (is_credential(name, value) or name in owner.private_headers or is_secret)

    def _send(self, hop: _Hop, request: FetchRequest) -> requests.Response:
        headers, options = _headers(hop.headers, request), hop.options
        userinfo = get_auth_from_url(hop.url)
        # Always given: otherwise requests reads ~/.netrc, even for the target of a redirect.
        auth = userinfo if any(userinfo) and "authorization" not in headers else _no_auth
        # Options of a request override the environment; options of a session would not.
        return self._session.request(
            hop.method,
            hop.url,
            headers=headers,
            data=hop.body,
            auth=auth,
            timeout=(self._defaults.timeout_connect_s, self._defaults.timeout_read_s),
            stream=True,
            allow_redirects=False,
            verify=options.ca or None,
            cert=_certificate(hop),
            proxies=dict.fromkeys(HTTP, "" if options.proxy == DIRECT else options.proxy) if options.proxy else None,
        )


def _certificate(hop: _Hop) -> tuple[str, str] | str | None:
    """Return the client certificate, but only for an https URL: otherwise a TLS proxy would receive it."""
    cert, key = hop.options.cert, hop.options.key
    if not cert or not hop.url.lower().startswith("https:"):
        return None
    return (cert, key) if key else cert


def _patience_s(defaults: Defaults) -> float:
    return min(defaults.stall_s, defaults.timeout_total_s or math.inf) if defaults.bytes_per_s_min else math.inf


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _with_userinfo_of(url: str, target: str) -> str:
    """Return a redirect's target on the same server, with the userinfo that its Location omits."""
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    parts = urlsplit(target)
    if not at or "@" in parts.netloc:
        return target
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))


def _keep_connection(answer: requests.Response) -> None:
    """Read the empty body, so that the connection can be reused."""
    if "Transfer-Encoding" not in answer.headers:  # an announced body would be waited for
        answer.raw.read()


def _configured(defaults: Defaults, source: ETLSource) -> dict[str, str]:
    """Return the configured headers by lower-case name; a source's own override the defaults."""
    return {name.lower(): value for owner in (defaults, source) for name, value in owner.headers.items()}


def _headers(configured: Mapping[str, str], request: FetchRequest) -> dict[str, str]:
    """Return the headers of a request; extract's own override the configured ones."""
    found = {"accept-encoding": "identity", **configured}
    asked = {"if-none-match": request.etag, "if-modified-since": request.last_modified}
    if request.start and (request.if_range is None or _can_be_sent(request.if_range)):
        asked |= {"range": f"bytes={request.start}-", "if-range": request.if_range}
    return found | {name: value for name, value in asked.items() if value is not None and _can_be_sent(value)}


def _can_be_sent(validator: str | None) -> bool:
    """Return whether a validator is a valid header value: a record from elsewhere may have any ETag.

    Without it the server sends the whole content, which is then judged by itself.
    """
    return validator is not None and HEADER_VALUE.fullmatch(validator) is not None


def _head(answer: requests.Response) -> ResponseHead:
    start, length = _extent(answer)
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    return ResponseHead(
        status=answer.status_code,
        etag=answer.headers.get("ETag") or None,  # an empty ETag never changes
        last_modified=answer.headers.get("Last-Modified") or None,
        length_bytes=length,
        start=start,
        retry_after_s=_retry_after_s(answer.headers.get("Retry-After")),
        encoding=None if encoding == "identity" else encoding,
        strong_date=_is_strong(answer.headers.get("Last-Modified"), answer.headers.get("Date")),
        content_type=answer.headers.get("Content-Type") or None,
    )


def _is_strong(last_modified: str | None, date: str | None) -> bool | None:
    """Return whether a date identifies the bytes: content younger than a minute may have changed twice within one
    second.

    A response without a date is dated now (RFC 9110, 6.6.1).
    """
    if not last_modified:
        return None
    modified, sent_at = _seconds(last_modified), _seconds(date or "")
    return modified is not None and (time.time() if sent_at is None else sent_at) - modified >= _STRONG_AFTER_S


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _extent(answer: requests.Response) -> tuple[int, int | None]:
    """Return (position of the body's first byte, length of the whole content)."""
    if answer.status_code in (206, 416):
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if found is None:
            return -1, None
        return int(found[1] or 0), None if found[2] == "*" else int(found[2])
    if answer.status_code == _NOT_MODIFIED:
        return 0, None  # many servers send 0 here
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
def _translated_errors() -> Iterator[None]:
    """Turn errors of the libraries into `FetchError`."""
    try:
        yield
    except FetchError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
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
        if isinstance(cause, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
            untrusted = "the server's certificate or TLS version is not trusted: check the url, or your certificates"
            return f"{untrusted} (ca for the source, or the variable REQUESTS_CA_BUNDLE)", False
        if isinstance(cause, socket.gaierror):
            return "the server's name cannot be resolved: check the source's url and the network", True
    for kinds, reason in _TRANSIENT_ERRORS:
        # urllib3 reports a refused connection as a timeout; the system's error tells them apart.
        if system is None and any(isinstance(cause, kinds) for cause in chain):
            return reason, True
    if system is not None or isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError):
        return f"the connection failed ({system or type(chain[-1]).__name__}): check the network and the server", True
    return f"the request cannot be sent ({type(error).__name__}): check the source's url", False


def _is_of_proxy(error: BaseException) -> bool:
    is_socks = type(error).__module__ == "socks"  # PySocks may not be installed
    return is_socks or isinstance(error, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError)


_TRANSIENT_ERRORS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), "no connection within timeout_connect_s"),
    ((requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError), "no data within timeout_read_s"),
    ((http.client.IncompleteRead,), "the connection was cut before the end of the file"),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all errors it wraps, which requests and urllib3 keep in arguments and reasons."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return iter(seen)
