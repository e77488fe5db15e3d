"""The CRC-32 of log lines and files: how it is seeded, written and compared.

A log line is one JSON object and a newline. Its last member is the CRC, always 18 bytes before the closing newline::

    {"op":"put","ts":"2023-01-01T12:00:00.000000Z","record":{…},"crc":"8f3a01bc"}⏎
    └──────────────────── covered by the CRC ─────────────────┘└── CRC_TAIL ───┘

Invariants:

- The CRC-32 is seeded with the segment's salt and the line's offset, so a moved, copied or stale line does not match.
- CRCs are compared as bytes; `"8F3A01BC"` is not `"8f3a01bc"`.

CRC-32 finds accidents. It is no defence against somebody who edits a line and recomputes it.
"""

from __future__ import annotations

from zlib import crc32

CRC_TAIL = len(b',"crc":"00000000"}')


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
