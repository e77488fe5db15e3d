"""What one row of an index's source table says: who had which content when, in 32 bytes that sort as they should.

Invariants:

- Rows are big-endian, so that their order as bytes is by source, dataset, time, then rank.
- Sources, datasets and contents are hashes or prefixes: a row finds a record, and the record decides.

It knows nothing of the table (`index`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from manifestlog.model.rows import Row, observations, sort_key

_EPOCH = datetime(1, 1, 1)  # noqa: DTZ001 -- in UTC, as every time of a row: without its zone it is faster
_MICROSECOND = timedelta(microseconds=1)
TIE_MAX = 0xFFFF_FFFF


@lru_cache(maxsize=4096)
def short_hash(text: str, size: int) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=size).digest()


def source_hash(source_id: str) -> bytes:
    return blake2b(source_id.encode(errors="surrogatepass"), digest_size=8).digest()


def source_rows(row: Row) -> list[bytes]:
    """The index rows of a record's observations."""
    digest = bytes.fromhex(row["checksum"][:16])
    return [_source_row(seen, digest) for seen in observations(row)]


def _source_row(seen: Row, digest: bytes) -> bytes:
    source = source_hash(seen["source_id"])
    return b"".join((source, short_hash(seen["dataset"], 4), order_bytes(*sort_key(seen)), digest))


def order_bytes(moment: str, tie: int) -> bytes:
    when = (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND
    return when.to_bytes(8, "big") + min(tie, TIE_MAX).to_bytes(4, "big")
