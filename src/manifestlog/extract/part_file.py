"""A `.part` file and its state: started, resumed, kept for the next run, published as the data file.

Beside `<name>.part` lies `<name>.part.json`::

    {"etag":…,"last_modified":…,"strong_date":…,"content_type":…,"total_bytes":…,"boot":…,"synced_bytes":…}      during the download
    {…,"ranges":[[0,1000],[5000,6000]]}                                         what a body in several ranges has so far
    {…,"sha256":…,"file_path":…,"ts_completed":…}                               from the last byte until it is registered

A small body has no state until it breaks off: a killed run then fetches it anew, and others save two files.

Invariants:

- A part is resumed only as far as its bytes are safe. Within the same boot that is all of it, since a killed process
  loses nothing that `write` accepted. After a reboot it is the synced bytes. Of a part with ranges it is the ranges, which
  are synced before they are noted: its length says nothing.
- A missing or invalid state counts as no state; the download then starts again.
- `publish` returns when name and bytes of the data file are durable. Only then may the file be registered.

It knows neither sources nor servers nor manifests.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

from manifestlog.extract.decide import Part
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import ResponseHead
from manifestlog.extract.paths import SourcePaths, decoded_path, part_state_path
from manifestlog.extract.ranges import Range, clipped, prefix_of

_BLOCK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
"""A body up to this length is small."""


@dataclass(frozen=True, slots=True)
class PartState:
    """The state beside a part; checksum, path and time are set once the part is complete."""

    etag: str | None = None
    last_modified: str | None = None
    total_bytes: int | None = None
    boot: str = ""
    synced_bytes: int = 0
    sha256: str | None = None
    file_path: str | None = None
    ts_completed: str | None = None
    strong_date: bool | None = None
    encoding: str | None = None
    content_type: str | None = None
    ranges: list[list[int]] | None = None
    """The bytes of the part, if they came in several ranges: [start, end] of each, in order."""


@cache
def _this_boot() -> str:
    """Return an identifier of this boot; empty if the system has none, so that only synced bytes are trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read_state(part: Path) -> PartState | None:
    """Return the state of a part, or None if it is missing or invalid."""
    try:
        return _stored_state(part)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _stored_state(part: Path) -> PartState | None:
    """Like `read_state`, but raise the error of a missing file."""
    try:
        state = PartState(**json.loads(_read(str(part_state_path(part)))))
        return state if _is_valid(state) else None
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _read(path: str) -> bytes:
    """Return the content of a small file, with as few system calls as possible."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _is_valid(state: PartState) -> bool:
    texts = (state.etag, state.last_modified, state.sha256, state.file_path, state.encoding, state.content_type)
    sizes = (state.synced_bytes, state.total_bytes or 0)
    return (
        isinstance(state.boot, str)
        and state.strong_date in (None, False, True)
        and all(text is None or isinstance(text, str) for text in texts)
        and all(isinstance(size, int) and size >= 0 for size in sizes)
        and _are_ranges(state.ranges)
        and (state.ts_completed is None or datetime.fromisoformat(state.ts_completed).tzinfo is not None)
    )


def _are_ranges(ranges: object) -> bool:
    if ranges is None:
        return True
    return isinstance(ranges, list) and all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(end, int) and end >= 0 for end in one)
        for one in ranges
    )


def write_state(part: Path, state: PartState) -> None:
    """Write the state of a part.

    The file is overwritten in place. A crash in the middle costs one download. A rename each time would slow a run over
    small files by a third.
    """
    part_state_path(part).write_text(_text_of(state), encoding="utf-8")


def _text_of(state: PartState) -> str:
    return json.dumps({k: v for k, v in asdict(state).items() if v is not None})


def size_of(path: Path) -> int | None:
    """Return the length of a file, or None if it is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_at(fd: int, data: bytes | memoryview, position: int, path: Path) -> None:
    """Write all of the data at a position of an open file."""
    view = memoryview(data)
    try:
        while view:
            size = os.pwrite(fd, view, position)
            view, position = view[size:], position + size
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # the system call does not know the path


class PartFile:
    """The part of one source; reads its state once and keeps it in memory. Only the holder of the source's claim writes."""

    def __init__(self, paths: SourcePaths, *, loads: bool = True) -> None:
        """Look for what an earlier run has left, unless `loads` is false: then call `load` before anything else."""
        self.paths = paths
        self.path = paths.part
        if loads:
            self.load()

    def load(self) -> bool:
        """Look for what an earlier run has left; return whether there is anything."""
        self.is_stored = True
        """Whether `.part.json` exists."""
        self.state: PartState | None = None
        """What `.part.json` holds, or would hold; None if it is missing or invalid."""
        try:
            self.state = _stored_state(self.path)
        except (FileNotFoundError, NotADirectoryError):
            self.is_stored = False
        self.is_present = os.path.lexists(self.path)
        """Whether the part itself exists."""
        self._may_be_decoded = self.is_stored or self.is_present
        self._is_synced = False
        return self._may_be_decoded

    def resumable(self) -> Part | None:
        """Return the part after cutting it to its trusted length; None if there is none."""
        if not self.is_present and not self.is_stored:
            return None
        state, length = self.state, size_of(self.path)
        if state is None or length is None:
            self.discard()
            return None
        if state.ranges is not None:
            length = prefix_of(self.ranges())
        elif not state.boot or state.boot != _this_boot():
            length = min(length, state.synced_bytes)
            os.truncate(self.path, length)
        validators = (state.etag, state.last_modified)
        return Part(length, *validators, state.total_bytes, state.strong_date, state.encoding, state.content_type)

    def ranges(self) -> list[Range]:
        """Return what has arrived of a body in several ranges; nothing of any other one."""
        noted = (self.state and self.state.ranges) or []
        return clipped((Range(start, end) for start, end in noted), size_of(self.path) or 0)

    def save(self, state: PartState) -> None:
        """Write a new state."""
        write_state(self.path, state)
        self.state, self.is_stored = state, True

    def replace_state(self, state: PartState) -> None:
        """Write a new state durably; until then the old one holds."""
        beside = self.decoded_path()  # nothing is decoded yet, and `discard` deletes it
        beside.unlink(missing_ok=True)  # left by a killed run, or a link: never write into either
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_at(fd, _text_of(state).encode(), 0, beside)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(beside, part_state_path(self.path))
        self.state, self.is_stored = state, True

    def note(self, state: PartState) -> None:
        """Keep a new state; it is written if there is one on the disk."""
        if self.is_stored:
            self.save(state)
        self.state = state

    def keep(self) -> None:
        """Make a complete part that cannot land resumable for the next run."""
        if self.is_present and self.state is not None and not self.is_stored:
            with suppress(OSError):  # on a full disk the original error says more
                self.save(self.state)

    def decoded_path(self) -> Path:
        """Return the path for the decoded copy, which `discard` then deletes."""
        self._may_be_decoded, self._is_synced = True, False
        return decoded_path(self.path)

    def record_intent(self, sha256: str, file_path: Path, ts_completed: str) -> None:
        """Record that the part is complete and which path it will get, before `publish` renames it."""
        state = self.state or PartState()
        self.note(replace(state, sha256=sha256, file_path=str(file_path), ts_completed=ts_completed))

    def publish(self, file_path: Path) -> None:
        """Give a complete part its final name, durably.

        ::

            record_intent ─ crash: part, intent          the next run publishes it
            sync
            rename        ─ crash: file, intent          the next run registers it
            register      ─ crash: file, record, intent  the next run registers it again: a duplicate
            discard

        Without the sync before the rename, a power cut could keep the name and the record but lose the bytes.
        """
        self.sync()
        self.rename(file_path)
        sync_directories([file_path.parent])

    def sync(self) -> None:
        """Make the bytes of a complete part durable, once."""
        if self._is_synced:
            return
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._is_synced = True

    def rename(self, file_path: Path) -> None:
        """Give the part its final name, which is durable once its directory is synced."""
        os.replace(self.path, file_path)
        self.is_present = False

    def discard(self) -> None:
        """Delete the part, its state and its decoded copy."""
        if self.is_present:
            self.path.unlink(missing_ok=True)
        if self.is_stored:
            part_state_path(self.path).unlink(missing_ok=True)
        if self._may_be_decoded:
            decoded_path(self.path).unlink(missing_ok=True)
        self.state, self.is_present, self.is_stored, self._may_be_decoded = None, False, False, False


def state_of(head: ResponseHead, synced_bytes: int = 0) -> PartState:
    """Return the state of a part whose body has this head."""
    return PartState(
        head.etag,
        head.last_modified,
        head.length_bytes,
        _this_boot(),
        synced_bytes,
        strong_date=head.strong_date,
        encoding=head.encoding,
        content_type=head.content_type,
    )


class PartWriter:
    """A context manager that writes the body to an open part, and keeps the received bytes however it ends."""

    def __init__(self, part: PartFile, head: ResponseHead) -> None:
        """Open the part at the byte where the body starts; 0 starts again."""
        self._part = part
        self._fd, had_bytes, part.is_present = open_part(part.path), part.is_present, True
        self._sha = hashlib.sha256()
        self.length_bytes = 0
        synced = min(part.state.synced_bytes, head.start) if part.state else 0
        self._state = state_of(head, synced)
        try:
            if head.start or had_bytes:
                os.ftruncate(self._fd, head.start)
            self._hash_existing(head.start)
            if (head.length_bytes or 0) > SMALL_BYTES:
                part.save(self._state)
            else:
                part.note(self._state)
        except BaseException:
            os.close(self._fd)
            raise

    def _hash_existing(self, start: int) -> None:
        while self.length_bytes < start and (block := os.read(self._fd, _BLOCK_BYTES)):
            self._sha.update(block)
            self.length_bytes += len(block)

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        self._sha.update(block)
        write_at(self._fd, block, self.length_bytes, self._part.path)
        self.length_bytes += len(block)
        if self.length_bytes > SMALL_BYTES and not self._part.is_stored:
            self._part.save(self._state)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far."""
        return self._sha.hexdigest()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is not None and self.length_bytes:
                with suppress(OSError):  # on a full disk the original error says more
                    os.fsync(self._fd)
                    self._part.save(replace(self._state, synced_bytes=self.length_bytes))
        finally:
            os.close(self._fd)


def open_part(path: Path) -> int:
    """Open a file for writing, creating it and its directory when they are missing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except (FileNotFoundError, NotADirectoryError):
        make_directory(path.parent)
        return os.open(path, flags, 0o666)


def sync_directories(directories: Iterable[Path]) -> None:
    """Make the names in these directories durable."""
    for directory in directories:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, durably."""
    if directory.is_dir():
        return
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _directory_error(directory) from None
    sync_directories(path.parent for path in reversed(missing))


def _directory_error(directory: Path) -> ExtractError:
    """Return the error that says why this directory cannot be created."""
    for path in (directory, *directory.parents):
        if path.is_symlink() and not path.exists():
            return ExtractError("the link is dangling; create the directory it names, or remove the link", str(path))
        if path.exists() and not path.is_dir():
            return ExtractError("a file is in place of a directory; move it away, or choose another name", str(path))
    return ExtractError("the directory cannot be created; run extract again", str(directory))
