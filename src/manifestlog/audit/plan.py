"""Plans an audit: lists the expected files in order of verification, and classifies what a worker finds.

Invariants:

- Every path that a record names is expected, its own and those of `also_seen`. Each path is verified once.
- A path is compared with its latest record. Older records of a path with newer content are *superseded*.
- Files that were never verified come first, then those verified longest ago.
- A plan keeps about 70 bytes of numbers per file, however long its path, and objects for the first files only. It reads
  the other records again when it reaches them.

This module reads no data file; the workers do. `judge` classifies their findings.
"""

from __future__ import annotations

import errno
import posixpath
import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from manifestlog.model.roots import below, inside
from manifestlog.model.rows import Order, Row, observations, sort_key
from manifestlog.names import is_url

DIGEST_BYTES = 32
NEVER = 0
_KEPT_FILES_MAX = 1 << 15
"""Each takes about 400 bytes."""
_GONE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR})


class Level(StrEnum):
    """What to compare. Each level includes the previous one.

    - `PRESENCE`: is there a file at the recorded path?
    - `SIZE`: does it have the recorded size?
    - `FULL`: does its content have the recorded checksum?
    """

    PRESENCE = "presence"
    SIZE = "size"
    FULL = "full"


class FileState(StrEnum):
    """The state of a file that the ledger names.

    - `OK`: it matches its record.
    - `MISSING`: no file exists at its path.
    - `CHANGED`: its size or content differs, or it is not a regular file.
    - `UNREADABLE`: the operating system or the object store could not read it.
    """

    OK = "ok"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"


class FileStat(NamedTuple):
    """What a worker found at a path."""

    error: int = 0
    """The errno of a failed access, or 0."""
    why: str = ""
    is_file: bool = True
    size: int = 0
    moved: bool = False
    """Whether it changed while it was read."""
    checksum: str | None = None
    """None if the file was not read."""


class Expected(NamedTuple):
    """A file as the ledger records it. `size` is in bytes."""

    path: str
    checksum: str
    size: int
    listed: FileStat | None = None
    """What a listing of its object store says; None for a local file."""


class Judgement(NamedTuple):
    """The state of a file, and why it is not `ok`."""

    state: FileState
    reason: str = ""


_OK = Judgement(FileState.OK)


def judge(expected: Expected, seen: FileStat, level: Level) -> Judgement | None:
    """Classify what was found; return None if that requires the checksum."""
    if seen.error in _GONE_ERRNOS:
        return Judgement(FileState.MISSING, "the file does not exist")
    if seen.error:
        return Judgement(FileState.UNREADABLE, seen.why)
    if not seen.is_file:
        return Judgement(FileState.CHANGED, "not a regular file: a directory, pipe or device has this name")
    if level is Level.PRESENCE:
        return _OK
    if seen.moved:
        return Judgement(FileState.CHANGED, "it changed while it was read; verify it again when nothing writes to it")
    if seen.size != expected.size:
        return Judgement(FileState.CHANGED, f"its size is {seen.size:,} bytes, the manifest says {expected.size:,}")
    if level is Level.SIZE:
        return _OK
    if seen.checksum is None:
        return None
    if seen.checksum != expected.checksum:
        return Judgement(FileState.CHANGED, f"its checksum is {seen.checksum}")
    return _OK


# -- which files, and in which order -----------------------------------------------------------------------------------


def expected_files(row: Row, root: str, former: str | None = None) -> list[tuple[Order, Expected]]:
    """Return the files that a record names, each once, with the time of its latest observation.

    Relative paths are resolved below `root`, and so are absolute ones below `former`, the previous directory.
    """
    checksum, size = row["checksum"], row["file_size"]
    if "also_seen" not in row:
        return [(sort_key(row), Expected(_resolve(row["file_path"], root, former), checksum, size))]
    latest: dict[str, Order] = {}
    for seen in observations(row):
        path = _resolve(seen["file_path"], root, former)
        latest[path] = max(sort_key(seen), latest.get(path, ("", 0)))
    return [(order, Expected(path, checksum, size)) for path, order in latest.items()]


def _resolve(path: str, root: str, former: str | None) -> str:
    rest = None if former is None else inside(former, path)
    return below(root, path if rest is None else rest)


class VerifyPlan:
    """The files to verify, in order.

    `fetch` returns the record of a checksum in one snapshot. `verified` returns the time of a file's last verification, in
    microseconds since 1970, or `NEVER`.
    """

    def __init__(self, fetch: Callable[[str], Row | None], root: str, former: str | None = None) -> None:
        self._fetch = fetch
        self._root, self._former = root, former
        self._digests = bytearray()
        self._positions = array("I")
        """The position of each file in its record."""
        self._sizes = array("q")
        self._verified = array("q")
        self._path_hashes = array("q")
        """Hashes of the paths, to find paths that several records name."""
        self._order = array("I")
        self._kept: list[Expected] = []
        """The first files, so that a plan of usual size reads each record once."""
        self.superseded = 0
        self.stores: set[str] = set()
        """The directories of object stores that have a file."""

    def fill(self, rows: Iterable[Row], verified: Callable[[Expected], int]) -> None:
        """Add the files of every record, and sort them."""
        for row in rows:
            digest = bytes.fromhex(row["checksum"])
            for position, (_, expected) in enumerate(expected_files(row, self._root, self._former)):
                self._digests += digest
                self._positions.append(position)
                self._sizes.append(expected.size)
                self._verified.append(verified(expected))
                self._path_hashes.append(hash(expected.path))
                if is_url(expected.path):
                    self.stores.add(posixpath.dirname(expected.path))
                if len(self._kept) < _KEPT_FILES_MAX:
                    self._kept.append(expected)
        gone = self._superseded()
        self.superseded = len(gone)
        numbers = (number for number in range(len(self._sizes)) if number not in gone)
        self._order = array("I", sorted(numbers, key=self._verified.__getitem__))
        self._path_hashes = array("q")

    def _files(self, checksum: str) -> list[tuple[Order, Expected]]:
        row = self._fetch(checksum)
        assert row is not None
        return expected_files(row, self._root, self._former)

    def _superseded(self) -> set[int]:
        """Return the numbers of files whose path a later record also names."""
        twice = {one for one, other in pairwise(sorted(self._path_hashes)) if one == other}
        latest: dict[str, tuple[Order, int]] = {}
        gone: set[int] = set()
        for number, path_hash in enumerate(self._path_hashes) if twice else ():
            if path_hash not in twice:
                continue
            order, expected = self._files(self._checksum(number))[self._positions[number]]
            known = latest.get(expected.path)
            latest[expected.path] = max((order, number), known or (order, number))
            if known is not None:
                gone.add(min((order, number), known)[1])
        return gone

    def _checksum(self, number: int) -> str:
        return self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES].hex()

    def sample(self, count: int, seed: int) -> None:
        """Reduce the plan to `count` random files. The same seed and ledger give the same files."""
        # Chosen in the ledger's order, because the order of verification differs from run to run.
        drawn = random.Random(seed).sample(sorted(self._order), min(count, len(self._order)))  # noqa: S311 -- no secret
        chosen = set(drawn)
        self._order = array("I", (number for number in self._order if number in chosen))

    def __len__(self) -> int:
        return len(self._order)

    @property
    def total_bytes(self) -> int:
        """The total recorded size of the planned files."""
        return sum(self._sizes[number] for number in self._order)

    def __iter__(self) -> Iterator[Expected]:
        for number in self._order:
            yield (
                self._kept[number]
                if number < len(self._kept)
                else self._files(self._checksum(number))[self._positions[number]][1]
            )
