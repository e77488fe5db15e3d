"""Keeps what a command prints on one stream: the beginning and the end in a file; the rest is counted.

Invariants:

- File and memory have a fixed limit, whatever the command prints.
- There is no file before the first byte, so a silent command costs none.
- A log that cannot be written (on a full disk) never makes the command fail; its last bytes are kept in memory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

HEAD_BYTES = TAIL_BYTES = 1 << 19
"""How much of the beginning and of the end the file holds."""
_SHOWN_BYTES = 4000


class KeptOutput:
    """What a command prints on one stream."""

    def __init__(self, path: str | None) -> None:
        """Prepare to keep it at `path`; None keeps the last bytes only. The file of an earlier attempt is removed."""
        self.bytes_total = 0
        self.path: Path | None = None
        """The file; None if there is none."""
        self._wanted = path
        self._fd = -1
        self._last = bytearray()
        if path is not None:
            with suppress(OSError):
                os.unlink(path)

    def take(self, data: bytes) -> None:
        """Keep the next bytes."""
        if not self.bytes_total:
            self._create()
        if (room := HEAD_BYTES - self.bytes_total) > 0:
            self._write(data[:room])
        self.bytes_total += len(data)
        self._last += data
        if len(self._last) > 2 * TAIL_BYTES:
            del self._last[:-TAIL_BYTES]

    def finish(self) -> None:
        """Write the end, and close the file."""
        beyond = self.bytes_total - HEAD_BYTES
        if beyond > 0:
            rest = self._last[-min(beyond, TAIL_BYTES) :]
            if left_out := beyond - len(rest):
                self._write(f"\n[{left_out:,} bytes left out]\n".encode())
            self._write(rest)
        self._close()

    def tail_text(self) -> str:
        """Return the last 4,000 bytes as text."""
        return self._last[-_SHOWN_BYTES:].decode(errors="replace")

    def _create(self) -> None:
        if self._wanted is None:
            return
        with suppress(OSError):
            os.makedirs(os.path.dirname(self._wanted), exist_ok=True)
            with suppress(FileNotFoundError):
                os.unlink(self._wanted)  # what an earlier attempt printed
            self._fd = os.open(self._wanted, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self.path = Path(self._wanted)

    def _write(self, data: bytes | bytearray) -> None:
        try:
            while self._fd >= 0 and data:
                data = data[os.write(self._fd, data) :]
        except OSError:  # most likely a full disk, which the command meets as well, and reports
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
