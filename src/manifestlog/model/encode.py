"""Rows and log lines to bytes and back; bytes in, bytes out, and the only owner of orjson.

A log line is one JSON object and a newline. Its last member is the CRC, always 18 bytes before the closing newline::

    {"op":"put","ts":"2023-01-01T12:00:00.000000Z","record":{…},"crc":"8f3a01bc"}⏎
    └──────────────────── covered by the CRC ─────────────────┘└── CRC_TAIL ───┘

Invariants:

- The CRC-32 is seeded with the segment's salt and the line's offset, so a moved, copied or stale line does not match.
- CRCs are compared as bytes; `"8F3A01BC"` is not `"8f3a01bc"`.
- A raw newline never occurs inside a line: JSON escapes it. That is what makes newline framing sound.

CRC-32 finds accidents. It is no defence against somebody who edits a line and recomputes it.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import orjson

from manifestlog.errors import RecordRejectedError
from manifestlog.model.rows import FILE_SIZE_MAX, Row

CRC_TAIL = len(b',"crc":"00000000"}')
FORMAT = 1

DecodeError = orjson.JSONDecodeError


def dumps(value: object) -> bytes:
    """Compact JSON, members in the order given; a time in UTC as `rows.utc_text` writes it."""
    # A copy, because orjson's result keeps a buffer of 1 KiB alive: records held in memory cost four times as much.
    return bytes(memoryview(orjson.dumps(value, option=orjson.OPT_UTC_Z)))


def dumps_indented(value: object, indent: int) -> bytes:
    """JSON over several lines, four spaces a level, as it stands `indent` levels deep."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    lines = text.split(b"\n")
    # Members of a nested object begin a line with two spaces a level; strings hold no raw newline.
    widths = [len(line) - len(line.lstrip(b" ")) for line in lines]
    pad = b"    " * indent
    return (b"\n" + pad).join(b" " * (2 * w) + line[w:] for w, line in zip(widths, lines, strict=True))


def loads(data: bytes | memoryview) -> Any:
    """Parse JSON; raises `DecodeError` (a `ValueError`), also for nesting too deep and numbers out of range."""
    return orjson.loads(data)


def encode_row(row: Row, bytes_max: int) -> bytes:
    """A row as compact JSON.

    Raises `RecordRejectedError` for text that is no Unicode, numbers that no reader takes, and rows over `bytes_max`.
    """
    if row.get("file_size", 0) > FILE_SIZE_MAX:
        raise RecordRejectedError(f"its file_size is greater than {FILE_SIZE_MAX}")
    # Before it is encoded: orjson makes room for eight bytes a character, and ends the process when there is none.
    if (characters := _characters(row)) > bytes_max:
        raise RecordRejectedError(
            f"it takes more than {characters} bytes as JSON, {bytes_max} are allowed (record_bytes_max)"
        )
    try:
        data = dumps(row)
    except TypeError as error:
        raise RecordRejectedError(f"it cannot be written as JSON ({error})") from None
    if len(data) > bytes_max:
        raise RecordRejectedError(f"it takes {len(data)} bytes as JSON, {bytes_max} are allowed (record_bytes_max)")
    return data


def _characters(row: Row) -> int:
    """The length of a row's texts, each of which takes a byte or more for a character."""
    count = 0
    for value in row.values():
        if type(value) is str:
            count += len(value)
    return count + sum(map(_characters, row["also_seen"])) if "also_seen" in row else count


def seal_line(body: bytes, salt: int, offset: int) -> bytes:
    """Close a line that will stand at `offset`: `body` is a JSON object without its closing brace."""
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body, crc32(offset.to_bytes(8, "little"), salt)))


def line_is_intact(line: bytes, salt: int, offset: int) -> bool:
    """Whether a line, its newline taken off, is what was written at `offset`."""
    body = line[:-CRC_TAIL]
    crc = crc32(body, crc32(offset.to_bytes(8, "little"), salt))
    return line[-CRC_TAIL:] == b',"crc":"%08x"}' % crc


def line_crc(line: bytes) -> bytes:
    """The eight digits of a line's CRC, newline taken off."""
    return line[-10:-2]


_FORTH = [crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]
"""CRC-32's table: what each byte does to a zero state."""
_BACK = {entry >> 24: number for number, entry in enumerate(_FORTH)}


def unwound(crc: int, data: bytes) -> int:
    """The start with which `crc32(data, start)` gives `crc`: a CRC can be run backwards."""
    state = crc ^ 0xFFFFFFFF
    for byte in reversed(data):
        number = _BACK[state >> 24]
        state = ((state ^ _FORTH[number]) << 8 & 0xFFFFFFFF) | number ^ byte
    return state ^ 0xFFFFFFFF


def written_at(line: bytes, salt: int) -> int:
    """The one offset below 4 GiB at which this line, its newline taken off, is intact; with its offset for `salt`, the salt.

    CRC-32 takes a number of four bytes in by an exclusive or, and turns what comes of it about without loss.
    """
    return unwound(unwound(int(line_crc(line), 16), line[:-CRC_TAIL]), bytes(8)) ^ salt


def hex_crc(crc: int) -> str:
    return f"{crc:08x}"
