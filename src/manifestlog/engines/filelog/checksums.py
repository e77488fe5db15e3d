"""The CRC-32 of log lines and files: seeding, writing and comparing.

A log line is one JSON object and a newline. Its last member is the CRC, always 18 bytes before the closing newline::

    {"op":"put","ts":"2023-01-01T12:00:00.000000Z","record":{…},"crc":"8f3a01bc"}⏎
    └──────────────────── covered by the CRC ─────────────────┘└── CRC_TAIL ───┘

Invariants:

- The CRC-32 is seeded with the segment's salt and the line's offset, so a moved, copied or stale line does not match.
- CRCs are compared as bytes: `"8F3A01BC"` differs from `"8f3a01bc"`.

CRC-32 detects accidents. It does not detect an edited line whose CRC was recomputed.
"""

from __future__ import annotations

from zlib import crc32

CRC_TAIL = len(b',"crc":"00000000"}')


def seal_line(body: bytes, salt: int, offset: int) -> bytes:
    """Return the finished line for `offset`: `body` (a JSON object without its closing brace), CRC and newline."""
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body, crc32(offset.to_bytes(8, "little"), salt)))


def line_is_intact(line: bytes, salt: int, offset: int) -> bool:
    """Return whether a line, without its newline, is what was written at `offset`."""
    body = line[:-CRC_TAIL]
    crc = crc32(body, crc32(offset.to_bytes(8, "little"), salt))
    return line[-CRC_TAIL:] == b',"crc":"%08x"}' % crc


def line_crc(line: bytes) -> bytes:
    """Return the eight digits of a line's CRC; the line comes without its newline."""
    return line[-10:-2]


_FORTH = [crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]
"""CRC-32's table: the state after each byte, starting from zero."""
_BACK = {entry >> 24: number for number, entry in enumerate(_FORTH)}


def unwound(crc: int, data: bytes) -> int:
    """Return the `start` for which `crc32(data, start)` is `crc`: a CRC can be run backwards."""
    state = crc ^ 0xFFFFFFFF
    for byte in reversed(data):
        number = _BACK[state >> 24]
        state = ((state ^ _FORTH[number]) << 8 & 0xFFFFFFFF) | number ^ byte
    return state ^ 0xFFFFFFFF


def written_at(line: bytes, salt: int) -> int:
    """Return the only offset below 4 GiB at which this line, without its newline, is intact.

    Given the offset in place of `salt`, it returns the salt: CRC-32 combines a four-byte number by exclusive or, and
    then applies only reversible steps.
    """
    return unwound(unwound(int(line_crc(line), 16), line[:-CRC_TAIL]), bytes(8)) ^ salt


def hex_crc(crc: int) -> str:
    return f"{crc:08x}"
