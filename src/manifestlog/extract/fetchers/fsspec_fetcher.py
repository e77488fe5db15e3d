"""The fetcher of everything that fsspec opens: `file`, `s3`, `gs`, `sftp`, `memory` and many more.

A store has no conditional requests, so what it tells of a file stands in for them: its ETag where it keeps one, else
its modification time, compared here.

The path of an address is percent-decoded here, as fsspec takes paths literally: a file's name may hold any character.

Invariants:

- The heads that it makes say to `decide` what a server would have said.
- No error shows an address that has not been made safe.

Options of a store (credentials, endpoints) come from its own environment and files, not from a configuration of ours.
"""

from __future__ import annotations

import ftplib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.implementations.ftp import FTPFileSystem

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, ResponseHead

_BLOCK_BYTES = 1 << 20
_ETAG_NAMES = ("ETag", "etag", "e_tag", "md5Hash", "content_md5")
_TIME_NAMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "modify", "created")
_TYPE_NAMES = ("ContentType", "contentType", "content_type")
_FTP_TIME = re.compile(r"(\d{14})(\.\d{1,6})?\d*")
_HTTP = ("http", "https")


class FileResponse(NamedTuple):
    """What a store has."""

    head: ResponseHead
    file: Any

    def blocks(self) -> Iterator[bytes]:
        """The body from where the head says that it begins."""
        with _translated_errors():
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
    def open(self, source: ETLSource, request: FetchRequest) -> Iterator[FileResponse]:
        """Ask for the content."""
        store, path = self._find(source)
        head = self._head(source, store, path, request)
        if head.status >= 300:
            yield FileResponse(head, None)
            return
        with _translated_errors():
            file = store.open(path, "rb")
        with file:
            yield FileResponse(head, file)

    def probe(self, source: ETLSource, request: FetchRequest) -> ResponseHead:
        """Ask what the store knows of it."""
        return self._head(source, *self._find(source), request)

    def _find(self, source: ETLSource) -> tuple[Any, str]:
        scheme = source.url.partition("://")[0]
        with _translated_errors():
            try:
                store, path = _opened(source.url)
            except ImportError as error:
                needed = (str(error).splitlines() or ["which fsspec does not name"])[0]
                reason = f"the scheme {scheme} needs another package ({needed}): install it"
                raise FetchError(reason, transient=False) from None
            except ValueError:
                reason = f"the scheme {scheme} is not known to fsspec: check the source's url"
                raise FetchError(reason, transient=False) from None
        return store, path

    def _head(self, source: ETLSource, store: Any, path: str, request: FetchRequest) -> ResponseHead:
        with _translated_errors(", where %25 stands for a percent sign" if "%" in source.url else ""):
            store.invalidate_cache()  # a store remembers its listings, and would not see what has changed
            info = store.info(path)
            info |= _exact_time(store, path, info)
        if info.get("type") == "directory":
            raise FetchError("it is a folder, not a file: check the source's url", transient=False)
        etag, last_modified = _etag(info), _time(info)
        length = info.get("size")
        mark = etag or last_modified
        if mark is not None and mark == (request.etag or request.last_modified):
            # A store's ETag is made from the content: the same content, stored again, has another time and is no news.
            return ResponseHead(304, etag, None if etag else last_modified, length)
        if request.start and length is not None and request.if_range in (None, mark):
            status = 206 if request.start < length else 416
            return ResponseHead(status, etag, last_modified, length, request.start, content_type=_type(info))
        return ResponseHead(200, etag, last_modified, length, content_type=_type(info))


def _opened(url: str) -> tuple[Any, str]:
    """The store of an address, and the decoded path there."""
    links = url.split("::")
    first = next((number for number, link in enumerate(links) if "://" in link), 0)
    scheme = links[first].partition("://")[0].lower()
    # In a chain fsspec opens the links behind the first one by itself.
    links[first + 1 :] = [link if link.lower().startswith(_HTTP) else unquote(link) for link in links[first + 1 :]]
    if len(links) == 1 and "%" in urlsplit(url).netloc:
        store, path = _with_userinfo(scheme, url)
    else:
        store, path = fsspec.core.url_to_fs("::".join(links))
    # As `Path.as_uri` encodes it: a local name need not be text.
    return store, str(path) if scheme in _HTTP else unquote(str(path), errors="surrogateescape")


def _with_userinfo(scheme: str, url: str) -> tuple[Any, str]:
    """The same where a user or a password is percent-encoded, which fsspec would send as it stands."""
    kind = fsspec.get_filesystem_class(scheme)
    options = kind._get_kwargs_from_urls(url)  # noqa: SLF001 -- the only way to what `url_to_fs` makes of an address
    options |= {name: unquote(options[name]) for name in ("username", "password") if name in options}
    return fsspec.filesystem(scheme, **options), kind._strip_protocol(url)  # noqa: SLF001


def _exact_time(store: Any, path: str, info: dict[str, Any]) -> dict[str, Any]:
    """The time of a file on an FTP server that lists no more than minutes, asked for with `MDTM`."""
    listed = info.get("modify")
    if not isinstance(listed, str) or _FTP_TIME.fullmatch(listed) or not isinstance(store, FTPFileSystem):
        return {}
    try:
        return {"modify": store.ftp.sendcmd(f"MDTM {path}").partition(" ")[2]}
    except ftplib.error_perm:
        return {}  # it knows no such command: what it has listed has to do


def _etag(info: dict[str, Any]) -> str | None:
    return next((str(info[name]) for name in _ETAG_NAMES if info.get(name)), None)


def _type(info: dict[str, Any]) -> str | None:
    """What a store says of a file's type, which most do not: only those that keep what an uploader has said."""
    return next((str(info[name]) for name in _TYPE_NAMES if info.get(name)), None)


def _time(info: dict[str, Any]) -> str | None:
    value = next((info[name] for name in _TIME_NAMES if info.get(name)), None)
    if isinstance(value, int | float):
        try:
            value = datetime.fromtimestamp(value, UTC)
        except (OverflowError, ValueError, OSError):
            return None  # no time that a calendar has
    if isinstance(value, str):
        return _from_ftp(value)
    return value.isoformat() if isinstance(value, datetime) else None


def _from_ftp(text: str) -> str:
    """A time as FTP servers write it (RFC 3659: digits, in UTC) as others do; any other text as it is."""
    found = _FTP_TIME.fullmatch(text)
    try:
        moment = datetime.strptime(f"{found[1]}+0000", "%Y%m%d%H%M%S%z") if found else None
    except ValueError:
        return text  # a date that no calendar has
    if found is None or moment is None:
        return text
    return moment.replace(microsecond=int((found[2] or ".0")[1:].ljust(6, "0"))).isoformat()


@contextmanager
def _translated_errors(hint: str = "") -> Iterator[None]:
    """Errors of a store as ours."""
    try:
        yield
    except FetchError:
        raise
    except FileNotFoundError:
        raise FetchError(f"there is no such file: check the source's url{hint}", transient=False) from None
    except PermissionError:
        raise FetchError("it must not be read: check its permissions or your credentials", transient=False) from None
    except ftplib.error_perm as error:
        raise _refused(str(error)[:3]) from None
    except Exception as error:  # noqa: BLE001 -- every store raises errors of its own library
        said = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise FetchError(f"the store could not be read: {said}", transient=True) from None


def _refused(code: str) -> FetchError:
    """What an FTP server does not take back when it is asked again; its own words may show a path or a user."""
    if code == "530":
        return FetchError("the server wants other credentials (FTP 530): check the source's url", transient=False)
    return FetchError(f"the server refuses it (FTP {code}): check the source's url", transient=False)
