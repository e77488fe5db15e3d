"""Reads the records of a canonical file in order, in blocks: the path of everything that reads a whole manifest.

Invariants:

- Every record is compared with the CRC that the index has for it. Records before a damaged one are still yielded.
- A block is bounded in bytes, whatever the records' sizes; only a single record may be longer.

The caller has checked the whole index (`Index.check_all`). It knows no log: `view` merges the overlay.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.model import codec
from manifestlog.model.document import BETWEEN, KEY_BYTES
from manifestlog.model.rows import CHECKSUM_DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.filelog.canonical.index import Index
    from manifestlog.engines.filelog.canonical.scan import Canonical


def batches(source: Canonical, index: Index) -> Iterator[list[tuple[str, bytes]]]:
    """Yield every record as (checksum, JSON), sorted by checksum, in lists.

    Raises `DamagedManifestError` at a record that differs from what was written.
    """
    for some in index.spans(codec.PARSED_BYTES):
        start, *ends = some.offsets
        block = source.read(start, ends[-1])
        raws = [block[at - start + KEY_BYTES : after - start - len(BETWEEN)] for at, after in pairwise((start, *ends))]
        digits = some.digests.hex()
        keys = [digits[at : at + CHECKSUM_DIGITS] for at in range(0, len(digits), CHECKSUM_DIGITS)]
        found = list(map(crc32, raws))
        if found != some.crcs:
            intact = next(n for n, (was, told) in enumerate(zip(found, some.crcs, strict=True)) if was != told)
            yield list(zip(keys[:intact], raws[:intact], strict=True))
            raise source.damage(some.offsets[intact])
        yield list(zip(keys, raws, strict=True))
