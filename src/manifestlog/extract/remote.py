"""The built-in fetcher: `http` and `https` by requests, everything else by fsspec; both loaded when first needed.

Invariants:

- It can be pickled, and works after a fork: connections are made by the process that uses them.
- Without the extra, the error says which command installs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from manifestlog.extract.config import Defaults
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetch import Ask, Fetcher, Head, Response
from manifestlog.extract.reach import is_http
from manifestlog.extract.source import ETLSource


class MissingExtraError(ExtractError):
    """The libraries of the extract step are not installed."""

    _fields = ("library",)

    def __init__(self, library: str) -> None:
        super().__init__(f"{library} is not installed; get it with: pip install 'manifestlog[extract]'")
        self.library = library


class RemoteFetcher:
    """Fetches whatever a source's address names."""

    def __init__(self, defaults: Defaults | None = None, secrets: Iterable[str] = ()) -> None:
        """No header that holds one of the `secrets` follows a redirect to another server."""
        self._defaults = defaults or Defaults()
        self._secrets = frozenset(secrets)
        self._pid = 0
        self._fetchers: dict[str, Fetcher] = {}

    def open(self, source: ETLSource, ask: Ask) -> AbstractContextManager[Response]:
        """Ask for the content."""
        return self._of(source).open(source, ask)

    def probe(self, source: ETLSource, ask: Ask) -> Head:
        """Ask for the head only."""
        return self._of(source).probe(source, ask)

    def check(self, source: ETLSource) -> None:
        """Raise `MissingExtraError` when the library for this source is not installed."""
        self._of(source)

    def _of(self, source: ETLSource) -> Fetcher:
        if self._pid != os.getpid():
            # A forked child may not talk on its parent's connections.
            self._pid, self._fetchers = os.getpid(), {}
        kind = "http" if is_http(source.url) else "fsspec"
        if kind not in self._fetchers:
            self._fetchers[kind] = _http(self._defaults, self._secrets) if kind == "http" else _fsspec()
        return self._fetchers[kind]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._defaults, self._secrets)


def _http(defaults: Defaults, secrets: frozenset[str]) -> Fetcher:
    try:
        from manifestlog.extract.http import HttpFetcher  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise MissingExtraError(error.name or "requests") from None
    return HttpFetcher(defaults, secrets)


def _fsspec() -> Fetcher:
    try:
        from manifestlog.extract.files import FsspecFetcher  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise MissingExtraError(error.name or "fsspec") from None
    return FsspecFetcher()
