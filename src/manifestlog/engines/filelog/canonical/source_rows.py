"""Encodes a row of the index's source table: which source had which content when, in 32 sortable bytes.

Invariants:

- Rows are big-endian, so their byte order is by source, dataset, time, then rank.
- Sources, datasets and contents are hashes or prefixes: a row finds candidate records, and the record decides.

It knows nothing of the table (`index`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from manifestlog.model.rows import Row, observations, sort_key

_EPOCH = datetime(1, 1, 1)  # noqa: DTZ001 -- in UTC, like every time of a row; naive times are faster
_MICROSECOND = timedelta(microseconds=1)
TIE_MAX = 0xFFFF_FFFF


@lru_cache(maxsize=4096)
def short_hash(text: str, size: int) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=size).digest()


def source_hash(source_id: str) -> bytes:
    return blake2b(source_id.encode(errors="surrogatepass"), digest_size=8).digest()


def source_rows(row: Row) -> list[bytes]:
    """Return the index rows of a record's observations."""
    digest = bytes.fromhex(row["checksum"][:16])
    return [_source_row(seen, digest) for seen in observations(row)]


def _source_row(seen: Row, digest: bytes) -> bytes:
    source = source_hash(seen["source_id"])
    return b"".join((source, short_hash(seen["dataset"], 4), order_bytes(*sort_key(seen)), digest))


def order_bytes(moment: str, tie: int) -> bytes:
    when = (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND
    return when.to_bytes(8, "big") + min(tie, TIE_MAX).to_bytes(4, "big")
