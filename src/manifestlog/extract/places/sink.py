"""Collects bytes for an object store: a small content stays in memory, a large one is uploaded part by part.

Invariants:

- Memory holds at most one part.
- No object appears before `complete`.
- After a part has failed or was interrupted, the upload cannot be completed, because nobody would notice the hole.
"""

from __future__ import annotations

from manifestlog.objects.protocol import Copied, ObjectStore, Upload

PART_BYTES = 8 << 20
"""The size of the parts of an upload, all but the last."""
_PARTS_OF_A_SIZE = 1_000
"""After so many parts they get larger, since an upload has at most 10,000: 8 GB of 8 MiB, 16 GB of 16 MiB, …"""


def part_bytes(number: int) -> int:
    """Return the size of this part of an upload, counted from 0."""
    return PART_BYTES << (number // _PARTS_OF_A_SIZE)


class Sink:
    """The bytes of one content, in order."""

    def __init__(self, store: ObjectStore, url: str, source: str | None = None, copied_bytes: int = 0) -> None:
        """Prepare an upload to `url`. The first `copied_bytes` are those of the object `source`, too."""
        self._store, self._url = store, url
        self._source, self._copied_bytes = source, copied_bytes
        self._upload: Upload | None = None
        self._numbered = 0
        self.is_whole = True
        """Whether every byte is either uploaded or in `rest`."""
        self.rest = bytearray()
        """What is not uploaded yet; of a small content, all of it."""
        self.length_bytes = 0

    @property
    def is_small(self) -> bool:
        """Whether nothing was uploaded: the whole content is in `rest`."""
        return self._upload is None

    def write(self, block: bytes) -> None:
        """Take the next bytes."""
        self.rest += block
        self.length_bytes += len(block)
        while len(self.rest) > (size := part_bytes(self._numbered)):
            self._send(size)

    def _send(self, size: int) -> None:
        self.is_whole = False
        if self._upload is None:
            self._upload = self._store.upload(self._url)
        part, start = self.rest[:size], self.length_bytes - len(self.rest)
        is_copied = self._source is not None and start + size <= self._copied_bytes
        self._upload.write(part, Copied(self._source, start) if self._source is not None and is_copied else None)
        del self.rest[:size]
        self._numbered += 1
        self.is_whole = True

    def complete(self) -> None:
        """Make the object appear, also that of a small content."""
        assert self.is_whole
        if self._upload is None:
            self._store.write(self._url, self.rest)
            return
        if self.rest:
            self._send(len(self.rest))
        self._upload.complete()

    def abort(self) -> None:
        """Give the upload up, if it is not completed; raises nothing."""
        if self._upload is not None:
            self._upload.abort()
