"""A `.part` file and what is known of it: begun, gone on with, kept for the next run, made into the data file.

Beside `<name>.part` lies `<name>.part.json`::

    {"etag":…,"last_modified":…,"strong_date":…,"content_type":…,"total_bytes":…,"boot":…,"synced_bytes":…}      while bytes come
    {…,"sha256":…,"file_path":…,"ts_completed":…}                               from the last byte until it is registered

Invariants:

- A part is gone on with only as far as it can be trusted: all of it in the boot that wrote it (what `write` took, a
  killed process does not lose), after that the bytes that were synced.
- A state that cannot be read, or only half of it, is none; then the part begins anew.
- `publish` returns when the data file has its name and its bytes for good: only then may it be registered.

It does not know sources, servers or manifests.
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

from manifestlog.extract import paths
from manifestlog.extract.decide import Part
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import ResponseHead

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PartState:
    """What lies beside a part; checksum, path and time only when the part is whole."""

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


@cache
def _this_boot() -> str:
    """What tells this boot from others; empty where nothing does, and then only synced bytes count."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read_state(part: Path) -> PartState | None:
    """What is known of a part, or None."""
    try:
        data = json.loads(paths.part_state_path(part).read_bytes())
        state = PartState(**data)
        return state if _is_valid(state) else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _is_valid(state: PartState) -> bool:
    texts = (state.etag, state.last_modified, state.sha256, state.file_path, state.encoding, state.content_type)
    sizes = (state.synced_bytes, state.total_bytes or 0)
    return (
        isinstance(state.boot, str)
        and state.strong_date in (None, False, True)
        and all(text is None or isinstance(text, str) for text in texts)
        and all(isinstance(size, int) and size >= 0 for size in sizes)
        and (state.ts_completed is None or datetime.fromisoformat(state.ts_completed).tzinfo is not None)
    )


def write_state(part: Path, state: PartState) -> None:
    """Write what is known of a part.

    In place: a crash in the middle leaves no state, and costs fetching one file again; a rename for each would cost a
    run over small files a third of its time.
    """
    text = json.dumps({k: v for k, v in asdict(state).items() if v is not None})
    paths.part_state_path(part).write_text(text, encoding="utf-8")


def size_of(path: Path) -> int | None:
    """Length of a file, or None when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def load(part: Path) -> Part | None:
    """The part as far as it can be trusted, cut to that; None when there is none."""
    state, length = read_state(part), size_of(part)
    if state is None or length is None:
        discard(part)
        return None
    if not state.boot or state.boot != _this_boot():
        length = min(length, state.synced_bytes)
        os.truncate(part, length)
    validators = (state.etag, state.last_modified)
    return Part(length, *validators, state.total_bytes, state.strong_date, state.encoding, state.content_type)


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    for path in (part, paths.part_state_path(part), paths.decoded_path(part)):
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PartWriter:
    """An open part that takes the body as it comes; a context manager that keeps what came, however it ends."""

    def __init__(self, part: Path, head: ResponseHead) -> None:
        """Open it where the head says that the body begins; 0 begins anew."""
        self._path = part
        self._fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._sha = hashlib.sha256()
        self.length_bytes = 0
        before = read_state(part) or PartState()
        synced = min(before.synced_bytes, head.start)
        self._state = PartState(
            head.etag,
            head.last_modified,
            head.length_bytes,
            _this_boot(),
            synced,
            strong_date=head.strong_date,
            encoding=head.encoding,
            content_type=head.content_type,
        )
        try:
            os.ftruncate(self._fd, head.start)
            self._hash_existing(head.start)
            write_state(part, self._state)
        except BaseException:
            os.close(self._fd)
            raise

    def _hash_existing(self, start: int) -> None:
        while self.length_bytes < start and (block := os.read(self._fd, _BLOCK_BYTES)):
            self._sha.update(block)
            self.length_bytes += len(block)

    def write(self, block: bytes) -> None:
        """Take the next bytes."""
        self._sha.update(block)
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None  # `write` does not know the name
        self.length_bytes += len(block)

    @property
    def sha256(self) -> str:
        """Of everything so far."""
        return self._sha.hexdigest()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is not None and self.length_bytes:
                with suppress(OSError):  # a full disk: the error that brought us here says more
                    os.fsync(self._fd)
                    write_state(self._path, replace(self._state, synced_bytes=self.length_bytes))
        finally:
            os.close(self._fd)


def record_intent(part: Path, sha256: str, file_path: Path, ts_completed: str) -> None:
    """Say that the part is whole and what it will be called, before it is; see `publish`."""
    state = read_state(part) or PartState()
    whole = replace(state, sha256=sha256, file_path=str(file_path), ts_completed=ts_completed)
    write_state(part, whole)


def publish(part: Path, file_path: Path) -> None:
    """Give a whole part its name, for good.

    ::

        announce ─ crash: part, announced          the next run finishes it
        sync
        rename   ─ crash: file, announced          the next run registers it
        register ─ crash: file, record, announced  the next run registers it again: a duplicate
        discard

    Were the sync left out or later, a power cut could leave the name and the record of bytes that are gone.
    """
    fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(part, file_path)
    sync_directories([file_path.parent])


def sync_directories(folders: Iterable[Path]) -> None:
    """Names in these folders survive a power cut."""
    for folder in folders:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directory(folder: Path) -> None:
    """Make a folder and those above it, for good."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _directory_error(folder) from None
    sync_directories(path.parent for path in reversed(missing))


def _directory_error(folder: Path) -> ExtractError:
    """What stands in the way of a folder."""
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            return ExtractError(f"{path}: this link leads nowhere: make the folder that it names, or remove the link")
        if path.exists() and not path.is_dir():
            return ExtractError(
                f"{path}: this is a file, and a folder is needed here: move it away, or choose another name"
            )
    return ExtractError(f"{folder}: the folder cannot be made: run it again")
