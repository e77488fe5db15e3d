"""The fetcher protocol: the request, the head of the response, and the body.

Any object with these two methods can replace the built-in fetchers (`dispatch`), for example one for a private
protocol. `ResponseHead.status` is an HTTP status, whatever the protocol: 200 for a full body, 206 for the rest of one,
304 for nothing new.

A third method is optional: `interrupt`, which another thread calls to end all requests. They and all later ones then
raise `StopAskedError`.

`decide` says what a response means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError


class FetchRequest(NamedTuple):
    """What to request: the whole content, the content if it has changed, or the rest of it."""

    etag: str | None = None
    """Skip the body if the ETag is still this one (`If-None-Match`)."""
    last_modified: str | None = None
    """Skip the body unless it is newer than this (`If-Modified-Since`)."""
    start: int = 0
    """First byte to send (`Range`) …"""
    if_range: str | None = None
    """… if this validator still matches, otherwise the whole content (`If-Range`). None: always, and the pin decides."""
    end: int | None = None
    """Position after the last byte to send. None: everything from `start` on. Bytes after it are not read."""


class ResponseHead(NamedTuple):
    """The head of a response, before the body."""

    status: int
    etag: str | None = None
    last_modified: str | None = None
    length_bytes: int | None = None
    """Length of the whole content, if the server sends it."""
    start: int = 0
    """Position of the body's first byte in the content."""
    retry_after_s: float | None = None
    encoding: str | None = None
    """An encoding of the body that is decoded before the content is stored."""
    strong_date: bool | None = None
    """Whether `last_modified` identifies the bytes, because it is at least a minute old; None if unknown."""
    content_type: str | None = None


class Response(Protocol):
    """A response whose body has not been read."""

    @property
    def head(self) -> ResponseHead: ...

    def blocks(self) -> Iterator[bytes]:
        """Yield the body in non-empty blocks; raises `FetchError` if it ends early. Closing the iterator ends the response."""


class Fetcher(Protocol):
    """A client for sources. It must be picklable to be used in several processes.

    With a member `thread_safe = True`, several threads may call it at once. Without it, each worker process makes one
    transfer at a time.
    """

    def open(self, source: ETLSource, request: FetchRequest, /) -> AbstractContextManager[Response]:
        """Request the content; raises `FetchError`."""

    def probe(self, source: ETLSource, request: FetchRequest, /) -> ResponseHead:
        """Request the head only; raises `FetchError`."""


def interrupt(fetcher: Fetcher) -> None:
    """End all requests of a fetcher, now and for good, if it can do that."""
    end: Callable[[], None] | None = getattr(fetcher, "interrupt", None)
    if end is not None:
        end()


class FetchError(ExtractError):
    """A source could not be fetched; `transient` means that a retry may help."""

    _fields = ("reason", "transient")

    def __init__(self, reason: str, transient: bool) -> None:  # noqa: FBT001 -- errors take their fields in order
        super().__init__(reason)
        self.reason = reason
        self.transient = transient
