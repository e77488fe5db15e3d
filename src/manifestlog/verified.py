"""When each data file was last verified, and with which result: a file beside the manifest that may be lost.

One JSON line a file that was looked at, the latest last::

    {"file_path":"/srv/…","checksum":"9f31…","level":"full","state":"ok","ts_verified":"2026-11-23T06:22:57.149494Z"}

Invariants:

- It is no part of the ledger: all that follows from it is in which order files are looked at.
- Lines that say nothing known are passed over, whatever they hold, in bounded memory.
- Lines are appended whole, so that several runs may share it; only a run that is alone with it rewrites it, by rename.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.storage import codec, disk
from manifestlog.verify import NEVER, Expected, FileState, Level

if TYPE_CHECKING:
    from manifestlog.naming import ManifestPaths

log = logging.getLogger(__name__)

_LINE_BYTES_MAX = 1 << 20
_SPARE_LINES = 1_000
_LEVELS = tuple(Level)


class _Said(NamedTuple):
    """A line: what was looked at and how closely, as one number, and when, in microseconds since 1970."""

    key: int
    when_us: int


def line(expected: Expected, level: Level, state: FileState, ts_verified: str) -> bytes:
    """What is kept of one file; empty for a path that is no Unicode."""
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
    # Of two files that meet in 64 bits one would only be looked at in the other's turn.
    return hash((path, checksum, level))


def _parse(text: bytes) -> _Said | None:
    try:
        said = codec.loads(text)
        key = _key(said["file_path"], said["checksum"], Level(said["level"]))
        return _Said(key, round(datetime.fromisoformat(said["ts_verified"]).timestamp() * 1_000_000))
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return None


class Verified:
    """The file of one manifest, open for one run; use it as a context manager.

    Where the folder or the file cannot be written, it is read, and nothing is kept: `why_not` says why.
    """

    def __init__(self, paths: ManifestPaths) -> None:
        self._paths = paths
        self._fd: int | None = None
        self._last: dict[int, int] = {}
        self._lines = 0
        self.why_not: OSError | None = None

    def __enter__(self) -> Verified:
        try:
            self._fd = self._open()
            disk.lock_shared(self._fd)
        except OSError as error:
            self.why_not = error
        try:
            self._load()
            self._shorten()
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            disk.close(self._fd)
            self._fd = None
        self._last.clear()

    def _open(self) -> int:
        with suppress(FileNotFoundError):
            return disk.open_append(self._paths.verified)
        with suppress(FileExistsError):  # another run was faster
            return disk.create(self._paths.verified, like=self._paths.canonical)
        return disk.open_append(self._paths.verified)

    def _give_up(self, error: OSError) -> None:
        self.why_not = self.why_not or error
        if self._fd is not None:
            disk.close(self._fd)
            self._fd = None

    # -- reading -------------------------------------------------------------------------------------------------

    def when(self, expected: Expected, level: Level) -> int:
        """When this file was last looked at so closely, or closer; in microseconds since 1970, or `NEVER`."""
        if not self._last:
            return NEVER
        keys = (_key(expected.path, expected.checksum, one) for one in _LEVELS[_LEVELS.index(level) :])
        return max(self._last.get(key, NEVER) for key in keys)

    def forget(self) -> None:
        """Let go of what was read, once the order is known."""
        self._last = {}

    def _load(self) -> None:
        fd = self._fd
        if fd is None:
            with suppress(FileNotFoundError):
                fd = disk.open_read(self._paths.verified)
        if fd is None:
            return
        moments: dict[int, int] = {}
        try:
            for text in _lines(fd):
                self._lines += 1
                said = _parse(text)
                if said is not None:
                    # One object for all files of a batch: a million of them would cost 30 MB.
                    self._last[said.key] = moments.setdefault(said.when_us, said.when_us)
        finally:
            if fd != self._fd:
                disk.close(fd)

    # -- writing -------------------------------------------------------------------------------------------------

    def keep(self, lines: bytes) -> None:
        """Append whole lines; what cannot be written is not kept, and `why_not` says why."""
        if self._fd is None or not lines:
            return
        try:
            disk.append(self._fd, lines)
        except OSError as error:
            self._give_up(error)

    def _shorten(self) -> None:
        """Drop what later lines have replaced, when that is most of the file."""
        if self._fd is None:
            return
        size = disk.size(self._fd)
        if self._lines > 2 * len(self._last) + _SPARE_LINES and not disk.held_by_others(self._fd):
            self._rewrite(self._fd, size)
        elif size and disk.read(self._fd, 1, size - 1) != b"\n":
            self.keep(b"\n")  # a run was killed in the middle of a line: ours begins on its own

    def _rewrite(self, old: int, size: int) -> None:
        disk.remove(self._paths.verified_next)  # of a run that was killed here
        new = disk.create(self._paths.verified_next, like=self._paths.verified)
        try:
            for text in _lines(old):
                said = _parse(text)
                if said is not None and self._last.get(said.key) == said.when_us:
                    disk.append(new, text + b"\n")
            disk.sync_data(new)
            disk.replace(self._paths.verified_next, self._paths.verified)
        except BaseException:
            disk.close(new)
            disk.remove(self._paths.verified_next)
            raise
        log.info("%s: rewritten, %d bytes instead of %d", self._paths.verified, disk.size(new), size)
        disk.close(old)
        self._fd = new
        disk.lock_shared(new)


def _lines(fd: int) -> Iterator[bytes]:
    """Every line that ends, without its newline."""
    rest = b""
    for block in disk.blocks(fd, 0, disk.size(fd)):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
        if len(rest) > _LINE_BYTES_MAX:
            rest = b""  # no line of ours; what follows of it is none either
