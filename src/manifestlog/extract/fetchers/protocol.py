"""The fetcher's interface: what is asked of a server, what it says before the body, how the body comes.

Any object with these two methods can take the place of the built-in ones (`remote`): a prober of one's own, a
downloader that knows a private protocol. `ResponseHead.status` speaks HTTP whatever the protocol is: 200 a whole body, 206 the
rest of one, 304 nothing new.

It does not decide what an answer means: that is `decide`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError


class FetchRequest(NamedTuple):
    """What to ask for: everything, everything if it has changed, or the rest of it."""

    etag: str | None = None
    """Only if it is not this one (`If-None-Match`)."""
    last_modified: str | None = None
    """Only if it is newer than this (`If-Modified-Since`)."""
    start: int = 0
    """From this byte on (`Range`) …"""
    if_range: str | None = None
    """… if it still is what this names; all of it otherwise (`If-Range`). None: whatever it is, the pin decides."""


class ResponseHead(NamedTuple):
    """What the server says before the body."""

    status: int
    etag: str | None = None
    last_modified: str | None = None
    length_bytes: int | None = None
    """Of the whole content, where it is said."""
    start: int = 0
    """Where in the content the body begins."""
    retry_after_s: float | None = None
    encoding: str | None = None
    """An encoding of the body, undone before the content is kept."""
    strong_date: bool | None = None
    """Whether `last_modified` names the bytes, because it was a minute ago at least; None where nobody can tell."""
    content_type: str | None = None


class Response(Protocol):
    """An answer whose body has not been read yet."""

    @property
    def head(self) -> ResponseHead: ...

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes, in blocks that are never empty; raises `FetchError` when it breaks off."""


class Fetcher(Protocol):
    """A way to sources. It must be picklable when several processes are to use it."""

    def open(self, source: ETLSource, request: FetchRequest) -> AbstractContextManager[Response]:
        """Ask for the content; raises `FetchError`."""

    def probe(self, source: ETLSource, request: FetchRequest) -> ResponseHead:
        """Ask for the head only; raises `FetchError`."""


class FetchError(ExtractError):
    """A source could not be fetched; `transient` when asking again may help."""

    _fields = ("reason", "transient")

    def __init__(self, reason: str, transient: bool) -> None:  # noqa: FBT001 -- errors take their fields in order
        super().__init__(reason)
        self.reason = reason
        self.transient = transient
