"""The ledger against the data files: which files there should be, in which order to look, what was found means what.

Invariants:

- Every path that a record names counts, its own and those of `also_seen`; a path is looked at once.
- A path stands for what was recorded last of it: older records of a file that has other content since are *superseded*.
- Those that were never verified come first, then the one whose verification is the oldest.
- A plan holds numbers, but for its first files no objects: about 70 bytes a file, however long its path; the records of all
  others are read again when it is their turn.

Nothing here looks at a data file: that is the command line's, in many processes. `judge` is told what was seen.
"""

from __future__ import annotations

import errno
import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from manifestlog.roots import below, inside
from manifestlog.rows import Order, Row, observations, order_of

DIGEST_BYTES = 32
NEVER = 0
_KEPT_FILES_MAX = 1 << 15
"""At some 400 bytes each."""
_GONE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR})


class Level(StrEnum):
    """How closely to look; each does what the one before it does, and more.

    - `PRESENCE`: is there a file at the recorded path?
    - `SIZE`: does it have the recorded size?
    - `FULL`: does its content have the recorded checksum?
    """

    PRESENCE = "presence"
    SIZE = "size"
    FULL = "full"


class FileState(StrEnum):
    """What became of a file that the ledger names.

    - `OK`: it is what the ledger says.
    - `MISSING`: there is nothing at its path.
    - `CHANGED`: it has another size or content, or is no file.
    - `UNREADABLE`: the operating system refused to read it.
    """

    OK = "ok"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"


class Expected(NamedTuple):
    """A file as the ledger has it; `size` in bytes."""

    path: str
    checksum: str
    size: int


class Seen(NamedTuple):
    """What was found at a path, as far as anybody looked."""

    error: int = 0
    """The operating system's number for why it could not be looked at; 0 when it could."""
    why: str = ""
    is_file: bool = True
    size: int = 0
    moved: bool = False
    """Whether it changed while it was read."""
    checksum: str | None = None
    """None when nobody has read it yet."""


class Judgement(NamedTuple):
    """The state of a file, and why it is not `ok`."""

    state: FileState
    reason: str = ""


_OK = Judgement(FileState.OK)


def judge(expected: Expected, seen: Seen, level: Level) -> Judgement | None:
    """What it means that this was seen; None when the checksum is needed to tell."""
    if seen.error in _GONE_ERRNOS:
        return Judgement(FileState.MISSING, "there is no such file")
    if seen.error:
        return Judgement(FileState.UNREADABLE, seen.why)
    if not seen.is_file:
        return Judgement(FileState.CHANGED, "a folder, a pipe or a device has its name")
    if level is Level.PRESENCE:
        return _OK
    if seen.moved:
        return Judgement(FileState.CHANGED, "it changed while it was read")
    if seen.size != expected.size:
        return Judgement(FileState.CHANGED, f"it has {seen.size:,} bytes, the ledger says {expected.size:,}")
    if level is Level.SIZE:
        return _OK
    if seen.checksum is None:
        return None
    if seen.checksum != expected.checksum:
        return Judgement(FileState.CHANGED, f"its checksum is {seen.checksum}")
    return _OK


# -- which files, and in which order -----------------------------------------------------------------------------------


def files_of(row: Row, root: str, former: str | None = None) -> list[tuple[Order, Expected]]:
    """The files that a record names, each once, with the time when it was recorded last; relative paths lie below `root`.

    So do absolute ones that lie below `former`, where the files were before.
    """
    checksum, size = row["checksum"], row["file_size"]
    if "also_seen" not in row:
        return [(order_of(row), Expected(_place(row["file_path"], root, former), checksum, size))]
    latest: dict[str, Order] = {}
    for seen in observations(row):
        path = _place(seen["file_path"], root, former)
        latest[path] = max(order_of(seen), latest.get(path, ("", 0)))
    return [(order, Expected(path, checksum, size)) for path, order in latest.items()]


def _place(path: str, root: str, former: str | None) -> str:
    rest = None if former is None else inside(former, path)
    return below(root, path if rest is None else rest)


class Plan:
    """The files to look at, in order.

    `fetch` gives the record of a checksum, as of one moment; `verified` says when a file was last verified, in microseconds
    since 1970, or `NEVER`.
    """

    def __init__(self, fetch: Callable[[str], Row | None], root: str, former: str | None = None) -> None:
        self._fetch = fetch
        self._root, self._former = root, former
        self._digests = bytearray()
        self._turns = array("I")
        """Which file of its record each one is."""
        self._sizes = array("q")
        self._verified = array("q")
        self._places = array("q")
        """Hashes of the paths, to find those that several records name."""
        self._order = array("I")
        self._kept: list[Expected] = []
        """The first files, so that the records of a plan of usual size are read once."""
        self.superseded = 0

    def fill(self, checksums: Iterable[str], verified: Callable[[Expected], int]) -> None:
        """Take in every record, and put its files in order."""
        for checksum in checksums:
            digest = bytes.fromhex(checksum)
            for turn, (_, expected) in enumerate(self._files(checksum)):
                self._digests += digest
                self._turns.append(turn)
                self._sizes.append(expected.size)
                self._verified.append(verified(expected))
                self._places.append(hash(expected.path))
                if len(self._kept) < _KEPT_FILES_MAX:
                    self._kept.append(expected)
        gone = self._superseded()
        self.superseded = len(gone)
        numbers = (number for number in range(len(self._sizes)) if number not in gone)
        self._order = array("I", sorted(numbers, key=self._verified.__getitem__))
        self._places = array("q")

    def _files(self, checksum: str) -> list[tuple[Order, Expected]]:
        row = self._fetch(checksum)
        assert row is not None
        return files_of(row, self._root, self._former)

    def _superseded(self) -> set[int]:
        """The numbers of files whose path a later record names, too."""
        twice = {one for one, other in pairwise(sorted(self._places)) if one == other}
        latest: dict[str, tuple[Order, int]] = {}
        gone: set[int] = set()
        for number, place in enumerate(self._places) if twice else ():
            if place not in twice:
                continue
            order, expected = self._files(self._checksum(number))[self._turns[number]]
            known = latest.get(expected.path)
            latest[expected.path] = max((order, number), known or (order, number))
            if known is not None:
                gone.add(min((order, number), known)[1])
        return gone

    def _checksum(self, number: int) -> str:
        return self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES].hex()

    def sample(self, count: int, seed: int) -> None:
        """Leave `count` files in the plan, any with the same chance; the same ones for the same seed, order and ledger."""
        # Chosen among the files as the ledger has them, whatever their order is this time.
        drawn = random.Random(seed).sample(sorted(self._order), min(count, len(self._order)))  # noqa: S311 -- no secret
        chosen = set(drawn)
        self._order = array("I", (number for number in self._order if number in chosen))

    def __len__(self) -> int:
        return len(self._order)

    @property
    def total_bytes(self) -> int:
        """What all of them should have together."""
        return sum(self._sizes[number] for number in self._order)

    def __iter__(self) -> Iterator[Expected]:
        for number in self._order:
            yield (
                self._kept[number]
                if number < len(self._kept)
                else self._files(self._checksum(number))[self._turns[number]][1]
            )
