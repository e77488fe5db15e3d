"""The steps of a `badserver`: each function here makes one, right or wrong in one respect.

Invariants:

- What a step is not wrong in, it does by RFC 9110: `If-None-Match` before `If-Modified-Since`, nothing new where the date
  is not later, `If-Range` by strong comparison, one range at most, no body for HEAD. So a step that cuts, drips or resets can also be resumed and asked conditionally.

It does not open sockets, and does not choose steps: see `badserver`.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import re
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from support.badserver import Exchange, Request, Step

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Content:
    """What a path holds at the moment."""

    body: bytes
    etag: str | None = None
    last_modified: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def validators(self) -> dict[str, str]:
        pairs = {"ETag": self.etag, "Last-Modified": self.last_modified}
        return {name: value for name, value in pairs.items() if value is not None}


class Reply(NamedTuple):
    """An answer, complete and right."""

    status: int
    headers: dict[str, str]
    payload: bytes


# -- right answers -----------------------------------------------------------------------------------------------------


def right_reply(request: Request, content: Content) -> Reply:
    """What the standard asks for: 304, 206, 416 or 200."""
    headers = content.validators | {"Accept-Ranges": "bytes"} | dict(content.headers)
    if _is_unchanged(request, content):
        return Reply(304, headers, b"")
    wanted = _wanted_range(request, content)
    size = len(content.body)
    if wanted is None:
        return _sized(Reply(200, headers, content.body))
    start, end = wanted
    if start >= end:
        return _sized(Reply(416, headers | {"Content-Range": f"bytes */{size}"}, b""))
    return _sized(Reply(206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, content.body[start:end]))


def _sized(reply: Reply) -> Reply:
    return reply._replace(headers=reply.headers | {"Content-Length": str(len(reply.payload))})


def _is_unchanged(request: Request, content: Content) -> bool:
    asked = request.headers.get("if-none-match")
    if asked is not None:
        known = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
        return "*" in known or (content.etag is not None and content.etag.removeprefix("W/") in known)
    since, modified = _moment(request.headers.get("if-modified-since")), _moment(content.last_modified)
    return since is not None and modified is not None and modified <= since


def _moment(date: str | None) -> float | None:
    """The moment of a header's date; None for what is none."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None


def _wanted_range(request: Request, content: Content) -> tuple[int, int] | None:
    """Start and end (behind the last byte) of the range to send; start >= end if there is nothing there."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match[0] == "bytes=-" or request.method != "GET" or not _range_holds(request, content):
        return None
    size = len(content.body)
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _range_holds(request: Request, content: Content) -> bool:
    condition = request.headers.get("if-range")
    if condition is None:
        return True
    return not condition.startswith("W/") and condition in (content.etag, content.last_modified)


def _send(exchange: Exchange, reply: Reply) -> None:
    exchange.head(reply.status, reply.headers)
    exchange.body(reply.payload)


def whole(
    body: bytes, etag: str | None = None, last_modified: str | None = None, headers: Mapping[str, str] | None = None
) -> Step:
    """The right answer."""
    content = Content(body, etag, last_modified, headers or {})
    return lambda exchange: _send(exchange, right_reply(exchange.request, content))


def exactly(code: int, headers: Mapping[str, str], payload: bytes = b"") -> Step:
    """These headers and bytes, whatever was asked, and the end of the connection."""

    def step(exchange: Exchange) -> None:
        exchange.head(code, headers)
        exchange.body(payload)
        exchange.hang_up()

    return step


def no_validators(body: bytes) -> Step:
    """The right answer of a server that knows neither ETag nor Last-Modified."""
    return whole(body)


def weak(body: bytes, etag: str) -> Step:
    """The right answer with a weak ETag; `etag` as `"…"` or `W/"…"`."""
    return whole(body, f"W/{etag.removeprefix('W/')}")


def status(code: int, retry_after: int | str | None = None, body: bytes = b"") -> Step:
    """This status; `retry_after` in seconds or as a date."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda exchange: _send(exchange, _sized(Reply(code, headers, body)))


def redirect(to: str, code: int = 302) -> Step:
    """Elsewhere: a path here or a whole url."""
    return lambda exchange: _send(exchange, _sized(Reply(code, {"Location": to}, b"")))


def redirect_loop() -> Step:
    """To where the request came from."""
    return lambda exchange: redirect(exchange.request.path)(exchange)


def etag_of_its_own(body: bytes) -> Step:
    """The same content, under another ETag at every request."""
    numbers = itertools.count()

    def step(exchange: Exchange) -> None:
        whole(body, f'"own-{next(numbers)}"')(exchange)

    return step


def changing(*bodies: bytes) -> Step:
    """Another content and ETag at every request; the last one stays."""
    left = list(bodies)

    def step(exchange: Exchange) -> None:
        body = left.pop(0) if len(left) > 1 else left[0]
        whole(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')(exchange)

    return step


# -- answers that break off --------------------------------------------------------------------------------------------


def cut_at(size_bytes: int, body: bytes, etag: str | None = None, last_modified: str | None = None) -> Step:
    """Promises everything, sends this many bytes (of the range, if one was asked for) and closes."""

    def step(exchange: Exchange) -> None:
        reply = right_reply(exchange.request, Content(body, etag, last_modified))
        _send(exchange, reply._replace(payload=reply.payload[:size_bytes]))
        exchange.hang_up()

    return step


def reset_at(size_bytes: int, body: bytes, etag: str | None = None) -> Step:
    """Like `cut_at`, but with RST instead of FIN."""

    def step(exchange: Exchange) -> None:
        cut_at(size_bytes, body, etag)(exchange)
        exchange.reset()

    return step


def reset() -> Step:
    """RST without a word."""
    return lambda exchange: exchange.reset()


def hangs_up() -> Step:
    """FIN without a word."""
    return lambda exchange: exchange.hang_up()


def never_answers() -> Step:
    """Not a word, until the client has had enough."""
    return lambda exchange: exchange.wait_until_gone()


# -- slow answers ------------------------------------------------------------------------------------------------------


def slow(body: bytes, bytes_first: int, event: threading.Event, etag: str | None = None) -> Step:
    """This many bytes, and the rest when the test sets the event."""

    def step(exchange: Exchange) -> None:
        reply = right_reply(exchange.request, Content(body, etag))
        _send(exchange, reply._replace(payload=reply.payload[:bytes_first]))
        exchange.wait_for(event)
        exchange.body(reply.payload[bytes_first:])

    return step


def slow_to_answer(body: bytes, event: threading.Event, etag: str | None = None) -> Step:
    """Not a word until the test sets the event, then the right answer."""

    def step(exchange: Exchange) -> None:
        exchange.wait_for(event)
        whole(body, etag)(exchange)

    return step


def drip(body: bytes, seconds_per_byte: float, etag: str | None = None) -> Step:
    """A byte, a pause, a byte: slow enough for any limit on the whole, quick enough for a limit on a single read."""

    def step(exchange: Exchange) -> None:
        reply = right_reply(exchange.request, Content(body, etag))
        _send(exchange, reply._replace(payload=b""))
        for byte in reply.payload:
            if exchange.server.stopping.wait(seconds_per_byte):
                raise ConnectionAbortedError
            exchange.body(bytes([byte]))

    return step


# -- answers that lie --------------------------------------------------------------------------------------------------


def wrong_length(body: bytes, said_bytes: int, etag: str | None = None) -> Step:
    """Says another `Content-Length` than it sends, and closes."""

    def step(exchange: Exchange) -> None:
        reply = right_reply(exchange.request, Content(body, etag))
        if reply.payload:
            reply = reply._replace(headers=reply.headers | {"Content-Length": str(said_bytes)})
        _send(exchange, reply)
        exchange.hang_up()

    return step


def ignores_range(body: bytes, etag: str | None = None) -> Step:
    """The whole, whatever range is asked for."""

    def step(exchange: Exchange) -> None:
        headers = {name: value for name, value in exchange.request.headers.items() if name != "range"}
        _send(exchange, right_reply(replace(exchange.request, headers=headers), Content(body, etag)))

    return step


def wrong_range(body: bytes, start: int = 0, etag: str | None = None) -> Step:
    """Asked for a range: another one, from `start` to the end, and says so. Otherwise the right answer."""

    def step(exchange: Exchange) -> None:
        reply = right_reply(exchange.request, Content(body, etag))
        if reply.status == 206:
            other = f"bytes {start}-{len(body) - 1}/{len(body)}"
            reply = _sized(Reply(206, reply.headers | {"Content-Range": other}, body[start:]))
        _send(exchange, reply)

    return step


def unasked_encoding(body: bytes, etag: str | None = None) -> Step:
    """`Content-Encoding: gzip`, though identity was asked for."""
    return whole(gzip.compress(body, mtime=0), etag, headers={"Content-Encoding": "gzip"})


def oversized_headers(line_bytes: int = 200_000) -> Step:
    """A header line longer than any client takes."""
    return lambda exchange: _send(exchange, _sized(Reply(200, {"X-Long": "x" * line_bytes}, b"body")))


# -- without a length --------------------------------------------------------------------------------------------------


def chunked(body: bytes, etag: str | None = None) -> Step:
    """The right answer in three chunks or so, without a `Content-Length`."""
    return chunked_cut(body, None, etag)


def chunked_cut(body: bytes, size_bytes: int | None, etag: str | None = None) -> Step:
    """This many bytes in chunks, and closes before the last chunk; None for all of it, and no closing."""

    def step(exchange: Exchange) -> None:
        reply = right_reply(exchange.request, Content(body, etag))
        if not reply.payload:
            _send(exchange, reply)
            return
        _send_chunks(exchange, reply._replace(payload=reply.payload[:size_bytes]))
        if size_bytes is None:
            exchange.frame(b"0\r\n\r\n")
        else:
            exchange.hang_up()

    return step


def _send_chunks(exchange: Exchange, reply: Reply) -> None:
    headers = {name: value for name, value in reply.headers.items() if name != "Content-Length"}
    exchange.head(reply.status, headers | {"Transfer-Encoding": "chunked"})
    third = max(1, len(reply.payload) // 3)
    for start in range(0, len(reply.payload), third):
        piece = reply.payload[start : start + third]
        exchange.frame(b"%x\r\n" % len(piece))
        exchange.body(piece)
        exchange.frame(b"\r\n")
