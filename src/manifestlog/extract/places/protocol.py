"""The protocols of a place of data files, and of the part of each source there.

::

    part      a download in progress, and then a complete content without a name
    publish   the content gets its final name; only then may it be registered

Invariants:

- A published file is never modified or replaced by other content.
- A part belongs to the holder of its source's claim.

`local` is a directory of this machine, `objects` an object store.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import NamedTuple, Protocol

from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.decide import Part as Begun
from manifestlog.extract.fetchers.protocol import ResponseHead
from manifestlog.extract.part_state import PartState
from manifestlog.extract.paths import SourcePaths
from manifestlog.manager import AbstractManifest


class Ends(NamedTuple):
    """The length of a content, its first `HEAD_BYTES` and its last `TAIL_BYTES`."""

    length_bytes: int
    head: bytes
    tail: bytes


class Writer(Protocol):
    """The body of a response on its way into a part."""

    @property
    def length_bytes(self) -> int:
        """The length of the content so far, with what was there before."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far."""

    def write(self, block: bytes) -> None:
        """Write the next bytes."""


class Part(Protocol):
    """The part of one source."""

    paths: SourcePaths
    state: PartState | None

    @property
    def path(self) -> Path:
        """The name of the part, as claims and messages have it."""

    def may_be_left(self) -> bool:
        """Return whether an earlier run may have left something; asked before the source is claimed."""

    def load(self) -> bool:
        """Look for what an earlier run has left; return whether there is anything."""

    def resumable(self) -> Begun | None:
        """Return the part as far as it can be trusted; None if there is none."""

    def writer(self, head: ResponseHead) -> AbstractContextManager[Writer]:
        """Return a writer of the body, from the byte where it starts. It keeps the bytes however it ends."""

    def length(self) -> int | None:
        """Return the length of the complete part, or None if it is missing."""

    def sha256(self) -> str:
        """Return the SHA-256 of the complete part, which it reads."""

    def ends(self) -> Ends:
        """Return the length of the complete part, and its first and last bytes."""

    def local_path(self) -> Path:
        """Return the path at which a program can read the part; raises `ExtractError` if there is none."""

    def decode(self) -> str | None:
        """Replace a part that has a Content-Encoding by its decoded bytes; return their SHA-256, or None without one."""

    def reject(self) -> str:
        """Keep a part that must not be registered under its `rejected` name; return that."""

    def record_intent(self, sha256: str, file_path: Path, ts_completed: str) -> None:
        """Record that the part is complete and which path it will get, before `publish`."""

    def sync(self) -> None:
        """Make the bytes of a complete part durable."""

    def rename(self, file_path: Path) -> bool:
        """Give the part its final name; return False if other content has it. Only where `Place.groups`.

        It is durable later, with those of its group.
        """

    def publish(self, file_path: Path) -> bool:
        """Give the part its final name, durably; return False if other content has it."""

    def keep(self) -> None:
        """Make a complete part that cannot land resumable for the next run."""

    def discard(self) -> None:
        """Delete what is left of the part."""

    def close(self) -> None:
        """Give up what is open, at the end of a turn."""


class Place(Protocol):
    """The place of a run's data files. Threads share it; each process has its own."""

    data_dir: Path

    @property
    def groups(self) -> bool:
        """Whether publishing is so fast that one thread does it for all that are ready (`landing`)."""

    @property
    def context(self) -> BaseContext | None:
        """How to start processes that use this place, too; None for Python's default."""

    def prepare(self, manifest: AbstractManifest) -> None:
        """Check that the place can be used, and clean up what killed runs left there; raises `ManifestError`."""

    def part(self, source: ETLSource) -> Part:
        """Return the part of a source; it has looked for nothing yet."""

    def size(self, path: Path) -> int | None:
        """Return the length of a data file, or None if it is missing."""

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a data file, which it reads."""

    def ends(self, path: Path) -> Ends:
        """Return the length of a data file, and its first and last bytes."""

    def head(self, path: Path) -> bytes | None:
        """Return the first bytes of a recorded file; None if it cannot be read here."""

    def sees(self, path: Path) -> bool:
        """Return whether it costs nothing to look whether a recorded file exists."""

    def is_intact(self, path: Path, length: int) -> bool:
        """Return whether a recorded file of this length is at this path of this place."""

    def has_content(self, path: Path, event: DownloadEvent) -> bool:
        """Return whether the content of this download is at this path; reads the file if its length is right."""

    def may_publish(self, path: Path, event: DownloadEvent) -> bool:
        """Return whether this name is free for the content of this download, as far as a look tells."""

    def read_note(self, name: str) -> bytes:
        """Return a small file of the place itself; empty if it is missing."""

    def write_note(self, name: str, content: bytes) -> None:
        """Write a small file of the place itself."""
