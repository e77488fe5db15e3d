"""Converts rows to JSON bytes and back. Only this module uses orjson.

Invariants:

- A record is encoded before any lock is taken. A record that cannot be stored is rejected here, before any write.
- Compact JSON never contains a raw newline, because JSON escapes it. So newlines can separate records.

It does not know log lines or files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from manifestlog.errors import RecordRejectedError
from manifestlog.model.rows import FILE_SIZE_MAX, Row, is_checksum, normalise, observations

if TYPE_CHECKING:
    from collections.abc import Iterable

DecodeError = orjson.JSONDecodeError

PARSED_BYTES = 1 << 18
"""JSON to parse in one step: that takes less than a millisecond, which other threads may have to wait."""
_INPUTS, _END = b'"derived_from":["', b'"]}'

Encoded = tuple[bytes, str, tuple[str, ...]]
"""An encoded record: its JSON, checksum and source_ids.

A plain tuple, because one is created per line, and a named tuple takes five times as long.
"""


def dumps(value: object) -> bytes:
    """Return compact JSON with members in the given order, and times in UTC in the format of `rows.utc_text`."""
    # A copy, because orjson's result keeps a buffer of 1 KiB: records in memory would take four times as much.
    return bytes(memoryview(orjson.dumps(value, option=orjson.OPT_UTC_Z)))


def dumps_indented(value: object, indent: int) -> bytes:
    """Return JSON on several lines, with four spaces per level, for a place `indent` levels deep."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    lines = text.split(b"\n")
    # Lines of nested members start with two spaces per level; strings contain no raw newline.
    widths = [len(line) - len(line.lstrip(b" ")) for line in lines]
    pad = b"    " * indent
    return (b"\n" + pad).join(b" " * (2 * w) + line[w:] for w, line in zip(widths, lines, strict=True))


def loads(data: bytes | memoryview) -> Any:
    """Parse JSON. Raises `DecodeError` (a `ValueError`), also for too deep nesting and numbers out of range."""
    return orjson.loads(data)


def loads_all(records: Iterable[bytes]) -> list[Any]:
    """Parse many JSON values in one step, which takes half the time of one step each."""
    return orjson.loads(b"[%b]" % b",".join(records))  # type: ignore[no-any-return]


def inputs_of(raw: bytes) -> Iterable[str]:
    """Return the inputs of a record. Parses it only if they are not at its end, where they nearly always are."""
    at = raw.rfind(_INPUTS)
    if at < 0:
        return ()
    rest = raw[at + len(_INPUTS) :]
    if rest.endswith(_END) and b"]" not in rest[: -len(_END)]:
        return rest[: -len(_END)].decode().split('","')
    inputs: list[str] = loads(raw).get("derived_from", ())
    return inputs


def encode_row(row: Row, bytes_max: int) -> bytes:
    """Return a row as compact JSON.

    Raises `RecordRejectedError` for invalid Unicode, numbers out of range, and rows over `bytes_max`.
    """
    if row.get("file_size", 0) > FILE_SIZE_MAX:
        raise RecordRejectedError(f"file_size is greater than {FILE_SIZE_MAX}")
    # Before encoding: orjson allocates eight bytes per character, and aborts the process if that fails.
    if (characters := _characters(row)) > bytes_max:
        raise RecordRejectedError(
            f"it takes more than {characters} bytes as JSON, more than record_bytes_max ({bytes_max})"
        )
    try:
        data = dumps(row)
    except TypeError as error:
        raise RecordRejectedError(f"not writable as JSON ({error})") from None
    if len(data) > bytes_max:
        raise RecordRejectedError(f"it takes {len(data)} bytes as JSON, more than record_bytes_max ({bytes_max})")
    return data


def _characters(row: Row) -> int:
    """Return the number of characters in a row's strings, each of which takes at least one byte."""
    count = 0
    for value in row.values():
        if type(value) is str:
            count += len(value)
    return count + sum(map(_characters, row["also_seen"])) if "also_seen" in row else count


def encoded_row(raw: bytes, row: Row) -> Encoded:
    """Return the encoded record of a known row."""
    if "also_seen" in row:
        return raw, row["checksum"], tuple({seen["source_id"] for seen in observations(row)})
    return raw, row["checksum"], (row["source_id"],)


def encoded_bytes(raw: bytes) -> Encoded:
    """Return the encoded record for these bytes. Parses only unusual layouts. Raises `ValueError` if it is not a record."""
    found = _USUAL_RECORD.fullmatch(raw)
    if found and is_utf8(raw):
        return raw, found[2].decode(), (found[1].decode(),)
    row = loads(raw)
    if not (isinstance(row, dict) and is_checksum(row.get("checksum")) and "etag" in row):
        raise ValueError("the record has no valid checksum, or no etag")
    normal, _ = normalise(row, row["checksum"])
    if not _times(normal) <= _times(row):
        raise ValueError("the record has times that are not in normal form")
    return encoded_row(raw, row)


def _times(row: Row) -> set[str]:
    return {seen["ts_downloaded"] for seen in observations(row)}


# Possessive quantifiers take a third of the time of backtracking ones. The parser handles numeric escapes.
_CHARS = rb'[^"\\\x00-\x1f]'
_TEXT = rb'"%b*+(?:\\["\\/bfnrt]%b*+)*+"' % (_CHARS, _CHARS)
SECOND_PATTERN = rb"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
# A record with one source, whose name needs no escapes. Nearly every line matches, in one step.
RECORD_PATTERN = (
    rb'\{"source_id":"(%b+)","dataset":(?!"")%b,"checksum":"([0-9a-f]{64})","file_path":%b,"file_size":[1-9]\d{0,17},'
    rb'"etag":(?:null|%b),"ts_downloaded":"%b(?:\.\d{6})?Z","version":%b(?:,"last_modified":%b)?'
    rb'(?:,"derived_from":\["[0-9a-f]{64}"(?:,"[0-9a-f]{64}")*+\])?\}'
    % (_CHARS, _TEXT, _TEXT, _TEXT, SECOND_PATTERN, _TEXT, _TEXT)
)
_USUAL_RECORD = re.compile(RECORD_PATTERN)


def is_utf8(data: bytes) -> bool:
    """Return whether these bytes are valid UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
