"""Reads the records of a canonical file in order, in blocks: the common path of everything that reads a whole manifest.

Invariants:

- Every record is compared with its CRC in the index. Records before a damaged one are still yielded.
- A search parses the records only of blocks that contain the text, and compares the CRC of the whole file at its end.
- The size of a block is limited, whatever the sizes of the records; only a single record may be longer.

The caller has checked the whole index (`Index.check_all`). It does not know the log: `view` merges the overlay.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.model import codec
from manifestlog.model.document import BETWEEN, KEY_BYTES
from manifestlog.model.rows import CHECKSUM_DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.engines.filelog.canonical.index import Index, Span
    from manifestlog.engines.filelog.canonical.scan import Canonical

_SEARCHED_BYTES = 1 << 20


def batches(source: Canonical, index: Index) -> Iterator[list[tuple[str, bytes]]]:
    """Yield every record as (checksum, JSON), sorted by checksum, in lists.

    Raises `DamagedManifestError` at a record that differs from what was written.
    """
    for some in index.spans(codec.PARSED_BYTES):
        yield from _records(source, some, source.read(some.offsets[0], some.offsets[-1]))


def _records(source: Canonical, some: Span, block: bytes) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the records of a span, whose lines are this block, in one list."""
    start, *ends = some.offsets
    raws = [block[at - start + KEY_BYTES : after - start - len(BETWEEN)] for at, after in pairwise((start, *ends))]
    digits = some.digests.hex()
    keys = [digits[at : at + CHECKSUM_DIGITS] for at in range(0, len(digits), CHECKSUM_DIGITS)]
    found = list(map(crc32, raws))
    if found != some.crcs:
        intact = next(n for n, (was, told) in enumerate(zip(found, some.crcs, strict=True)) if was != told)
        yield list(zip(keys[:intact], raws[:intact], strict=True))
        raise source.damage(some.offsets[intact])
    yield list(zip(keys, raws, strict=True))


def containing(source: Canonical, index: Index, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the records whose JSON contains one of these texts, as (checksum, JSON), sorted by checksum.

    Raises `DamagedManifestError` if the file differs from what was written; for most of its bytes at the end.
    """
    crc = position = 0
    for some in index.spans(_SEARCHED_BYTES):
        start, end = some.offsets[0], some.offsets[-1]
        crc = crc32(source.read(position, start), crc)
        block = source.read(start, end)
        crc, position = crc32(block, crc), end
        if any(text in block for text in texts):
            for found in _records(source, some, block):
                yield from ((key, raw) for key, raw in found if any(text in raw for text in texts))
    crc = crc32(source.read(position, index.head.stamp.size), crc)
    check_read(source, index, crc)


def check_read(source: Canonical, index: Index, crc: int) -> None:
    """Raise `DamagedManifestError` if the whole file, read in order with this CRC, differs from what was written.

    The error names the first damaged record, if the damage is in one.
    """
    # Another tool's file was compared when it was opened; its records are read from memory.
    if source.memory is not None or checksums.hex_crc(crc) == index.head.crc:
        return
    for _ in batches(source, index):
        pass
    raise source.damage_between()
