"""Encodes rows of the tables in the binary format of COPY.

Invariants:

- A row has the columns in the order of its COPY statement, as the server's own binary input reads them.

Pure functions.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from manifestlog.engines.postgres.values import seen_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.postgres.staged import Logged
    from manifestlog.model.rows import Row

BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
CONTENT = "COPY manifestlog.content (manifest_id, checksum, body) FROM STDIN (FORMAT binary)"
SIGHTING = (
    "COPY manifestlog.sighting (manifest_id, pair, ts, tie, checksum, source, dataset) FROM STDIN (FORMAT binary)"
)
LOG = (
    "COPY manifestlog.log (manifest_id, seq, ts, kind, checksum, source, run, body, details) FROM STDIN (FORMAT binary)"
)
MENTION = "COPY manifestlog.mention (manifest_id, what, seq) FROM STDIN (FORMAT binary)"

_length = Struct("!i").pack
_content = Struct("!hiii32si").pack
_sighting = Struct("!hiii16siqiqi32si16si").pack
_log = Struct("!hiiiqiq").pack
_mention = Struct("!hiii").pack
_number = Struct("!iq").pack
_NULL = _length(-1)


def content(manifest_id: int, digest: bytes, body: bytes) -> bytes:
    """Return a row of `content`."""
    return _content(3, 4, manifest_id, 32, digest, len(body)) + body


def sightings(manifest_id: int, digest: bytes, row: Row) -> Iterator[bytes]:
    """Yield the rows of `sighting` of one record."""
    for pair, ts, tie, source, dataset in seen_in(row):
        head = _sighting(7, 4, manifest_id, 16, pair, 8, ts, 8, tie, 32, digest, 16, source, len(dataset))
        yield head + dataset


def log(manifest_id: int, seq: int, ts: int, event: Logged) -> bytes:
    """Return a row of `log`."""
    kind = event.kind.encode()
    parts = [_log(9, 4, manifest_id, 8, seq, 8, ts), _length(len(kind)), kind]
    for value in (event.checksum, event.source, event.run, event.body, event.details):
        parts += [_NULL] if value is None else [_length(len(value)), value]
    return b"".join(parts)


def mentions(manifest_id: int, seq: int, event: Logged) -> Iterator[bytes]:
    """Yield the rows of `mention` of one event."""
    for what in event.mentions:
        yield b"".join((_mention(3, 4, manifest_id, len(what)), what, _number(8, seq)))
