"""Converts records to columns: hashes of names, times in microseconds, lanes.

Invariants:

- Times order as `rows.sort_key` orders them, and checksums as their text.
- A hash has 16 bytes, so that a name of any length fits an index. Equal hashes count as equal names.

Pure functions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.model.rows import Sighting, moment_text, observations, sort_key

if TYPE_CHECKING:
    from manifestlog.model.rows import Row

LANES = 16
_NAMES_MAX = 4096
"""Names whose hash is remembered: an addition needs it several times."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- the order of a row has no zone, and is in UTC
_US = timedelta(microseconds=1)


@lru_cache(maxsize=_NAMES_MAX)
def hashed(text: str) -> bytes:
    """Return the hash of one name."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@lru_cache(maxsize=_NAMES_MAX)
def hashed_pair(source_id: str, dataset: str) -> bytes:
    """Return the hash of a source and dataset."""
    name = source_id.encode("utf-8", "surrogatepass")
    return blake2b(b"%d:%b%b" % (len(name), name, dataset.encode("utf-8", "surrogatepass")), digest_size=16).digest()


def lane_of(source_id: str, lanes: int) -> int:
    """Return the lane of a source."""
    return crc32(source_id.encode("utf-8", "surrogatepass")) % lanes


def micros(moment: str) -> int:
    """Return a time, in the form of `rows.sort_key`, in microseconds since 1970."""
    return (datetime.fromisoformat(moment) - _EPOCH) // _US


@lru_cache(maxsize=1024)
def moment(ts: int) -> str:
    """Return the time of these microseconds in the form of `rows.sort_key`."""
    return (_EPOCH + ts * _US).isoformat()


def event_time(ts: int) -> str:
    """Return the time of these microseconds as events write it."""
    return moment_text((_EPOCH + ts * _US).replace(tzinfo=UTC))


def event_micros(text: str) -> int:
    """Return the time of an event, as text with a zone, in microseconds since 1970."""
    return (datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None) - _EPOCH) // _US


class Seen(NamedTuple):
    """One observation as a row of `sighting`, without the content."""

    pair: bytes
    ts: int
    tie: int
    source: bytes
    dataset: bytes


def seen(one: Row) -> Seen:
    """Return one observation as a row of `sighting`."""
    source_id, dataset, (when, tie) = one["source_id"], one["dataset"], sort_key(one)
    return Seen(hashed_pair(source_id, dataset), micros(when), tie, hashed(source_id), dataset.encode())


def seen_in(row: Row | None) -> set[Seen]:
    """Return the observations of a record."""
    if row is None:
        return set()
    return {seen(one) for one in observations(row)} if "also_seen" in row else {seen(row)}


def sighting(ts: int, tie: int, dataset: bytes, checksum: bytes) -> Sighting:
    """Return a row of `sighting` as plans know it."""
    return Sighting((moment(ts), tie), dataset.decode(), checksum.hex())
