"""A `.part` file and its state: started, resumed, kept for the next run, published as the data file.

The state is in `<name>.part.json` beside `<name>.part` (`part_state`). A small body has no state until it is
interrupted: a killed run fetches it again, and all others save two files.

Invariants:

- A part is resumed only as far as its bytes are safe. Within the same boot that is all of it, because a killed process
  loses nothing that `write` accepted. After a reboot it is the synced bytes. For a part with ranges it is the ranges,
  which are synced before they are noted: its length says nothing.
- A missing or invalid state counts as no state; the download then starts again.
- `publish` returns when name and bytes of the data file are durable. Only then may the file be registered.

If other hosts share the directory, a worker that was stopped may continue after another one has taken its source over:

- A body from its beginning goes into a new file, and a part whose worker may still write to it is copied first. So no
  two workers write to one file, whatever its name.
- A state is used only for the file that it names.
- A data file gets its name by a link, which replaces nothing, and only if the part is still the file that was written.

It does not know sources, servers or manifests.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from manifestlog.extract import content_encoding, shared_part
from manifestlog.extract.data_files import ends_of, sha256_of, size_of
from manifestlog.extract.decide import Part
from manifestlog.extract.expectations import HEAD_BYTES, TAIL_BYTES
from manifestlog.extract.fetchers.protocol import FetchError, ResponseHead
from manifestlog.extract.part_state import PartState
from manifestlog.extract.paths import SourcePaths, decoded_path, part_state_path
from manifestlog.extract.places.leftovers import Leftovers
from manifestlog.extract.places.protocol import Ends
from manifestlog.extract.ranges import Range, clipped, prefix_of
from manifestlog.extract.state_file import stored_state, write_state
from manifestlog.extract.writing_files import open_part, sync_directories, write_at

_BLOCK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
"""A body up to this length is small."""


@cache
def _this_boot() -> str:
    """Return an identifier of this boot; empty if the system has none, so that only synced bytes are trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class PartFile:
    """The part of one source; reads its state once and keeps it in memory. Only the holder of the source's claim writes."""

    def __init__(
        self, paths: SourcePaths, *, loads: bool = True, is_shared: bool = False, leftovers: Leftovers | None = None
    ) -> None:
        """Look for what an earlier run has left, unless `loads` is false: then call `load` before anything else.

        `is_shared`: whether workers of other hosts may write there. `leftovers` spares `may_be_left` some looks.
        """
        self.paths = paths
        self._leftovers = leftovers
        self.path = paths.part
        self._is_shared = is_shared
        self._inode: int | None = None
        """The number of the part's file, if it is shared."""
        self._fd = -1
        """The open file, from its last byte until it is synced."""
        self._ends: Ends | None = None
        """The ends of what a writer has just written."""
        if loads:
            self.load()

    def _begin(self) -> None:
        """Be a part of which nothing is left."""
        self.close()
        self.state: PartState | None = None
        """What `.part.json` holds, or would hold; None if it is missing or invalid."""
        self.is_stored = False
        """Whether `.part.json` exists."""
        self.is_present = False
        """Whether the part itself exists."""
        self._may_be_decoded = self._is_synced = False

    def load(self) -> bool:
        """Look for what an earlier run has left; return whether there is anything."""
        self._begin()
        with suppress(FileNotFoundError, NotADirectoryError):
            self.state = stored_state(self.path)
            self.is_stored = True
        self.is_present = os.path.lexists(self.path)
        if self._is_shared:
            self._look_at_file()
        self._may_be_decoded = self.is_stored or self.is_present
        return self._may_be_decoded

    def _look_at_file(self) -> None:
        """Note which file the part is; a state about another one is none."""
        self._inode = shared_part.inode_of(self.path) if self.is_present else None
        if self.state is not None and self.state.inode not in (None, self._inode):
            self.state = None

    def may_be_left(self) -> bool:
        """Look for what an earlier run has left, before the source is claimed.

        The look may be an old one: a body is received under a claim, and `load` looks again.
        """
        if self._leftovers is None or self._leftovers.may_have(self.path):
            return self.load()
        self._begin()
        return False

    def open(self, *, anew: bool) -> int:
        """Open the part for writing: a new file, or the one that is there."""
        fd = open_part(self.path, anew=anew)
        self.is_present = True
        if self._is_shared:
            self._inode = os.fstat(fd).st_ino
        return fd

    def marked(self, state: PartState, *, is_open: bool) -> PartState:
        """Return a state that names its file, and says whether this worker has not ended its work on it."""
        return replace(state, inode=self._inode, is_open=is_open or None) if self._is_shared else state

    def writer(self, head: ResponseHead) -> PartWriter:
        """Return a writer of the body, from the byte where it starts."""
        return PartWriter(self, head)

    def length(self) -> int | None:
        """Return the length of the part, or None if it is missing."""
        return size_of(self.path)

    def sha256(self) -> str:
        """Return the SHA-256 of the part, which it reads."""
        return sha256_of(self.path)

    def ends(self) -> Ends:
        """Return the length of the part, and its first and last bytes."""
        return self._ends or ends_of(self.path)

    def local_path(self) -> Path:
        """Return the path at which a program can read the part, and run it: nobody has it open for writing."""
        self.close()
        return self.path

    def written(self, fd: int, ends: Ends) -> None:
        """Take the open file of a complete body, so that it need not be opened again to be synced and looked at."""
        self.close()
        self._fd, self._ends = fd, ends

    def close(self) -> None:
        """Close the file, if it is open, and forget what it had."""
        fd, self._fd, self._ends = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    def resumable(self) -> Part | None:
        """Return the part after cutting it to its trusted length; None if there is none."""
        if not self.is_present and not self.is_stored:
            return None
        state, length = self.state, size_of(self.path)
        if state is None or length is None:
            self.discard()
            return None
        if state.is_open:
            self._leave_file_to_its_writer(state)
        if state.ranges is not None:
            length = prefix_of(self.ranges())
        elif not state.boot or state.boot != _this_boot():
            length = min(length, state.synced_bytes)
            os.truncate(self.path, length)
        validators = (state.etag, state.last_modified)
        return Part(length, *validators, state.total_bytes, state.strong_date, state.encoding, state.content_type)

    def _leave_file_to_its_writer(self, state: PartState) -> None:
        """Go on with a copy: whoever has the file open may only be stopped."""
        shared_part.replace_by_copy(self.path, self.decoded_path())  # nothing is decoded yet, and `discard` deletes it
        self._look_at_file()
        self.save(self.marked(state, is_open=False))

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
            write_at(fd, state.as_text().encode(), 0, beside)
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
        self.close()
        self._may_be_decoded, self._is_synced = True, False
        return decoded_path(self.path)

    def decode(self) -> str | None:
        """Replace a part that has a Content-Encoding by its decoded bytes; return their SHA-256, or None without one.

        The new state is written before the replacement: a crash in between leaves a part that matches its state, or no
        valid part.
        """
        state = self.state
        if state is None or state.encoding is None:
            return None
        to = self.decoded_path()
        try:
            sha256 = content_encoding.decode(self.path, to, state.encoding)
        except FetchError:
            self.discard()
            raise
        except BaseException:
            to.unlink(missing_ok=True)
            raise
        if self._is_shared:
            self._inode = os.stat(to).st_ino
        done = state.complete(sha256, self.paths.target, datetime.now(UTC).isoformat())
        self.note(self.marked(done, is_open=False))
        os.replace(to, self.path)
        return sha256

    def reject(self) -> str:
        """Keep a part that must not be registered as a `.rejected` file; return its path."""
        os.replace(self.path, self.paths.rejected)
        self.discard()
        return str(self.paths.rejected)

    def record_intent(self, sha256: str, file_path: Path, ts_completed: str) -> None:
        """Record that the part is complete and which path it will get, before `publish` renames it."""
        self.note((self.state or PartState()).complete(sha256, file_path, ts_completed))

    def publish(self, file_path: Path) -> bool:
        """Give a complete part its final name, durably; return True.

        ::

            record_intent ─ crash: part, intent          the next run publishes it
            sync
            rename        ─ crash: file, intent          the next run registers it
            register      ─ crash: file, record, intent  the next run registers it again: a duplicate
            discard

        Without the sync before the rename, a power cut could keep the name and the record but lose the bytes.
        """
        self.sync()
        if not self.rename(file_path):
            return False
        sync_directories([file_path.parent])
        return True

    def sync(self) -> None:
        """Make the bytes of a complete part durable, once."""
        if self._is_synced:
            return
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(self._fd)
        finally:
            self.close()
        self._is_synced = True

    def rename(self, file_path: Path) -> bool:
        """Give the part its final name, which is durable once its directory is synced; return False if that is taken."""
        if not self._is_shared:
            os.replace(self.path, file_path)
        elif not shared_part.link(self.path, file_path, self._inode, self.state.sha256 if self.state else None):
            return False
        self.is_present = False
        return True

    def discard(self) -> None:
        """Delete the part, its state and its decoded copy."""
        self.close()
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
        self._fd = part.open(anew=not head.start)
        self._sha = hashlib.sha256()
        self._head = self._tail = b""
        self.length_bytes = 0
        synced = min(part.state.synced_bytes, head.start) if part.state else 0
        self._state = part.marked(state_of(head, synced), is_open=True)
        try:
            if head.start:
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
            self._take(block)
            self.length_bytes += len(block)

    def _take(self, block: bytes) -> None:
        self._sha.update(block)
        if len(self._head) < HEAD_BYTES:
            self._head += block[: HEAD_BYTES - len(self._head)]
        self._tail = (self._tail + block[-TAIL_BYTES:])[-TAIL_BYTES:]

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        self._take(block)
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
        if kind is None:
            self._part.written(self._fd, Ends(self.length_bytes, self._head, self._tail))
            return
        try:
            if self.length_bytes:
                with suppress(OSError):  # on a full disk the original error says more
                    os.fsync(self._fd)
                    state = replace(self._state, synced_bytes=self.length_bytes)
                    self._part.save(self._part.marked(state, is_open=False))
        finally:
            os.close(self._fd)
