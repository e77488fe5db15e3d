"""Parses a batch line for a search, but only the records that mention the searched content or source.

A batch may have ten thousand records, and parsing them all takes 50 ms.

Invariants:

- Records that are left out are None at their places, so that the others keep their numbers.
- A record that is left out mentions nothing that is searched for, neither itself nor in the inputs of its event.
- If records contain objects, or the line is unusual in any way, the whole line is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BEGIN = b'{"op":"batch",'
_RECORDS, _END = b'"records":[', b"}]"
_BETWEEN = b'},{"source_id":"'
_CHECKSUM = b'"checksum":"'
BYTES_MIN = 1 << 14
"""A shorter line is parsed in less time than this takes."""


def parse(line: bytes, find: Callable[[bytes, int], int]) -> dict[str, Any]:
    """Return the members of a line. Raises `ValueError`."""
    if len(line) >= BYTES_MIN and line.startswith(_BEGIN):
        found = _parse_some(line, find)
        if found is not None:
            return found
    data: dict[str, Any] = codec.loads(line)
    return data


def _parse_some(line: bytes, find: Callable[[bytes, int], int]) -> dict[str, Any] | None:
    """Return the members with some of the records; None if all of the line must be parsed."""
    begin = line.find(_RECORDS) + len(_RECORDS)
    end = line.find(_END, begin) + 1
    count = line.count(_BETWEEN, begin, end) + 1
    # An object inside a record begins like a record, and has no checksum, or one too many.
    if not 0 < begin < end or line.count(_CHECKSUM, begin, end) != count:
        return None
    try:
        data: dict[str, Any] = codec.loads(line[:begin] + line[end:])
    except ValueError:
        return None  # what ended there was a list inside a record
    shared, own = data.get("event", {}), data.get("events", [])
    if not isinstance(shared, dict) or "inputs" in shared or not isinstance(own, list):
        return None
    records: list[Any] = [None] * count
    for number, raw in _mentioning(line, begin, end, find):
        records[number] = codec.loads(raw)
    others = [n for n, one in enumerate(own[:count]) if isinstance(one, dict) and "inputs" in one]
    if others:
        pieces = line[begin:end].split(_BETWEEN)
        for number in others:
            records[number] = codec.loads(_whole(pieces, number))
    return {**data, "records": records}


def _mentioning(line: bytes, begin: int, end: int, find: Callable[[bytes, int], int]) -> Iterator[tuple[int, bytes]]:
    """Yield number and JSON of each record between these places that has the text."""
    number, start = 0, begin
    while begin <= (place := find(line, start)) < end:
        number += line.count(_BETWEEN, start, place)
        before = line.rfind(_BETWEEN, start, place)
        first = start if before < 0 else before + 2
        after = line.find(_BETWEEN, place, end)
        last = end if after < 0 else after + 1
        yield number, line[first:last]
        if after < 0:
            return
        start, number = after + 2, number + 1


def _whole(pieces: list[bytes], number: int) -> bytes:
    """Return the JSON of a record from what is between the separators."""
    head = _BETWEEN[2:] if number else b""
    return head + pieces[number] + (b"}" if number < len(pieces) - 1 else b"")
