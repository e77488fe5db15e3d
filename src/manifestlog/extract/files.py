"""The fetcher of everything that fsspec opens: `file`, `s3`, `gs`, `sftp`, `memory` and many more.

A store has no conditional requests, so what it tells of a file stands in for them: its ETag where it keeps one, else
its modification time, compared here.

Invariants:

- The heads that it makes say to `decide` what a server would have said.
- No error shows an address that has not been made safe.

Options of a store (credentials, endpoints) come from its own environment and files, not from a configuration of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import fsspec

from manifestlog.extract.fetch import Ask, FetchError, Head
from manifestlog.extract.source import ETLSource

_BLOCK_BYTES = 1 << 20
_ETAG_NAMES = ("ETag", "etag", "e_tag", "md5Hash", "content_md5")
_TIME_NAMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class FileResponse(NamedTuple):
    """What a store has."""

    head: Head
    file: Any

    def blocks(self) -> Iterator[bytes]:
        """The body from where the head says that it begins."""
        with _told():
            if self.file is None:
                return
            self.file.seek(self.head.start)
            while block := self.file.read(_BLOCK_BYTES):
                yield block


class FsspecFetcher:
    """Whatever fsspec has a protocol for."""

    def __init__(self) -> None:
        told = logging.getLogger("fsspec")
        if told.level == logging.NOTSET:
            told.setLevel(logging.INFO)  # below that its stores tell paths with their userinfo

    @contextmanager
    def open(self, source: ETLSource, ask: Ask) -> Iterator[FileResponse]:
        """Ask for the content."""
        store, path = self._find(source)
        head = self._head(store, path, ask)
        if head.status >= 300:
            yield FileResponse(head, None)
            return
        with _told():
            file = store.open(path, "rb")
        with file:
            yield FileResponse(head, file)

    def probe(self, source: ETLSource, ask: Ask) -> Head:
        """Ask what the store knows of it."""
        return self._head(*self._find(source), ask)

    def _find(self, source: ETLSource) -> tuple[Any, str]:
        scheme = source.url.partition("://")[0]
        with _told():
            try:
                store, path = fsspec.core.url_to_fs(source.url)
            except ImportError as error:
                needed = (str(error).splitlines() or ["which fsspec does not name"])[0]
                reason = f"the scheme {scheme} needs another package ({needed}): install it"
                raise FetchError(reason, transient=False) from None
            except ValueError:
                reason = f"the scheme {scheme} is not known to fsspec: check the source's url"
                raise FetchError(reason, transient=False) from None
        return store, str(path)

    def _head(self, store: Any, path: str, ask: Ask) -> Head:
        with _told():
            store.invalidate_cache()  # a store remembers its listings, and would not see what has changed
            info = store.info(path)
        if info.get("type") == "directory":
            raise FetchError("it is a folder, not a file: check the source's url", transient=False)
        etag, last_modified = _etag(info), _time(info)
        length = info.get("size")
        mark = etag or last_modified
        if mark is not None and mark == (ask.etag or ask.last_modified):
            # A store's ETag is made from the content: the same content, stored again, has another time and is no news.
            return Head(304, etag, None if etag else last_modified, length)
        if ask.start and length is not None and mark == ask.if_range:
            status = 206 if ask.start < length else 416
            return Head(status, etag, last_modified, length, ask.start)
        return Head(200, etag, last_modified, length)


def _etag(info: dict[str, Any]) -> str | None:
    return next((str(info[name]) for name in _ETAG_NAMES if info.get(name)), None)


def _time(info: dict[str, Any]) -> str | None:
    value = next((info[name] for name in _TIME_NAMES if info.get(name)), None)
    if isinstance(value, int | float):
        try:
            value = datetime.fromtimestamp(value, UTC)
        except (OverflowError, ValueError, OSError):
            return None  # no time that a calendar has
    return value.isoformat() if isinstance(value, datetime) else value if isinstance(value, str) else None


@contextmanager
def _told() -> Iterator[None]:
    """Errors of a store as ours."""
    try:
        yield
    except FetchError:
        raise
    except FileNotFoundError:
        raise FetchError("there is no such file: check the source's url", transient=False) from None
    except PermissionError:
        raise FetchError("it must not be read: check its permissions or your credentials", transient=False) from None
    except Exception as error:  # noqa: BLE001 -- every store raises errors of its own library
        said = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise FetchError(f"the store could not be read: {said}", transient=True) from None
