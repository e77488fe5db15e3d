"""Writes a body that arrives in several ranges to its part.

Invariants:

- The ranges in the state are on the disk: their bytes are synced before they are noted.
- The state has ranges before a byte is written behind a gap. Otherwise a crash would leave a part whose length counts
  bytes that never arrived.
- Nothing is written after it is closed.

::

    truncate            ─ crash: old state; what it notes beyond the part's end does not count
    sync, note ranges   ─ crash: exactly these
    write …             ─ crash: the ranges of the last note

Several threads share a writer, under its `lock`.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import replace

from manifestlog.extract.fetchers.protocol import ResponseHead
from manifestlog.extract.part_file import PartFile, state_of
from manifestlog.extract.ranges import Division, Range, Share
from manifestlog.extract.writing_files import write_at


class RangesWriter:
    """A context manager that writes to an open part, and notes what has arrived however it ends."""

    def __init__(self, part: PartFile, head: ResponseHead) -> None:
        """Open the part; the bytes before the head's start are there, and what an earlier run has noted."""
        assert head.length_bytes is not None
        self.lock = threading.Lock()
        self._part = part
        self._fd = part.open(anew=not head.start)
        try:
            self.division = Division(head.length_bytes, [*part.ranges(), Range(0, head.start)])
            self._state = part.marked(state_of(head), is_open=True)
            self.save()
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, share: Share, data: memoryview) -> int:
        """Write as much as the share still needs; return how much that is. The caller holds the lock."""
        wanted = data[: share.remaining]
        write_at(self._fd, wanted, share.position, self._part.path)
        share.position += len(wanted)
        return len(wanted)

    def save(self) -> None:
        """Note what has arrived, durably."""
        with self.lock:
            arrived = self.division.arrived
        os.fsync(self._fd)
        self._part.replace_state(replace(self._state, ranges=[[one.start, one.end] for one in arrived]))

    def __enter__(self) -> RangesWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self.save()
                self._part.state = self._state  # a complete part is like any other
                return
            self._state = self._part.marked(self._state, is_open=False)
            with suppress(OSError):  # on a full disk the original error says more
                self.save()
        finally:
            with self.lock:
                fd, self._fd = self._fd, -1
            os.close(fd)
