"""The part of one source in an object store.

A content of up to `PART_BYTES` stays in memory until it is published. A larger one is uploaded while it is received::

    .parts/<dataset>/<name>.<key>.part        appears when the body ends, or breaks off
    .parts/<dataset>/<name>.<key>.part.json   its state (`part_state`)

A store cannot append, and nobody can read an upload before it is completed. So after an interruption, the bytes so far
are completed as the part; the next attempt reads the part for its checksum, and the store copies it into a new upload.

Invariants:

- A stored state describes the stored part, or has a checksum that shows it.
- An object with the name of a data file is complete: one conditional request put it there.

A killed process leaves an upload that nobody can read. `objects.ObjectPlace.prepare` aborts it, and the source is
fetched from its beginning, or from the part that an earlier interruption has left.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog.extract import content_encoding
from manifestlog.extract.decide import Part as Begun
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.expectations import HEAD_BYTES, TAIL_BYTES
from manifestlog.extract.fetchers.protocol import FetchError, ResponseHead
from manifestlog.extract.part_state import PartState, parsed
from manifestlog.extract.paths import SourcePaths, part_state_path
from manifestlog.extract.places.protocol import Ends
from manifestlog.extract.places.sink import Sink
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.protocol import ObjectStat, ObjectStore

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def ends_of(store: ObjectStore, url: str, length: int) -> Ends:
    """Return the length of an object, and its first and last bytes."""
    tail_at = max(0, length - TAIL_BYTES)
    head = b"".join(store.read(url, 0, min(length, HEAD_BYTES)))
    return Ends(length, head, b"".join(store.read(url, tail_at, length - tail_at)))


def sha256_of(store: ObjectStore, url: str) -> str:
    """Return the SHA-256 of an object, which it reads."""
    sha = hashlib.sha256()
    for block in store.read(url):
        sha.update(block)
    return sha.hexdigest()


class ObjectPart:
    """The part of one source. Only the holder of the source's claim writes."""

    def __init__(self, paths: SourcePaths, store: ObjectStore, is_listed: Callable[[str], bool]) -> None:
        """`is_listed` tells whether a working object was there when the run began."""
        self.paths, self.path = paths, paths.part
        self._store, self._is_listed = store, is_listed
        self._url, self._state_url = str(paths.part), str(part_state_path(paths.part))
        self.state: PartState | None = None
        self._is_stored = False
        """Whether the state is stored."""
        self._length: int | None = None
        """The length of the stored part; None if it is missing."""
        self._small: bytearray | None = None
        """A small content that is complete."""

    # -- what an earlier attempt has left --------------------------------------------------------------------------------

    def may_be_left(self) -> bool:
        """Ask the listing only: it may be outdated, but a body is received under a claim, and `load` asks the store."""
        return self._is_listed(self._url) or self._is_listed(self._state_url)

    def load(self) -> bool:
        self._small = self.state = None
        text = self._stored_state()
        self._is_stored = text is not None
        self.state = parsed(text) if text is not None else None
        found = self._store.stat(self._url) if self._is_stored or self._is_listed(self._url) else None
        self._length = None if found is None else found.size
        return self._is_stored or found is not None

    def _stored_state(self) -> bytes | None:
        return b"".join(self._store.read(self._state_url)) if self._store.stat(self._state_url) is not None else None

    def resumable(self) -> Begun | None:
        state, length = self.state, self._length
        if state is None or length is None:
            self.discard()
            return None
        validators = (state.etag, state.last_modified)
        return Begun(length, *validators, state.total_bytes, state.strong_date, state.encoding, state.content_type)

    # -- the body --------------------------------------------------------------------------------------------------------

    def writer(self, head: ResponseHead) -> ObjectWriter:
        if not head.start:
            self.discard()  # an old state must not describe the new bytes
        self._small = None
        sink = Sink(self._store, self._url, self._url, head.start)
        return ObjectWriter(self, head, sink, self._stored_blocks(head.start))

    def _stored_blocks(self, length: int) -> Iterator[bytes]:
        return self._store.read(self._url, 0, length) if length else iter(())

    def received(self, sink: Sink, state: PartState) -> None:
        """Take a body that is complete."""
        self.state = state
        self._small = sink.rest if sink.is_small else None
        if not sink.is_small:
            sink.complete()
            self._length = sink.length_bytes

    def interrupted(self, sink: Sink, state: PartState) -> None:
        """Keep what came before an interruption: the bytes first, and then their state."""
        if sink.is_whole and sink.length_bytes > (self._length or 0):
            sink.complete()
            self._length = sink.length_bytes
            self._save(state)

    # -- the complete part -----------------------------------------------------------------------------------------------

    def length(self) -> int | None:
        return self._length if self._small is None else len(self._small)

    def sha256(self) -> str:
        return sha256_of(self._store, self._url) if self._small is None else hashlib.sha256(self._small).hexdigest()

    def ends(self) -> Ends:
        if self._small is None:
            return ends_of(self._store, self._url, self._length or 0)
        return Ends(len(self._small), bytes(self._small[:HEAD_BYTES]), bytes(self._small[-TAIL_BYTES:]))

    def local_path(self) -> Path:
        raise ExtractError(
            "validate runs a program on a local file, and data_dir is an object store; remove validate", self._url
        )

    def decode(self) -> str | None:
        state = self.state
        if state is None or state.encoding is None:
            return None
        sink, sha = Sink(self._store, self._url), hashlib.sha256()
        try:
            for block in content_encoding.decoded(self._opened(), state.encoding):
                sha.update(block)
                sink.write(block)
            self.state = state.complete(sha.hexdigest(), self.paths.target, datetime.now(UTC).isoformat())
            if self._is_stored or not sink.is_small:
                self._save(self.state)
            self.received(sink, self.state)
        except FetchError:
            self.discard()
            raise
        finally:
            sink.abort()
        return sha.hexdigest()

    def _opened(self) -> io.BufferedReader:
        blocks = self._store.read(self._url) if self._small is None else iter([bytes(self._small)])
        return io.BufferedReader(_Blocks(blocks))

    def reject(self) -> str:
        rejected = str(self.paths.rejected)
        if self._small is None:
            self._store.copy(self._url, rejected, ObjectStat(self._length or 0), creates=False)
        else:
            self._store.write(rejected, self._small)
        self.discard()
        return rejected

    def record_intent(self, sha256: str, file_path: Path, ts_completed: str) -> None:
        self.state = (self.state or PartState()).complete(sha256, file_path, ts_completed)
        if self._small is None:
            self._save(self.state)

    def sync(self) -> None:
        """Do nothing: an object that the store has accepted is durable."""

    def rename(self, file_path: Path) -> bool:
        raise AssertionError(file_path)  # `ObjectPlace.groups` is false

    def publish(self, file_path: Path) -> bool:
        """Store the content under its final name, by one conditional request, and ask the store what it has.

        ::

            complete      ─ crash: part                  the next run fetches the source again
            record_intent ─ crash: part, intent          the next run publishes it
            copy          ─ crash: part, intent, object  the next run finds the object, and registers it
            register      ─ crash: the same, and record  the next run registers it again: a duplicate
            discard

        A small content has neither part nor intent: the next run fetches it again, and finds the object.
        """
        assert self.state is not None
        assert self.state.sha256 is not None
        wanted, url = ObjectStat(self.length() or 0, self.state.sha256), str(file_path)
        if self._small is None:
            done = self._store.copy(self._url, url, wanted, creates=True)
        else:
            done = self._store.create(url, self._small, self.state.sha256)
        return _confirmed(self._store, url, wanted) if done else has(self._store, url, wanted)

    def keep(self) -> None:
        if self.state is None:
            return
        with suppress(ObjectStoreError):  # the original error says more
            if self._small is not None:
                self._store.write(self._url, self._small)
                self._length, self._small = len(self._small), None
            if self._length is not None and not self._is_stored:
                self._save(self.state)

    def close(self) -> None:
        """Do nothing: nothing is open between two calls."""

    def discard(self) -> None:
        if self._length is not None:
            self._store.delete(self._url)
        if self._is_stored:
            self._store.delete(self._state_url)
        self.state, self._length, self._small, self._is_stored = None, None, None, False

    def _save(self, state: PartState) -> None:
        self._store.write(self._state_url, state.as_text().encode())
        self.state, self._is_stored = state, True


def _confirmed(store: ObjectStore, url: str, wanted: ObjectStat) -> bool:
    """Return True if the store has this content under this name, as far as it says; else raise."""
    found = store.stat(url)
    if found is None or found.size != wanted.size or found.sha256 not in (None, wanted.sha256):
        has = "nothing" if found is None else f"{found.size:,} bytes with the SHA-256 {found.sha256 or 'unknown'}"
        raise ExtractError(
            f"the store has {has} instead of the {wanted.size:,} bytes with the SHA-256 {wanted.sha256} that it"
            " accepted; nothing was registered: check the store, then run extract again",
            url,
        )
    return True


def has(store: ObjectStore, url: str, wanted: ObjectStat) -> bool:
    """Return whether an object has this content; reads it if the store does not know its SHA-256."""
    found = store.stat(url)
    if found is None or found.size != wanted.size:
        return False
    return (found.sha256 or sha256_of(store, url)) == wanted.sha256


class ObjectWriter:
    """A context manager that takes the body, and keeps the received bytes however it ends."""

    def __init__(self, part: ObjectPart, head: ResponseHead, sink: Sink, stored: Iterator[bytes]) -> None:
        """Begin at the byte where the body starts; `stored` are those before it."""
        self._part, self._sink = part, sink
        self._sha = hashlib.sha256()
        self._state = PartState(
            head.etag,
            head.last_modified,
            head.length_bytes,
            strong_date=head.strong_date,
            encoding=head.encoding,
            content_type=head.content_type,
        )
        try:
            for block in stored:
                self.write(block)
        except BaseException:
            sink.abort()
            raise

    @property
    def length_bytes(self) -> int:
        return self._sink.length_bytes

    @property
    def sha256(self) -> str:
        return self._sha.hexdigest()

    def write(self, block: bytes) -> None:
        self._sha.update(block)
        self._sink.write(block)

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._part.received(self._sink, self._state)
            else:
                with suppress(ObjectStoreError):  # the original error says more
                    self._part.interrupted(self._sink, self._state)
        finally:
            self._sink.abort()


class _Blocks(io.RawIOBase):
    """A file of blocks, to read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or next(self._blocks, b"")
        taken, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(taken)] = taken
        return len(taken)
