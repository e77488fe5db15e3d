"""The fetcher for `http` and `https`, on top of urllib3.

Invariants:

- Any number of threads may use it at once. `interrupt` ends their waits.
- The body is taken as sent: the default is `Accept-Encoding: identity`, and nothing is decoded here.
- Credentials go only to the source's own server. After a redirect to another server, the other headers, such as
  `Accept`, are kept: without them that server may send another representation, or refuse.
- A truncated body without a length is an error wherever the transport shows it: chunked encoding, TLS.
- Certificates are verified. Proxies and trusted authorities come from the configuration (`request_options`), otherwise
  from the environment. Nothing comes from `~/.netrc`.
- A client certificate and a request body go only to the source's own server, the certificate only over TLS.
- No error shows a header. Errors show a URL only without its secrets.
- If a kept connection turns out to be closed, the request is sent again on a new one. That is not a retry: the server
  has not answered, and the requests of `extract` change nothing there.

It never retries: `download` does, because it can report a retry and be interrupted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3

from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.redaction import Redactor, is_credential
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.fetchers.addresses import address_of, basic_auth, is_same_server, with_userinfo_of
from manifestlog.extract.fetchers.connections import StaleConnectionError
from manifestlog.extract.fetchers.cookies import Cookies
from manifestlog.extract.fetchers.http_errors import translated_errors
from manifestlog.extract.fetchers.open_sockets import OpenSockets
from manifestlog.extract.fetchers.pools import CONNECTIONS_KEPT_MAX, Pools
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, ResponseHead
from manifestlog.extract.fetchers.response_head import head_of
from manifestlog.extract.request_options import HTTP, RequestOptions, effective_options, encoded_body, tls_problem
from manifestlog.model.headers import HEADER_VALUE
from manifestlog.model.safe_urls import safe_url
from manifestlog.version import __version__

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 18  # a larger buffer costs each read more than it saves, and 64 threads have one each
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "user-agent": f"manifestlog/{__version__}",
    "accept": "*/*",
    "accept-encoding": "identity",
    "connection": "keep-alive",
}
_NO_RETRY = urllib3.Retry(False)  # it raises the error itself

_NO_SECRETS = Redactor(())


def _without_secrets(record: logging.LogRecord) -> bool:
    """Remove secrets from the URLs in urllib3's log messages, some of which are warnings."""
    record.msg, record.args = _NO_SECRETS.redact(record.getMessage()), ()
    return True


class HttpResponse:
    """A response over HTTP."""

    def __init__(self, head: ResponseHead, answer: urllib3.BaseHTTPResponse, sockets: OpenSockets) -> None:
        self.head = head
        self._answer, self._sockets = answer, sockets

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""
        with translated_errors(self._sockets):
            # `read1` returns what has arrived; `read` would wait for a whole block, even at one byte a second.
            try:
                while block := self._answer.read1(_BLOCK_BYTES, decode_content=False):
                    yield block
            except GeneratorExit:
                _close(self._answer)  # the rest is not wanted
                raise


class _Hop(NamedTuple):
    """The next request on a chain of redirects."""

    method: str
    url: str
    headers: dict[str, str]
    options: RequestOptions
    body: bytes | None = None


class HttpFetcher:
    """Connections to servers, for one process and all its threads."""

    def __init__(self, defaults: Defaults, secrets: Collection[str] = ()) -> None:
        """Prepare a fetcher; a header that contains one of the `secrets` never goes to another server."""
        self._defaults = defaults
        self._secrets = secrets
        self._usable: set[tuple[str | None, ...]] = {(None, None, None)}
        self._sockets = OpenSockets()
        self._pools = Pools(self._sockets, _patience_s(defaults), defaults.timeout_read_s)
        self._timeout = urllib3.Timeout(connect=defaults.timeout_connect_s, read=defaults.timeout_read_s)
        for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
            logging.getLogger(name).addFilter(_without_secrets)  # adding it twice has no effect

    @contextmanager
    def open(self, source: ETLSource, request: FetchRequest) -> Iterator[HttpResponse]:
        """Request the content."""
        with translated_errors(self._sockets):
            answer = self._follow(source, request)
        try:
            with translated_errors(self._sockets):
                head = head_of(answer)
            yield HttpResponse(head, answer, self._sockets)
        finally:
            _close(answer)

    def probe(self, source: ETLSource, request: FetchRequest) -> ResponseHead:
        """Request the head only."""
        with translated_errors(self._sockets):
            answer = self._follow(source, request, method="HEAD")
            try:
                return head_of(answer)
            finally:
                _close(answer)

    def interrupt(self) -> None:
        """End all requests of all threads with `StopAskedError`, and every later one too."""
        self._sockets.interrupt()

    def _follow(
        self, source: ETLSource, request: FetchRequest, *, method: str | None = None
    ) -> urllib3.BaseHTTPResponse:
        hop, cookies = self._first_hop(source, method), Cookies()  # of this source only
        for _ in range(self._defaults.redirects_max + 1):
            headers = _headers(hop, request)
            headers |= cookies.header(hop.url, headers)
            answer = self._send(hop, headers)
            try:
                target = _redirect_target(answer)
                if target is None:
                    return answer
                cookies.take(hop.url, headers, answer)
                hop = self._next_hop(source, hop, answer.status, urljoin(hop.url, target))
            except BaseException:
                _close(answer)
                raise
            _close(answer)
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
        if is_same_server(hop.url, url):
            return hop._replace(url=with_userinfo_of(hop.url, url))
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

    def _send(self, hop: _Hop, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Send a request, again if the server has closed the kept connection.

        The second time urllib3 opens a new one, unless another thread has just returned one, which may be closed too.
        """
        self._sockets.check()
        address = address_of(hop.url)
        pool, target = self._pools.of(address, hop.options)
        for _ in range(CONNECTIONS_KEPT_MAX + 1):
            try:
                return pool.urlopen(
                    hop.method,
                    target,
                    body=hop.body,
                    headers=headers,
                    retries=_NO_RETRY,
                    redirect=False,
                    assert_same_host=False,
                    timeout=self._timeout,
                    preload_content=False,
                    decode_content=False,
                )
            except StaleConnectionError:
                log.debug("%s closed a kept connection: the request is sent again", address.host)
        raise FetchError("the server closes each kept connection: check the network and the server", transient=True)


def _patience_s(defaults: Defaults) -> float:
    return min(defaults.stall_s, defaults.timeout_total_s or math.inf) if defaults.bytes_per_s_min else math.inf


def _redirect_target(answer: urllib3.BaseHTTPResponse) -> str | None:
    """Return where a response redirects to; servers send the target in UTF-8, whatever the standard says."""
    target = answer.headers.get("Location") if answer.status in _REDIRECTS else None
    return target and target.encode("latin-1").decode()


def _close(answer: urllib3.BaseHTTPResponse) -> None:
    """Close a response. Its connection is kept if nothing is left of the body; the rest is not waited for."""
    if answer.length_remaining == 0 and "Transfer-Encoding" not in answer.headers:
        answer.read()
    answer.close()
    answer.release_conn()


def _configured(defaults: Defaults, source: ETLSource) -> dict[str, str]:
    """Return the configured headers by lower-case name; a source's own override the defaults."""
    return {name.lower(): value for owner in (defaults, source) for name, value in owner.headers.items()}


def _headers(hop: _Hop, request: FetchRequest) -> dict[str, str]:
    """Return the headers of a request; extract's own override the configured ones."""
    found = {**_HEADERS, **hop.headers}
    if "authorization" not in found and "@" in hop.url and (auth := basic_auth(hop.url)) is not None:
        found["authorization"] = auth
    asked = {"if-none-match": request.etag, "if-modified-since": request.last_modified}
    has_range = request.start > 0 or request.end is not None
    if has_range and (request.if_range is None or _can_be_sent(request.if_range)):
        last = "" if request.end is None else request.end - 1
        asked |= {"range": f"bytes={request.start}-{last}", "if-range": request.if_range}
    return found | {name: value for name, value in asked.items() if value is not None and _can_be_sent(value)}


def _can_be_sent(validator: str | None) -> bool:
    """Return whether a validator is a valid header value: a record from elsewhere may have any ETag.

    Without it the server sends the whole content, which is then judged by itself.
    """
    return validator is not None and HEADER_VALUE.fullmatch(validator) is not None
