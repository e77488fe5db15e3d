"""The key table of a pack: which blocks may contain events of a source, a content or a run.

::

    key      the JSON text of a source_id, the 64 digits of a checksum, `run:` and the JSON text of a run's id, `inputs`,
             or `op:` and the kind of a line that changes no record
    hash     32 bits: the first 8 digits of a checksum, the CRC-32 of any other key
             its first `bits` choose a bucket, the next 16 are the tag
    bounds   u32 × (2^bits + 1)     where each bucket begins
    entries  u32 × n                tag << 16 | block, sorted within the bucket

Invariants:

- Every key of every block is in the table. A lookup may name a block too many (in 1 of 2,000 lookups), never one too
  few.
- Keys are found in the text of the lines, without parsing them, so every mention counts: inputs and earlier sources
  too.

Integers are little-endian.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterable

CHECKSUM = re.compile(rb'"([0-9a-f]{64})"')
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SOURCE = re.compile(rb'"source_id":(%b)' % _TEXT)
_RUN = re.compile(rb'"run":(%b)' % _TEXT)
_KINDS = ("begun", "ended", "failed")
"""The kinds that a search finds by themselves: they are rare, and a line holds one event of theirs."""
_BUCKET_KEYS = 32
_TAG_BITS = 16
_HASH_BITS = 32
_BITS_MAX = _HASH_BITS - _TAG_BITS
_DIGITS = 64
BLOCKS_MAX = 1 << 16
_BLOCK = BLOCKS_MAX - 1
_ENTRY = (1 << 32) - 1


def checksum_key(checksum: str) -> bytes:
    """Return the key of a content."""
    return checksum.encode()


def source_key(source_id: str) -> bytes:
    """Return the key of a source."""
    return codec.dumps(source_id)


def run_key(run: str) -> bytes:
    """Return the key of a run."""
    return b"run:" + codec.dumps(run)


OTHER_INPUTS_KEY = b"inputs"
"""The key of events with inputs that their record does not show."""
OTHER_INPUTS_TEXT = b'"inputs":['
_LISTS = (b'"derived_from":[', OTHER_INPUTS_TEXT, b'"forgets":[')
"""How a list of checksums begins."""


def kind_key(kind: str) -> bytes | None:
    """Return the key of a kind of event, or None if packs do not know where it is."""
    return b"op:" + kind.encode() if kind in _KINDS else None


def kind_text(kind: str) -> bytes:
    """Return how a line of this kind begins."""
    return b'{"op":"%b",' % kind.encode()


def keys_in(data: bytes) -> set[bytes]:
    """Return the keys of everything that these lines mention."""
    found = {text[:_DIGITS] for text in data.split(b'"checksum":"')[1:]}
    found.update(_SOURCE.findall(data))
    found.update([b"run:" + run for run in _RUN.findall(data)])
    mentioned = [name for name in _LISTS if name in data]
    if mentioned:
        found.update(CHECKSUM.findall(data))
    if OTHER_INPUTS_TEXT in mentioned:
        found.add(OTHER_INPUTS_KEY)
    found.update(b"op:" + kind.encode() for kind in _KINDS if kind_text(kind) in data)
    return found


def _hash(key: bytes) -> int:
    try:
        return int(key[:8], 16) if len(key) == _DIGITS else crc32(key)  # a checksum is a hash already
    except ValueError:  # another key of that length
        return crc32(key)


class Table(NamedTuple):
    """A key table in memory, mapped or built."""

    bits: int
    bounds: memoryview
    entries: memoryview

    def blocks(self, key: bytes) -> list[int]:
        """Return the blocks that may hold this key, in order."""
        found = _hash(key)
        bucket = found >> (_HASH_BITS - self.bits) if self.bits else 0
        tag = _tag(found, self.bits)
        some = self.entries[self.bounds[bucket] : self.bounds[bucket + 1]]
        return sorted({entry & (BLOCKS_MAX - 1) for entry in some if entry >> _TAG_BITS == tag})


def _tag(found: int, bits: int) -> int:
    return (found >> (_HASH_BITS - bits - _TAG_BITS)) & ((1 << _TAG_BITS) - 1)


def build(blocks: Iterable[set[bytes]]) -> tuple[int, bytes]:
    """Return a table's bits and bytes, from the keys of each block."""
    pairs = [_hash(key) << _TAG_BITS | number for number, keys in enumerate(blocks) for key in keys]
    pairs.sort()
    bits = min((len(pairs) // _BUCKET_KEYS).bit_length(), _BITS_MAX)
    shift = _HASH_BITS + _TAG_BITS - bits
    bounds = array("I", [bisect_left(pairs, bucket << shift) for bucket in range((1 << bits) + 1)])
    low = _HASH_BITS - bits - _TAG_BITS
    entries = array("I", [((pair >> low) & _ENTRY) & ~_BLOCK | pair & _BLOCK for pair in pairs])
    return bits, _little_endian(bounds) + _little_endian(entries)


def _little_endian(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values = array("I", values)
        values.byteswap()
    return values.tobytes()


def table(bits: int, data: memoryview) -> Table:
    """Return the table with these bytes. Raises `ValueError` if they cannot be one."""
    count = (1 << bits) + 1
    if len(data) % 4 or len(data) < 4 * count:
        raise ValueError("the key table is too short")
    numbers = data.cast("I") if sys.byteorder == "little" else memoryview(_swapped(data))
    bounds = numbers[:count]
    if bounds[0] != 0 or bounds[count - 1] != len(numbers) - count:
        raise ValueError("the key table does not add up")
    return Table(bits, bounds, numbers[count:])


def _swapped(data: memoryview) -> array[int]:
    values = array("I", bytes(data))
    values.byteswap()
    return values
