"""Cuts another tool's manifest into pieces that are parsed one by one, so that a file of any size fits in memory.

A piece is a run of members of `records`. It is cut where a record ends and a key of 64 digits follows::

    "records": {  "0a4d…": {…},  "9f31…": {…},  "b7c2…": {…},  …  }
                 └─────── piece ────────────┘  └─── piece ──────

Invariants:

- If each piece is valid JSON between braces, the file is valid JSON, and its records are those of the pieces, because
  there is only a comma between two pieces. So a cut in the wrong place is noticed, and no place is guessed.

It parses nothing, and does not know what a record is. If it does not understand the file, it raises `UnusualError`, and
the file is parsed as a whole.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from enum import Enum
from typing import TYPE_CHECKING

from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_PIECE_BYTES_MAX = 1 << 26
_CUT_BYTES_MAX = 1 << 10
_BLANK = b" \t\r\n"
_W = rb"[ \t\r\n]*"
_METADATA_FIRST = re.compile(rb'%b\{%b"metadata"%b:%b(?=\{)' % (_W, _W, _W, _W))
_RECORDS_FIRST = re.compile(rb'%b\{%b"records"%b:%b\{' % (_W, _W, _W, _W))
_RECORDS_NEXT = re.compile(rb'\}%b,%b"records"%b:%b\{' % (_W, _W, _W, _W))
_METADATA_LAST = re.compile(rb'\}%b,%b"metadata"%b:%b(?=\{)' % (_W, _W, _W, _W))
_CUT = re.compile(rb'\}%b,%b(?="[0-9A-Fa-f]{64}"%b:%b\{)' % (_W, _W, _W, _W))


class UnusualError(Exception):
    """The file has another shape, or an error. A signal to parse it as a whole; it reaches no caller."""


class Kind(Enum):
    """What a piece is."""

    METADATA = "metadata"
    RECORDS = "records"


Piece = tuple[Kind, bytes]
"""The JSON of the metadata, or members of `records` without the braces around them."""


def cut(blocks: Iterator[bytes]) -> Iterator[Piece]:
    """Cut a file into pieces; raises `UnusualError`."""
    text = next(blocks, b"").removeprefix(BOM_UTF8)
    if found := _METADATA_FIRST.match(text):
        records = _RECORDS_NEXT.search(text, found.end())
        if records is None:
            raise UnusualError
        yield Kind.METADATA, text[found.end() : records.start() + 1]
        last = yield from _records(text[records.end() :], blocks)
        yield Kind.RECORDS, _before_brace(last)
    elif found := _RECORDS_FIRST.match(text):
        last = yield from _records(text[found.end() :], blocks)
        metadata = _METADATA_LAST.search(last)
        if metadata is None:
            raise UnusualError
        yield Kind.RECORDS, _before_brace(last[: metadata.start() + 1] + b"}")
        yield Kind.METADATA, _before_brace(last[metadata.end() :] + b"}")
    else:
        raise UnusualError


def _records(text: bytes, blocks: Iterator[bytes]) -> Generator[Piece, None, bytes]:
    """Yield the records up to the last cut, and return the rest of the file."""
    searched = 0
    while True:
        start = 0
        while found := _CUT.search(text, max(start + codec.PARSED_BYTES, searched)):
            yield Kind.RECORDS, text[start : found.start() + 1]
            start = found.end()
            searched = 0
        text = text[start:]
        searched = max(0, len(text) - _CUT_BYTES_MAX)
        block = next(blocks, None)
        if block is None:
            return text
        if len(text) > _PIECE_BYTES_MAX:
            raise UnusualError
        text += block


def _before_brace(text: bytes) -> bytes:
    """Return what stands before the two braces that end the file."""
    inner = text.rstrip(_BLANK)
    for _ in range(2):
        if not inner.endswith(b"}"):
            raise UnusualError
        inner = inner[:-1].rstrip(_BLANK)
    return inner
