"""The protocol of an object store, with the operations that `extract` and `audit` need.

Invariants:

- An object appears completely or not at all: nobody sees an upload before it is completed.
- `create` and `copy(…, creates=True)` never replace an object, even if others write to the store.
- Every failure is an `ObjectStoreError`.

A URL is text such as `s3://bucket/raw/systems.json.gz`; its key is taken literally.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class ObjectStat(NamedTuple):
    """What a store knows of an object."""

    size: int
    sha256: str | None = None
    """In hexadecimal; None if the store keeps no SHA-256 of the whole content."""


class Listed(NamedTuple):
    """An object in a listing."""

    url: str
    size: int


class Copied(NamedTuple):
    """Where the bytes of a part lie in the store already."""

    url: str
    start: int


class Unfinished(NamedTuple):
    """An upload that was begun and neither completed nor aborted."""

    url: str
    id: str


class Upload(Protocol):
    """The upload of one large object, part by part."""

    def write(self, part: bytes | bytearray, copied: Copied | None = None) -> None:
        """Upload the next part. With `copied`, these bytes lie there too, and the store may copy them from there."""

    def complete(self) -> None:
        """Make the object appear; it replaces one of this name."""

    def abort(self) -> None:
        """Give the upload up, if it is not completed; raises nothing."""


class ObjectStore(Protocol):
    """One object store. Threads may share it; another process needs its own."""

    @property
    def forks(self) -> bool:
        """Whether a process that has used a store may fork another one that uses one; otherwise it must spawn it."""

    def stat(self, url: str) -> ObjectStat | None:
        """Return what the store knows of an object; None if it does not exist."""

    def read(self, url: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object from `start` [length: to its end]."""

    def list(self, url: str) -> Iterator[Listed]:
        """Yield the objects below a URL, as in a directory with its subdirectories."""

    def create(self, url: str, content: bytes | bytearray, sha256: str) -> bool:
        """Store a small object; return False if the name is taken. The store checks the SHA-256 where it can."""

    def write(self, url: str, content: bytes | bytearray) -> None:
        """Store a small object; it replaces one of this name."""

    def upload(self, url: str) -> Upload:
        """Begin the upload of a large object. All its parts but the last have at least 5 MiB."""

    def copy(self, source: str, target: str, stat: ObjectStat, *, creates: bool) -> bool:
        """Copy an object within the store; return False if the name is taken, and `creates`.

        `stat` has the source's length and SHA-256. Raises `ObjectStoreError` if the copy differs, as far as the store says.
        """

    def delete(self, url: str) -> None:
        """Delete an object, if it exists."""

    def unfinished(self, url: str) -> Iterator[Unfinished]:
        """Yield the unfinished uploads below a URL; nothing where the store deletes them by itself."""

    def abort(self, upload: Unfinished) -> None:
        """Give up an unfinished upload, if it still exists, and free its bytes."""
