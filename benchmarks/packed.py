"""How the key-value peers store a record: an array of its fields in JSON, by orjson; and the keys of their two indexes.

Text and arrays, because no schema is needed to read them back; orjson, because it is the fastest that is well kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from benchmarks.peers import Fields, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    Get = Callable[[bytes], bytes | None]


class Put(Protocol):
    """Stores a record under its checksum's key, and that key under its source's if it is the latest."""

    def __call__(self, key: bytes, value: bytes, source: bytes | None) -> None: ...


def packed(record: Fields) -> bytes:
    return orjson.dumps(tuple(record))


def unpacked(value: bytes) -> Fields:
    return Fields._make(orjson.loads(value))


def source_key(source_id: str, dataset: str) -> bytes:
    return f"{source_id}\0{dataset}".encode()


def current_of(source: bytes, latest: Get, record: Get) -> Fields | None:
    """The latest record of a source, through the index by source."""
    key = latest(source)
    value = None if key is None else record(key)
    found = None if value is None else unpacked(value)
    # The content may have gone over to another source since (`alias`).
    return found if found is None or source_key(found.source_id, found.dataset) == source else None


def added(event: Fields, latest: Get, record: Get, put: Put) -> str:
    """Decide and store, inside of a transaction of the caller's; gives the verdict."""
    key, source = bytes.fromhex(event.checksum), source_key(event.source_id, event.dataset)
    value = record(key)
    known = None if value is None else unpacked(value)
    current = current_of(source, latest, record)
    word = verdict(event, known, current)
    if word != "duplicate":
        is_latest = current is None or current.ts_downloaded <= event.ts_downloaded
        put(key, packed(event), source if is_latest else None)
    return word
