"""Converts a canonical file in another layout (indented, unsorted, upper case) to our layout, in memory.

Invariants:

- The result is the canonical bytes of the same records. The file itself is not changed.
- Anything that cannot be parsed is an error with its byte offset, never an empty manifest.
- The file is read in pieces, of which only the records' JSON is kept. Only a file with an error, or with an unusual
  shape, is parsed as a whole, which takes some ten times its size in memory.
"""

from __future__ import annotations

import json
import logging
from array import array
from codecs import BOM_UTF8
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog.canonical import parsing, pieces
from manifestlog.engines.filelog.canonical.columns import Block
from manifestlog.engines.filelog.canonical.pieces import Kind, UnusualError
from manifestlog.engines.filelog.canonical.source_rows import source_rows
from manifestlog.errors import DamagedManifestError, NotAManifestError
from manifestlog.files import disk
from manifestlog.model import codec, document
from manifestlog.model.document import BETWEEN, EMPTY_FOOT, checked_metadata
from manifestlog.model.rows import FIELDS, Row, in_field_order, merge, normal_time, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

_SHAPE_KEYS_MAX = 5
_SHAPE_KEY_MAX = 40
_RECORDS_AT_ONCE = 512
_FIELDS = frozenset(FIELDS)
_LINE = b'        "%b": %b,\n'
_QUOTE_ESCAPED = b"\\u0022"


class Converted(NamedTuple):
    """The canonical bytes of another tool's file, and what a scan of them would find."""

    data: memoryview
    metadata: Row
    records: Block
    end: int
    """The end of the records, as an index has it."""


def convert(path: str, blocks: Callable[[], Iterator[bytes]]) -> Converted:
    """Return the canonical bytes of a manifest in another layout; `blocks` reads the file from its beginning.

    Raises `NotAManifestError` for JSON of another shape, and `DamagedManifestError` with the byte offset of the error.
    """
    try:
        return _in_pieces(path, blocks())
    except UnusualError:
        return _as_a_whole(path, b"".join(blocks()))


# -- in pieces ---------------------------------------------------------------------------------------------------------


class _Records:
    """The records of a file as JSON, by checksum, their source rows, and what a warning says about them."""

    def __init__(self) -> None:
        self.encoded: dict[str, bytes] = {}
        self.source_rows = bytearray()
        self.count = 0
        self.naive = False

    def take(self, piece: bytes) -> None:
        """Add the members of a piece; raises `UnusualError`."""
        try:
            found = codec.loads(b"{%b}" % piece)
            if not self._take_usual(piece, found):
                self._take_unusual(piece)
        except (ValueError, TypeError, RecursionError):
            raise UnusualError from None
        self.count += len(found)
        if len(self.encoded) != self.count:
            raise UnusualError  # a key twice is an error, but two keys that differ in case are one content

    def _take_usual(self, piece: bytes, found: dict[str, Row]) -> bool:
        """Add the records of a piece if they can be checked by columns; return whether they can."""
        rows = list(found.values())
        try:
            in_order = parsing.are_usual(rows)
            if not in_order:
                if not all(isinstance(row, dict) and row.keys() <= _FIELDS for row in rows):
                    return False
                rows = list(map(in_field_order, rows))
                if not parsing.are_usual(rows):
                    return False
            if not parsing.have_normal_times(rows):
                in_order = False
                rows = [row | {"ts_downloaded": self._time(row["ts_downloaded"])} for row in rows]
            checksums, found_rows = parsing.usual_source_rows(rows)
        except (ValueError, TypeError, LookupError):
            return False
        encoded = codec.dumps(rows)
        # A member that is there twice is lost, and its quotation marks with it.
        quotes = encoded.count(b'"') + 2 * len(rows) if in_order else codec.dumps(found).count(b'"')
        if list(checksums) != list(found) or piece.count(b'"') != quotes or _QUOTE_ESCAPED in piece:
            return False
        self.source_rows += found_rows
        # None of these records has an object inside, and text has no bare quotation mark or newline.
        raws = encoded[1:-1].replace(b'},{"source_id":"', b'}\n{"source_id":"').split(b"\n")
        self.encoded.update(zip(checksums, raws, strict=True))
        return True

    def _time(self, value: object) -> str:
        time, naive = normal_time(value)
        self.naive = self.naive or naive
        return time

    def _take_unusual(self, piece: bytes) -> None:
        """Add the records of a piece, checked one by one. Raises `ValueError` or `TypeError`."""
        for key, value in json.loads(b"{%b}" % piece, object_pairs_hook=_without_repeats).items():
            row, naive = normalise(value, key)
            self.add(row, codec.dumps(row))
            self.naive = self.naive or naive

    def add(self, row: Row, encoded: bytes) -> None:
        self.encoded[row["checksum"]] = encoded
        self.source_rows += b"".join(source_rows(row))


def _in_pieces(path: str, blocks: Iterator[bytes]) -> Converted:
    records = _Records()
    metadata: Row | None = None
    naive = False
    for kind, piece in pieces.cut(blocks):
        if kind is Kind.RECORDS:
            records.take(piece)
            disk.yield_gil()
        else:
            metadata, naive = _metadata(piece)
    if metadata is None:
        raise UnusualError
    _warn(path, metadata["total_records"], records.count, len(records.encoded), naive=naive or records.naive)
    metadata["total_records"] = len(records.encoded)
    return _rendered(metadata, records)


def _metadata(piece: bytes) -> tuple[Row, bool]:
    try:
        codec.loads(piece)
        metadata, naive = checked_metadata(json.loads(piece, object_pairs_hook=_without_repeats))
        codec.dumps(metadata)
    except (ValueError, TypeError, RecursionError):
        raise UnusualError from None
    return metadata, naive


def _rendered(metadata: Row, records: _Records) -> Converted:
    """Return the document; takes the records out on the way, so that none is in memory twice."""
    encoded, checksums = records.encoded, sorted(records.encoded)
    out = bytearray(document.head(metadata, empty=not checksums))
    offsets, crcs = array("Q"), array("I")
    for first in range(0, len(checksums), _RECORDS_AT_ONCE):
        some = checksums[first : first + _RECORDS_AT_ONCE]
        raws = list(map(encoded.pop, some))
        lines = list(map(_LINE.__mod__, zip(map(str.encode, some), raws, strict=True)))
        offsets.extend(accumulate(map(len, lines[:-1]), initial=len(out)))
        crcs.extend(map(crc32, raws))
        out += b"".join(lines)
        disk.yield_gil()
    if checksums:
        del out[-len(BETWEEN) :]
    end = len(out) + len(BETWEEN) if checksums else len(out) + len(EMPTY_FOOT)
    out += document.foot(empty=not checksums)
    block = Block(bytes.fromhex("".join(checksums)), offsets, crcs, bytes(records.source_rows))
    return Converted(memoryview(out), metadata, block, end)


def _warn(path: str, told: int, count: int, kept: int, *, naive: bool) -> None:
    if told != count:
        log.warning("%s: total_records is %s, but the file has %d", path, told, kept)
    if naive:
        log.warning("%s: times without a time zone were read as UTC", path)


# -- as a whole --------------------------------------------------------------------------------------------------------


def _as_a_whole(path: str, data: bytes) -> Converted:
    found = _parse(path, data)
    if not isinstance(found, dict) or not {"metadata", "records"} & set(found):
        raise NotAManifestError(path, _shape(found))
    if not isinstance(found, dict) or not {"metadata", "records"} == set(found):
        raise DamagedManifestError(path, 0, 'expected one object with "metadata" and "records", and nothing else')
    if not isinstance(found["records"], dict):
        raise DamagedManifestError(path, max(0, data.find(b'"records"')), '"records" must be a JSON object')
    try:
        metadata, naive = checked_metadata(found["metadata"])
        codec.dumps(metadata)
    except (ValueError, TypeError) as error:
        raise DamagedManifestError(path, max(0, data.find(b'"metadata"')), str(error)) from None
    rows: dict[str, Row] = {}
    for key, value in found["records"].items():
        row, no_zone = _import_record(path, data, key, value)
        naive = naive or no_zone
        known = rows.get(row["checksum"])
        rows[row["checksum"]] = merge(known, row) if known else row
    _warn(path, metadata["total_records"], len(found["records"]), len(rows), naive=naive)
    metadata["total_records"] = len(rows)
    _writable(path, data, b'"metadata"', metadata)
    records = _Records()
    for checksum, row in rows.items():
        records.add(row, _writable(path, data, checksum.encode(), row))
    return _rendered(metadata, records)


def _shape(document: Any) -> str:
    """Describe a JSON document for a message."""
    if isinstance(document, list):
        return f"a list of {len(document)} values"
    if isinstance(document, dict):
        keys = [repr(key[:_SHAPE_KEY_MAX]) for key in list(document)[:_SHAPE_KEYS_MAX]]
        more = ", …" if len(document) > len(keys) else ""
        return f"an object with the keys {', '.join(keys)}{more}" if keys else "an empty object"
    return "a string" if isinstance(document, str) else f"nothing but {json.dumps(document)[:_SHAPE_KEY_MAX]}"


def _writable(path: str, data: bytes, place: bytes, value: Row) -> bytes:
    """Encode a value as JSON; raises `DamagedManifestError` if it is too deep or too large to be written again."""
    try:
        return codec.dumps(value)
    except TypeError as error:
        reason = f"a member cannot be written as JSON again ({error})"
        raise DamagedManifestError(path, max(0, data.find(place)), reason) from None


def _import_record(path: str, data: bytes, key: str, value: object) -> tuple[Row, bool]:
    try:
        row, naive = normalise(value, key)
        codec.dumps(row)  # refuses a number beyond 64 bits, also in an unknown member, with its place
        return row, naive
    except (ValueError, TypeError) as error:
        raise DamagedManifestError(path, max(0, data.find(json.dumps(key).encode())), str(error)) from None


def _parse(path: str, data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedManifestError(path, error.start, "not UTF-8") from None
    try:
        codec.loads(data.removeprefix(BOM_UTF8))  # stricter than json: no NaN, no lone surrogates, limited nesting
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise DamagedManifestError(path, offset, f"not JSON ({error.msg})") from None
    except RecursionError:
        raise DamagedManifestError(path, 0, "nested too deeply") from None
    except ValueError as error:
        key = str(error).encode()
        raise DamagedManifestError(path, max(0, data.rfind(key)), f"duplicate key {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(key[:80])
            seen.add(key)
    return found
