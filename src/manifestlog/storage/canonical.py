"""The canonical file: how it is laid out, how one is read that we or anybody else wrote.

::

    {
        "metadata": {
            "process": "extractor",
            …
        },
        "records": {
            "0a4d…": {"source_id":…},      one record a line, sorted by checksum
            "9f31…": {"source_id":…}
        }
    }

Invariants:

- The same records and metadata give the same bytes.
- A line's record begins `KEY_BYTES` behind the line's start, so the sorted file is its own table.
- Whatever cannot be understood is an error with its byte offset; it is never taken for an empty manifest.

Reading another tool's manifest (indented, unsorted, upper case) gives the canonical bytes in memory; the file is left alone.
"""

from __future__ import annotations

import json
import logging
from codecs import BOM_UTF8
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from zlib import crc32

from manifestlog.errors import DamagedManifestError, NotAManifestError
from manifestlog.rows import PROCESSES, Row, is_checksum, merge, normalise, utc_text
from manifestlog.storage import codec, disk, index
from manifestlog.storage.source_rows import source_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from manifestlog.storage.columns import Columns
    from manifestlog.storage.index import Entry

log = logging.getLogger(__name__)

METADATA = ("process", "etl_version", "root_dir", "total_records", "ts_created", "ts_updated")
KEY_BYTES = len('        "') + 64 + len('": ')
BETWEEN = b",\n"
FOOT = b"\n    }\n}\n"
EMPTY_FOOT = b"}\n}\n"
_SHAPE_KEYS_MAX = 5
_SHAPE_KEY_MAX = 40
_HEAD_BYTES_MAX = 1 << 20


class Counted(Protocol):
    """Whatever knows how many records it was made of."""

    @property
    def count(self) -> int: ...


C = TypeVar("C", bound=Counted)


class Canonical:
    """An open canonical file: its descriptor, or for another tool's file the canonical bytes in memory.

    It closes with its last user: an iteration may go on in the old file while a new one has taken its place.
    """

    def __init__(self, path: str, fd: int, memory: bytes | memoryview | None = None) -> None:
        self.path = path
        self.fd = fd
        self.memory = memory

    def read(self, offset: int, end: int) -> bytes:
        if self.memory is not None:
            return bytes(self.memory[offset:end])
        return disk.read(self.fd, end - offset, offset)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        if self.memory is not None:
            for at in range(start, end, disk.BLOCK_BYTES):
                yield bytes(self.memory[at : min(at + disk.BLOCK_BYTES, end)])
        else:
            yield from disk.blocks(self.fd, start, end)

    def record(self, place: tuple[int, int, int]) -> bytes:
        """The bytes of one record, checked against the CRC that the index keeps."""
        offset, after, crc = place
        raw = self.read(offset + KEY_BYTES, after - len(BETWEEN))
        if crc32(raw) != crc:
            raise DamagedManifestError(self.path, offset, "the record on this line is not what was written")
        return raw

    def __del__(self) -> None:
        with suppress(OSError):  # nobody is there to be told, and nothing was written
            disk.close(self.fd)


@dataclass(slots=True)
class Scanned:
    """What reading a whole canonical file gives; `crc` is over the file as it lies on disk."""

    metadata: Row
    columns: Columns
    crc: str


def head(metadata: Row, *, empty: bool) -> bytes:
    """Everything before the first record's line."""
    text = b'{\n    "metadata": ' + codec.dumps_indented(metadata, 1) + b',\n    "records": {'
    return text if empty else text + b"\n"


def entry(checksum: str, raw: bytes) -> bytes:
    """A record's line, without what separates it from the next."""
    return b'        "%b": %b' % (checksum.encode(), raw)


def render(metadata: Row, records: Iterable[tuple[str, bytes]]) -> bytes:
    """A whole canonical file; `records` are sorted by checksum."""
    lines = [entry(checksum, raw) for checksum, raw in records]
    body = BETWEEN.join(lines) + FOOT if lines else EMPTY_FOOT
    return head(metadata, empty=not lines) + body


def skeleton(metadata: Row) -> bytes:
    """An empty manifest."""
    return render(metadata, ())


def scan(source: Canonical) -> Scanned:
    """Read and check a whole canonical file, whoever wrote it, and give its index columns.

    Raises `DamagedManifestError` with the byte offset of what is wrong.
    """
    return Scanned(*fold(source, index.build))


def fold(source: Canonical, take: Callable[[Iterator[Entry], int], C]) -> tuple[Row, C, str]:
    """Read and check a whole canonical file: its metadata, what `take` makes of its records, the file's CRC.

    `take` gets the records one by one and the offset behind the last line. It is called a second time for a file of
    another layout, which has to be parsed whole. Raises `DamagedManifestError` with the byte offset of what is wrong.
    """
    end = disk.size(source.fd)
    crc = checksum(source, end)
    try:
        metadata, taken = _scan_lines(source, end, take)
    except _OtherLayout:
        source.memory = _import(source.path, disk.read(source.fd, end, 0))
        metadata, taken = _scan_lines(source, len(source.memory), take)
    return metadata, taken, crc


def checksum(source: Canonical, end: int) -> str:
    """CRC-32 of the first `end` bytes of the file on disk."""
    crc = 0
    for block in disk.blocks(source.fd, 0, end):
        crc = crc32(block, crc)
    return codec.hex_crc(crc)


class _OtherLayout(Exception):  # noqa: N818 -- a signal to read the file the slow way, not an error
    """This is not laid out as we would."""


def _scan_lines(source: Canonical, end: int, take: Callable[[Iterator[Entry], int], C]) -> tuple[Row, C]:
    found = _lines(source, end)
    start, metadata = _scan_head(found, end)
    taken = take(_entries(found, start, end), _end_of_records(source, end))
    if metadata["total_records"] != taken.count:
        raise _OtherLayout
    return metadata, taken


def _lines(source: Canonical, end: int) -> Iterator[bytes]:
    rest: list[bytes] = []
    for block in source.blocks(0, end):
        rest.append(block)
        if b"\n" in block:  # joined once a line, so that a line of any length is read in linear time
            *whole, last = b"".join(rest).split(b"\n")
            yield from whole
            rest = [last]
    if any(rest):
        raise _OtherLayout


def _scan_head(found: Iterator[bytes], end: int) -> tuple[int, Row]:
    first, size = [], 0
    for line in found:
        first.append(line)
        size += len(line) + 1
        if line.startswith(b'    "records": {') or size > _HEAD_BYTES_MAX:
            break
    taken = b"".join(line + b"\n" for line in first)
    try:
        empty = taken.endswith(b'"records": {}\n')
        metadata = codec.loads(taken.rstrip(b"{}\n") + b"{}}")["metadata"]
        metadata, _ = checked_metadata(metadata)
        expected = head(metadata, empty=empty) + (b"}\n" if empty else b"")
    except (ValueError, KeyError, TypeError):
        raise _OtherLayout from None
    if taken != expected or (empty and end != len(taken) + 2):
        raise _OtherLayout
    return len(taken), metadata


def _entries(found: Iterator[bytes], offset: int, end: int) -> Iterator[Entry]:
    before = b""
    last = False
    for line in found:
        if line in (b"    }", b"}"):
            continue
        if last or line[:9] != b'        "' or line[73:76] != b'": ':
            raise _OtherLayout
        last = line[-1:] != b","
        raw = line[KEY_BYTES:] if last else line[KEY_BYTES:-1]
        key = line[9:73]
        if key <= before:
            raise _OtherLayout
        before = key
        row = _canonical_row(key, raw)
        yield bytes.fromhex(row["checksum"]), offset, crc32(raw), source_rows(row)
        offset += len(line) + 1
    if before and not (last and offset == end - len(FOOT) + 1):
        raise _OtherLayout


def _canonical_row(key: bytes, raw: bytes) -> Row:
    try:
        row: Row
        row, naive = normalise(codec.loads(raw), key.decode())
        same = codec.dumps(row) == raw
    except (ValueError, TypeError):  # no record of ours; or one nested deeper than it could be written again
        raise _OtherLayout from None
    if naive or not same or not is_checksum(key.decode()):
        raise _OtherLayout
    return row


def _end_of_records(source: Canonical, end: int) -> int:
    foot = source.read(max(0, end - len(FOOT)), end)
    if foot == FOOT:
        return end - len(FOOT) + len(BETWEEN)
    return end


def checked_metadata(metadata: Any) -> tuple[Row, bool]:
    """The metadata in normal form, and whether a time had no zone; raises `ValueError` saying what is wrong."""
    if not isinstance(metadata, dict):
        raise ValueError("metadata is no JSON object")
    fixed = dict(metadata)
    fixed.setdefault("total_records", 0)
    if type(fixed["total_records"]) is not int:
        raise ValueError("metadata.total_records is no whole number")
    for name in METADATA:
        if name not in fixed:
            raise ValueError(f"metadata has no {name}")
    for name in ("process", "etl_version", "root_dir"):
        if not isinstance(fixed[name], str):
            raise ValueError(f"metadata.{name} is no text")
    if fixed["process"] not in PROCESSES:
        raise ValueError(f"metadata.process is {fixed['process']!r:.40}, not one of {', '.join(PROCESSES)}")
    if not fixed["etl_version"]:
        raise ValueError("metadata.etl_version is empty")
    naive = False
    for name in ("ts_created", "ts_updated"):
        try:
            moment = datetime.fromisoformat(fixed[name])
            naive = naive or moment.tzinfo is None
            fixed[name] = utc_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"metadata.{name} is no ISO-8601 time") from None
    known = {name: fixed[name] for name in METADATA}
    return known | {name: value for name, value in fixed.items() if name not in known}, naive


def _import(path: str, data: bytes) -> bytes:
    """The canonical form of a manifest that another tool wrote, or that is damaged."""
    document = _parse(path, data)
    if not isinstance(document, dict) or not {"metadata", "records"} & set(document):
        raise NotAManifestError(path, _shape(document))
    if not isinstance(document, dict) or not {"metadata", "records"} == set(document):
        raise DamagedManifestError(path, 0, 'expected one object with "metadata" and "records", and nothing else')
    if not isinstance(document["records"], dict):
        raise DamagedManifestError(path, max(0, data.find(b'"records"')), '"records" is no JSON object')
    try:
        metadata, naive = checked_metadata(document["metadata"])
        codec.dumps(metadata)
    except (ValueError, TypeError) as error:
        raise DamagedManifestError(path, max(0, data.find(b'"metadata"')), str(error)) from None
    rows: dict[str, Row] = {}
    for key, value in document["records"].items():
        row, no_zone = _import_record(path, data, key, value)
        naive = naive or no_zone
        known = rows.get(row["checksum"])
        rows[row["checksum"]] = merge(known, row) if known else row
    if metadata["total_records"] != len(document["records"]):
        log.warning("%s: total_records says %s, there are %d", path, metadata["total_records"], len(rows))
    if naive:
        log.warning("%s: times without a zone were read as UTC", path)
    metadata["total_records"] = len(rows)
    _writable(path, data, b'"metadata"', metadata)
    return render(metadata, ((c, _writable(path, data, c.encode(), rows[c])) for c in sorted(rows)))


def _shape(document: Any) -> str:
    """What a JSON document is, for people."""
    if isinstance(document, list):
        return f"a list of {len(document)} values"
    if isinstance(document, dict):
        keys = [repr(key[:_SHAPE_KEY_MAX]) for key in list(document)[:_SHAPE_KEYS_MAX]]
        more = ", …" if len(document) > len(keys) else ""
        return f"an object with the keys {', '.join(keys)}{more}" if keys else "an empty object"
    return "a text" if isinstance(document, str) else f"nothing but {json.dumps(document)[:_SHAPE_KEY_MAX]}"


def _writable(path: str, data: bytes, place: bytes, value: Row) -> bytes:
    """The value as JSON; raises `DamagedManifestError` for members deeper or greater than can be written again."""
    try:
        return codec.dumps(value)
    except TypeError as error:
        reason = f"a member that could be read but not written again ({error})"
        raise DamagedManifestError(path, max(0, data.find(place)), reason) from None


def _import_record(path: str, data: bytes, key: str, value: object) -> tuple[Row, bool]:
    try:
        row, naive = normalise(value, key)
        codec.dumps(row)  # a number beyond 64 bits, in a member that nobody looks at, is refused here with its place
        return row, naive
    except (ValueError, TypeError) as error:
        raise DamagedManifestError(path, max(0, data.find(json.dumps(key).encode())), str(error)) from None


def _parse(path: str, data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedManifestError(path, error.start, "not UTF-8") from None
    try:
        codec.loads(data.removeprefix(BOM_UTF8))  # stricter than json: no NaN, no lone surrogates, a limit on nesting
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise DamagedManifestError(path, offset, f"not JSON ({error.msg})") from None
    except RecursionError:
        raise DamagedManifestError(path, 0, "nested too deeply") from None
    except ValueError as error:
        key = str(error).encode()
        raise DamagedManifestError(path, max(0, data.rfind(key)), f"the key {error} stands twice") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(key[:80])
            seen.add(key)
    return found
