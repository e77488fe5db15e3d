"""The built-in fetcher: urllib3 for `http` and `https`, fsspec for all other protocols; both are imported on first
use.

Invariants:

- It is picklable and works after a fork: each process opens its own connections, which its threads share.
- An interruption holds for its process, and for good.
- If a library is missing, the error names the command that installs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import Fetcher, FetchRequest, Response, ResponseHead, interrupt
from manifestlog.extract.request_options import is_http
from manifestlog.workers.stop import StopAskedError


class MissingExtraError(ExtractError):
    """A library of the extract step is not installed."""

    _fields = ("library",)

    def __init__(self, library: str) -> None:
        super().__init__(f"{library} is not installed; install it with: pip install 'manifestlog[extract]'")
        self.library = library


class RemoteFetcher:
    """Fetches every URL that urllib3 or fsspec supports."""

    thread_safe = True

    _own_pid: int | None = None
    """The only process that uses it, if that is known."""

    def __init__(self, defaults: Defaults | None = None, secrets: Iterable[str] = ()) -> None:
        """Prepare a fetcher; a header that contains one of the `secrets` never follows a redirect to another server."""
        self._defaults = defaults or Defaults()
        self._secrets = frozenset(secrets)
        self._fetchers: dict[tuple[int, str], Fetcher] = {}
        self._interrupted_pid = 0

    def of_this_process(self) -> RemoteFetcher:
        """Return one that is used in this process only, and does not ask before each request which process it is in."""
        found = type(self)(self._defaults, self._secrets)
        vars(found)["_own_pid"] = os.getpid()
        return found

    def open(self, source: ETLSource, request: FetchRequest) -> AbstractContextManager[Response]:
        """Request the content."""
        return self._of(source).open(source, request)

    def probe(self, source: ETLSource, request: FetchRequest) -> ResponseHead:
        """Request the head only."""
        return self._of(source).probe(source, request)

    def check(self, source: ETLSource) -> None:
        """Raise `MissingExtraError` if the library for this source is not installed."""
        self._of(source)

    def interrupt(self) -> None:
        """End all requests of all threads with `StopAskedError`, and every later one too."""
        self._interrupted_pid = os.getpid()
        for (pid, _), fetcher in list(self._fetchers.items()):
            if pid == self._interrupted_pid:
                interrupt(fetcher)

    def _of(self, source: ETLSource) -> Fetcher:
        # A forked child must not use its parent's connections.
        key = (self._own_pid or os.getpid(), "http" if is_http(source.url) else "fsspec")
        found = self._fetchers.get(key)
        if found is None:  # of threads that come together, one wins
            new = _http(self._defaults, self._secrets) if is_http(source.url) else _fsspec()
            found = self._fetchers.setdefault(key, new)
        if self._interrupted_pid == key[0]:  # perhaps before it was there
            raise StopAskedError
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._defaults, self._secrets)


def unknown_scheme(url: str) -> str | None:
    """Return the scheme in a URL, or in a chain of URLs, that the built-in fetcher does not know; None if it knows all."""
    if is_http(url):
        return None
    try:
        import fsspec  # noqa: PLC0415 -- an extra
    except ImportError:
        return None  # `RemoteFetcher.check` says so
    links = (link.partition("://") for link in url.split("::"))
    schemes = (scheme.lower() for scheme, slashes, _ in links if slashes or scheme.isalpha())
    known = {*fsspec.available_protocols(), *fsspec.registry}
    return next((scheme for scheme in schemes if scheme not in known), None)


def _http(defaults: Defaults, secrets: frozenset[str]) -> Fetcher:
    try:
        from manifestlog.extract.fetchers.http import HttpFetcher  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise MissingExtraError(error.name or "urllib3") from None
    return HttpFetcher(defaults, secrets)


def _fsspec() -> Fetcher:
    try:
        from manifestlog.extract.fetchers.fsspec_fetcher import FsspecFetcher  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise MissingExtraError(error.name or "fsspec") from None
    return FsspecFetcher()
