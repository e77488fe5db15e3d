"""The fetcher for all protocols of fsspec: `file`, `s3`, `gs`, `sftp`, `memory` and many more.

Stores have no conditional requests. This fetcher compares the store's ETag instead, or the modification time if there
is no ETag. It percent-decodes the path of a URL, because fsspec takes paths literally and a file name may contain any
character.

Invariants:

- Its heads give `decide` the facts that an HTTP server would have sent.
- Errors show a URL only without its secrets.

A store's options (credentials, endpoints) come from its own environment and files, not from the configuration of
`extract`.
"""

from __future__ import annotations

import ftplib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.implementations.ftp import FTPFileSystem

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, ResponseHead
from manifestlog.workers.stop import StopAskedError

_BLOCK_BYTES = 1 << 20
_ETAG_NAMES = ("ETag", "etag", "e_tag", "md5Hash", "content_md5")
_TIME_NAMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "modify", "created")
_TYPE_NAMES = ("ContentType", "contentType", "content_type")
_FTP_TIME = re.compile(r"(\d{14})(\.\d{1,6})?\d*")
_HTTP = ("http", "https")


class FileResponse(NamedTuple):
    """A file of a store."""

    head: ResponseHead
    file: Any
    check: Callable[[], None]

    def blocks(self) -> Iterator[bytes]:
        """Yield the body from the head's start."""
        with _translated_errors():
            if self.file is None:
                return
            self.file.seek(self.head.start)
            while block := self.file.read(_BLOCK_BYTES):
                self.check()
                yield block


class FsspecFetcher:
    """Fetches from every protocol of fsspec."""

    def __init__(self) -> None:
        logger = logging.getLogger("fsspec")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)  # below that level its stores log paths with their userinfo
        self._interrupted = False

    def interrupt(self) -> None:
        """End all requests with `StopAskedError`: a body after its current block, since stores own their connections."""
        self._interrupted = True

    def _check(self) -> None:
        if self._interrupted:
            raise StopAskedError

    @contextmanager
    def open(self, source: ETLSource, request: FetchRequest) -> Iterator[FileResponse]:
        """Request the content."""
        store, path = self._find(source)
        head = self._head(source, store, path, request)
        if head.status >= 300:
            yield FileResponse(head, None, self._check)
            return
        with _translated_errors():
            file = store.open(path, "rb")
        with file:
            yield FileResponse(head, file, self._check)

    def probe(self, source: ETLSource, request: FetchRequest) -> ResponseHead:
        """Return what the store knows of the file."""
        return self._head(source, *self._find(source), request)

    def _find(self, source: ETLSource) -> tuple[Any, str]:
        self._check()
        scheme = source.url.partition("://")[0]
        with _translated_errors():
            try:
                store, path = _opened(source.url)
            except ImportError as error:
                needed = (str(error).splitlines() or ["fsspec does not name it"])[0]
                reason = f"the scheme {scheme} needs another package ({needed}): install it"
                raise FetchError(reason, transient=False) from None
            except ValueError:
                reason = f"fsspec does not support the scheme {scheme}: check the source's url"
                raise FetchError(reason, transient=False) from None
        return store, path

    def _head(self, source: ETLSource, store: Any, path: str, request: FetchRequest) -> ResponseHead:
        with _translated_errors(" (%25 stands for a percent sign)" if "%" in source.url else ""):
            store.invalidate_cache()  # a store caches listings and would miss changes
            info = store.info(path)
            info |= _exact_time(store, path, info)
        if info.get("type") == "directory":
            raise FetchError("the url names a directory, not a file: check the source's url", transient=False)
        etag, last_modified = _etag(info), _time(info)
        length = info.get("size")
        mark = etag or last_modified
        if mark is not None and mark == (request.etag or request.last_modified):
            # A store's ETag depends on the content only: the same content, stored again, has a new time but no change.
            return ResponseHead(304, etag, None if etag else last_modified, length)
        if request.start and length is not None and request.if_range in (None, mark):
            status = 206 if request.start < length else 416
            return ResponseHead(status, etag, last_modified, length, request.start, content_type=_type(info))
        return ResponseHead(200, etag, last_modified, length, content_type=_type(info))


def _opened(url: str) -> tuple[Any, str]:
    """Return the store of a URL, and the decoded path in it."""
    links = url.split("::")
    first = next((number for number, link in enumerate(links) if "://" in link), 0)
    scheme = links[first].partition("://")[0].lower()
    # In a chained URL, fsspec opens all links after the first one itself.
    links[first + 1 :] = [link if link.lower().startswith(_HTTP) else unquote(link) for link in links[first + 1 :]]
    if len(links) == 1 and "%" in urlsplit(url).netloc:
        store, path = _with_userinfo(scheme, url)
    else:
        store, path = fsspec.core.url_to_fs("::".join(links))
    # Undo the encoding of `Path.as_uri`: a local name need not be valid text.
    return store, str(path) if scheme in _HTTP else unquote(str(path), errors="surrogateescape")


def _with_userinfo(scheme: str, url: str) -> tuple[Any, str]:
    """Like `_opened`, for a percent-encoded user or password, which fsspec would send undecoded."""
    kind = fsspec.get_filesystem_class(scheme)
    options = kind._get_kwargs_from_urls(url)  # noqa: SLF001 -- the only access to the options `url_to_fs` derives from a URL
    options |= {name: unquote(options[name]) for name in ("username", "password") if name in options}
    return fsspec.filesystem(scheme, **options), kind._strip_protocol(url)  # noqa: SLF001


def _exact_time(store: Any, path: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return the modification time from `MDTM`, for an FTP server that lists minutes only."""
    listed = info.get("modify")
    if not isinstance(listed, str) or _FTP_TIME.fullmatch(listed) or not isinstance(store, FTPFileSystem):
        return {}
    try:
        return {"modify": store.ftp.sendcmd(f"MDTM {path}").partition(" ")[2]}
    except ftplib.error_perm:
        return {}  # the server does not support MDTM: use the listed time


def _etag(info: dict[str, Any]) -> str | None:
    return next((str(info[name]) for name in _ETAG_NAMES if info.get(name)), None)


def _type(info: dict[str, Any]) -> str | None:
    """Return the content type the uploader gave; most stores keep none."""
    return next((str(info[name]) for name in _TYPE_NAMES if info.get(name)), None)


def _time(info: dict[str, Any]) -> str | None:
    value = next((info[name] for name in _TIME_NAMES if info.get(name)), None)
    if isinstance(value, int | float):
        try:
            value = datetime.fromtimestamp(value, UTC)
        except (OverflowError, ValueError, OSError):
            return None  # out of the calendar's range
    if isinstance(value, str):
        return _from_ftp(value)
    return value.isoformat() if isinstance(value, datetime) else None


def _from_ftp(text: str) -> str:
    """Return an FTP time (RFC 3659: digits, in UTC) in ISO format; any other text unchanged."""
    found = _FTP_TIME.fullmatch(text)
    try:
        moment = datetime.strptime(f"{found[1]}+0000", "%Y%m%d%H%M%S%z") if found else None
    except ValueError:
        return text  # not a valid date
    if found is None or moment is None:
        return text
    return moment.replace(microsecond=int((found[2] or ".0")[1:].ljust(6, "0"))).isoformat()


@contextmanager
def _translated_errors(hint: str = "") -> Iterator[None]:
    """Turn errors of a store into `FetchError`."""
    try:
        yield
    except FetchError:
        raise
    except FileNotFoundError:
        raise FetchError(f"no such file: check the source's url{hint}", transient=False) from None
    except PermissionError:
        raise FetchError(
            "permission denied: check the file's permissions, or your credentials", transient=False
        ) from None
    except ftplib.error_perm as error:
        raise _refused(str(error)[:3]) from None
    except Exception as error:  # noqa: BLE001 -- each store raises the errors of its library
        said = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise FetchError(f"the store cannot be read ({said})", transient=True) from None


def _refused(code: str) -> FetchError:
    """Return a permanent error for an FTP reply; the server's own text may contain a path or a user name."""
    if code == "530":
        return FetchError("the server rejects the credentials (FTP 530): check the source's url", transient=False)
    return FetchError(f"the server denies access (FTP {code}): check the source's url", transient=False)
