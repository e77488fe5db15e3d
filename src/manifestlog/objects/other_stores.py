"""Google Cloud Storage and Azure Blob Storage, through obstore.

Invariants:

- A small object is put in the mode `create`. A large one is uploaded under a working name, which only one process
  writes, and copied to its own name in one request that refuses a name that is taken.
- No process hangs after a fork: obstore has its own threads, so a process that has forked is refused.
- Both stores delete unfinished uploads themselves after a week, so none is listed here.

Credentials and endpoints come from the variables and files of Google and Azure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import obstore
from obstore import exceptions
from obstore.store import from_url

from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.locations import OTHERS, joined, split
from manifestlog.objects.protocol import Copied, Listed, ObjectStat, Unfinished

_BLOCK_BYTES = 1 << 20
_PART_BYTES = 8 << 20
_COPY_WAIT_S = 600.0
_COPY_POLL_S = 0.5
_VARIABLES = {
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or another credential of Azure",
}


@cache
def _first_user() -> int:
    """Return the process that used obstore first. A fork of it would wait for obstore's threads for ever."""
    return os.getpid()


class OtherStore:
    """One bucket or container."""

    forks = False

    def __init__(self, url: str, connections: int = 10) -> None:
        """`connections` is not needed: obstore keeps as many as there are threads."""
        del connections
        if _first_user() != os.getpid():
            why = "this process was forked from one that had used the store, whose threads it lacks"
            raise ObjectStoreError(f"{why}: start processes by multiprocessing's `spawn`", url)
        scheme, bucket, _ = split(url)
        with _translated(url):
            self._store = from_url(f"{OTHERS[scheme]}://{bucket}")

    def stat(self, url: str) -> ObjectStat | None:
        with _translated(url):
            try:
                return ObjectStat(obstore.head(self._store, split(url).key)["size"])
            except FileNotFoundError:
                return None

    def read(self, url: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            return
        with _translated(url):
            if length is None:
                found = obstore.get(
                    self._store, split(url).key, options={"range": {"offset": start}} if start else None
                )
            else:
                found = obstore.get(self._store, split(url).key, options={"range": (start, start + length)})
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)

    def list(self, url: str) -> Iterator[Listed]:
        with _translated(url):
            for page in obstore.list(self._store, split(url).key or None):
                for one in page:
                    yield Listed(joined(url, one["path"]), one["size"])

    def create(self, url: str, content: bytes | bytearray, sha256: str) -> bool:
        del sha256  # obstore sends none
        with _translated(url):
            try:
                obstore.put(self._store, split(url).key, bytes(content), mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return False
        return True

    def write(self, url: str, content: bytes | bytearray) -> None:
        with _translated(url):
            obstore.put(self._store, split(url).key, bytes(content), use_multipart=False)

    def upload(self, url: str) -> OtherUpload:
        return OtherUpload(self._store, url)

    def copy(self, source: str, target: str, stat: ObjectStat, *, creates: bool) -> bool:
        with _translated(target):
            try:
                obstore.copy(self._store, split(source).key, split(target).key, overwrite=not creates)
            except exceptions.AlreadyExistsError:
                return False
        self._await(target, stat.size)
        return True

    def _await(self, url: str, size: int) -> None:
        """Wait for a copy: Azure answers before it has made a large one, and shows it empty until then."""
        deadline = time.monotonic() + _COPY_WAIT_S
        while (found := self.stat(url)) is None or found.size != size:
            if time.monotonic() > deadline:
                raise ObjectStoreError(f"the store has made no copy within {_COPY_WAIT_S:.0f} s; run again later", url)
            time.sleep(_COPY_POLL_S)

    def delete(self, url: str) -> None:
        with _translated(url), suppress(FileNotFoundError):
            obstore.delete(self._store, split(url).key)

    def unfinished(self, url: str) -> Iterator[Unfinished]:
        del url
        return iter(())

    def abort(self, upload: Unfinished) -> None:
        """Do nothing: there is none."""


class OtherUpload:
    """The upload of one large object."""

    def __init__(self, store: obstore.store.ObjectStore, url: str) -> None:
        self._url = url
        with _translated(url):
            self._writer: obstore.WritableFile | None = obstore.open_writer(
                store, split(url).key, buffer_size=_PART_BYTES, max_concurrency=2
            )

    def write(self, part: bytes | bytearray, copied: Copied | None = None) -> None:
        del copied  # neither store composes an upload of other objects
        assert self._writer is not None
        with _translated(self._url):
            self._writer.write(bytes(part))

    def complete(self) -> None:
        assert self._writer is not None
        with _translated(self._url):
            self._writer.close()
        self._writer = None

    def abort(self) -> None:
        """Drop the writer: what it has not completed never appears."""
        self._writer = None


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Raise an `ObjectStoreError` in place of an error of the library, whose text may contain a signed URL."""
    try:
        yield
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise ObjectStoreError(_reason(error, OTHERS[split(url).scheme]), url) from None


def _reason(error: Exception, scheme: str) -> str:
    kind = type(error).__name__
    if isinstance(error, exceptions.UnauthenticatedError):
        return f"the store rejects the credentials ({kind}): check {_VARIABLES[scheme]}"
    if isinstance(error, exceptions.PermissionDeniedError):
        return (
            f"the store denies access ({kind}): grant these credentials to list, read, write and delete objects there"
        )
    if isinstance(error, FileNotFoundError):
        return "there is no such object, bucket or container: create it, or correct the URL"
    return f"the store does not answer, or refuses the request ({kind}): check the network and {_VARIABLES[scheme]}"
