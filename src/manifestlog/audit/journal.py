"""The verification journal: a file with each data file's last verification. Losing it is harmless.

One JSON line per verified file, the latest last::

    {"file_path":"/srv/…","checksum":"9f31…","level":"full","state":"ok","ts_verified":"2026-11-23T06:22:57.149494Z"}

Invariants:

- The journal is not part of the ledger. It affects only the order of verification.
- A reader skips unknown lines, whatever they contain, in bounded memory.
- Lines are appended whole, so several runs can share the file. Only a run that holds it alone rewrites it, by rename.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.audit.plan import NEVER, Expected, FileState, Level
from manifestlog.files import disk, publish
from manifestlog.model import codec

if TYPE_CHECKING:
    from manifestlog.audit.journal_file import JournalFile

log = logging.getLogger(__name__)

_LINE_BYTES_MAX = 1 << 20
_SPARE_LINES = 1_000
_LEVELS = tuple(Level)


class _JournalLine(NamedTuple):
    """A line: the hash of file and level, and the time in microseconds since 1970."""

    key: int
    when_us: int


def line(expected: Expected, level: Level, state: FileState, ts_verified: str) -> bytes:
    """Return the line of one file; empty if the path is not valid Unicode."""
    said = {
        "file_path": expected.path,
        "checksum": expected.checksum,
        "level": level,
        "state": state,
        "ts_verified": ts_verified,
    }
    try:
        return codec.dumps(said) + b"\n"
    except TypeError:
        return b""


def _key(path: str, checksum: str, level: Level) -> int:
    # After a collision of two 64-bit hashes, one file only gets the other's place in the order.
    return hash((path, checksum, level))


def _parse(text: bytes) -> _JournalLine | None:
    try:
        said = codec.loads(text)
        key = _key(said["file_path"], said["checksum"], Level(said["level"]))
        return _JournalLine(key, round(datetime.fromisoformat(said["ts_verified"]).timestamp() * 1_000_000))
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return None


class VerificationJournal:
    """The journal of one manifest, open for one run; without a file, it remembers nothing. Use it as a context manager.

    If it cannot be written, it is only read, and `write_error` has the reason.
    """

    def __init__(self, file: JournalFile | None) -> None:
        self._file = file
        self._fd: int | None = None
        self._last: dict[int, int] = {}
        self._lines = 0
        self.write_error: OSError | None = None

    def __enter__(self) -> VerificationJournal:
        if self._file is None:
            return self
        try:
            self._fd = self._open(self._file)
            disk.lock_shared(self._fd)
        except OSError as error:
            self.write_error = _plain(error)
        try:
            self._load(self._file)
            self._shorten(self._file)
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            disk.close(self._fd)
            self._fd = None
        self._last.clear()

    def _open(self, file: JournalFile) -> int:
        with suppress(FileNotFoundError):
            return disk.open_append(file.path)
        if file.is_in_cache:
            disk.make_passing_directories(file.directory)
        with suppress(FileExistsError):  # another run was faster
            return disk.create(file.path, mode_from=file.mode_from)
        return disk.open_append(file.path)

    def _give_up(self, error: OSError) -> None:
        self.write_error = self.write_error or _plain(error)
        if self._fd is not None:
            disk.close(self._fd)
            self._fd = None

    # -- reading -------------------------------------------------------------------------------------------------

    def when(self, expected: Expected, level: Level) -> int:
        """Return the time of this file's last verification at this level or higher, in microseconds since 1970, or `NEVER`."""
        if not self._last:
            return NEVER
        keys = (_key(expected.path, expected.checksum, one) for one in _LEVELS[_LEVELS.index(level) :])
        return max(self._last.get(key, NEVER) for key in keys)

    def forget(self) -> None:
        """Free the memory of the times, once the order is known."""
        self._last = {}

    def _load(self, file: JournalFile) -> None:
        fd = self._fd
        if fd is None:
            with suppress(FileNotFoundError):
                fd = disk.open_read(file.path)
        if fd is None:
            return
        moments: dict[int, int] = {}
        try:
            for text in _lines(fd):
                self._lines += 1
                said = _parse(text)
                if said is not None:
                    # One object for all files of a batch: a million objects would take 30 MB.
                    self._last[said.key] = moments.setdefault(said.when_us, said.when_us)
        finally:
            if fd != self._fd:
                disk.close(fd)

    # -- writing -------------------------------------------------------------------------------------------------

    def keep(self, lines: bytes) -> None:
        """Append whole lines. After a failed write, `write_error` has the reason."""
        if self._fd is None or not lines:
            return
        try:
            disk.append(self._fd, lines)
        except OSError as error:
            self._give_up(error)

    def _shorten(self, file: JournalFile) -> None:
        """Rewrite the file without replaced lines, if most of its lines are replaced."""
        if self._fd is None:
            return
        size = disk.size(self._fd)
        if self._lines > 2 * len(self._last) + _SPARE_LINES and not disk.held_by_others(self._fd):
            self._rewrite(file, self._fd, size)
        elif size and disk.read(self._fd, 1, size - 1) != b"\n":
            self.keep(b"\n")  # a killed run left an unfinished line: start a new one

    def _rewrite(self, file: JournalFile, old: int, size: int) -> None:
        disk.remove(file.next)  # left by a run that was killed here
        new = publish.publish_open(publish.Target(file.next, file.path), self._latest(old), mode_from=file.path)
        log.info("%s: rewritten, %d bytes instead of %d", file.path, disk.size(new), size)
        disk.close(old)
        self._fd = new
        disk.lock_shared(new)

    def _latest(self, fd: int) -> Iterator[bytes]:
        """Yield the lines that no later line replaces."""
        for text in _lines(fd):
            said = _parse(text)
            if said is not None and self._last.get(said.key) == said.when_us:
                yield text + b"\n"


def _plain(error: OSError) -> OSError:
    """Return an error without the frames that it came through: they would keep the manifest's snapshot open."""
    error.__context__ = None
    return error.with_traceback(None)


def _lines(fd: int) -> Iterator[bytes]:
    """Yield every finished line, without its newline."""
    rest = b""
    for block in disk.blocks(fd, 0, disk.size(fd)):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
        if len(rest) > _LINE_BYTES_MAX:
            rest = b""  # too long for a line of this journal, so its rest is not one either
