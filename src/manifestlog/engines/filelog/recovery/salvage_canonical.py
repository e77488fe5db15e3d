"""Salvages a damaged canonical file: finds its records, the readable metadata, and the gaps.

Invariants:

- A record counts only if it parses on its own, is a valid record, and its key is its checksum.
- A line in our layout is used as it is. Between such lines, records are found by how they begin, which also finds them
  in another tool's layout and around a damaged newline.
- A file in our layout is not held in memory; one in another order or layout is parsed in memory.

It knows neither the log nor the index; `reconcile` decides which of these records count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog import progress
from manifestlog.engines.filelog.canonical import scan
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk
from manifestlog.model import codec, document
from manifestlog.model.document import KEY_BYTES
from manifestlog.model.rows import Row, merge, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.engines.filelog.canonical.columns import Block

Records = Callable[[], Iterator[tuple[str, bytes]]]
"""Iterates over (checksum, record) in canonical order, from the start at each call."""

_ENTRY = re.compile(r'"([0-9a-fA-F]{64})"\s*:\s*(?=\{)')
_KEY = re.compile(r'"([0-9a-fA-F]{64})"')
_MEMBER = re.compile(r'"([a-z_]+)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
_HEAD_BYTES_MAX = 1 << 20
_NAMED_MAX = 1000
_EMPTY = b" \t\r\n,{}"


class Gap(NamedTuple):
    """A range of the file without a readable record, and the checksums that are readable in it."""

    offset: int
    end: int
    named: list[str]


@dataclass(slots=True)
class Salvaged:
    """A canonical file as it was found. `whole`: it is a valid manifest in any layout, so nothing had to be salvaged."""

    identity: tuple[int, str]
    whole: bool
    metadata: Row
    count: int
    records: Records
    gaps: list[Gap] = field(default_factory=list)


@dataclass(slots=True)
class _Count:
    count: int = 0

    def take(self, blocks: Iterable[Block], _end: int) -> _Count:
        self.count = sum(len(block.crcs) for block in blocks)
        return self


def read(path: str) -> Salvaged | None:
    """Read the canonical file; return None if there is none."""
    try:
        source = Canonical(path, disk.open_read(path))
    except FileNotFoundError:
        return None
    try:
        metadata, counted, crc = scan.fold(source, _Count().take)
    except DamagedManifestError:
        return _in_pieces(source)
    identity = (disk.size(source.fd), crc)
    return Salvaged(identity, True, metadata, counted.count, lambda: _good_lines(source, []))


def _in_pieces(source: Canonical) -> Salvaged:
    size = disk.size(source.fd)
    gaps: list[Gap] = []
    count, before, in_order = 0, "", True
    for count, (checksum, _) in enumerate(_good_lines(source, gaps), 1):  # noqa: B007 -- the last one is the count
        in_order = in_order and before < checksum
        before = checksum

    def streamed() -> Iterator[tuple[str, bytes]]:
        return _good_lines(source, [])

    records: Records = streamed
    if not in_order:
        found = _joined(streamed())
        count = len(found)
        records = lambda: iter(found)  # noqa: E731 -- the other branch's is a function because it is long
    identity = (size, scan.checksum(source, size))
    return Salvaged(identity, False, _metadata(source), count, records, gaps)


def _joined(records: Iterator[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Sort records into canonical order, merging duplicates."""
    rows: dict[str, bytes] = {}
    for checksum, raw in records:
        known = rows.get(checksum)
        same = known is None or known == raw
        rows[checksum] = raw if known is None or same else codec.dumps(merge(codec.loads(known), codec.loads(raw)))
    return sorted(rows.items())


def _good_lines(source: Canonical, gaps: list[Gap]) -> Iterator[tuple[str, bytes]]:
    """Yield the records of a file, read line by line; append the gaps between them to `gaps`."""
    bad: list[bytes] = []
    start = position = 0
    for line in _lines(source):
        found = _of_line(line)
        if found is None:
            bad.append(line)
        position += len(line)
        # The head is a range of its own, so that a damaged first record does not count as part of it.
        if found is not None or line.startswith(b'    "records": {'):
            yield from _of_stretch(b"".join(bad), start, gaps)
            bad = []
            start = position
        if found is not None:
            yield found
    yield from _of_stretch(b"".join(bad), start, gaps)


def _lines(source: Canonical) -> Iterator[bytes]:
    """Yield the file's lines with their newlines; the last one may have none."""
    end = disk.size(source.fd) if source.memory is None else len(source.memory)
    waiting: list[bytes] = []
    for block in progress.over(source.blocks(0, end), source.path, end):
        first, newline, rest = block.partition(b"\n")
        waiting.append(first + newline)
        if newline:
            yield b"".join(waiting)
            found = rest.splitlines(keepends=True) if b"\r" not in rest else _split(rest)
            last = found.pop() if found and not found[-1].endswith(b"\n") else b""
            yield from found
            waiting = [last]
    if any(waiting):
        yield b"".join(waiting)


def _split(data: bytes) -> list[bytes]:
    """Split at newlines only, since damage may contain other line ends."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + [data.rpartition(b"\n")[2]]


def _of_line(line: bytes) -> tuple[str, bytes] | None:
    """Return the record on a line in our layout, or None."""
    if line[:9] != b'        "' or line[73:76] != b'": ':
        return None
    raw = line[KEY_BYTES:].removesuffix(b"\n").removesuffix(b",")
    try:
        key = line[9:73].decode("ascii")
        row, naive = normalise(codec.loads(raw), key)
        if naive or codec.dumps(row) != raw or row["checksum"] != key:
            return None
    except ValueError:
        return None
    return key, raw


def _of_stretch(data: bytes, start: int, gaps: list[Gap]) -> Iterator[tuple[str, bytes]]:
    """Yield the records in other bytes, which are found by how they begin."""
    text = data.decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder()
    done = 0
    for begin in _ENTRY.finditer(text):
        if begin.start() < done:
            continue
        try:
            value, end = decoder.raw_decode(text, begin.end())
            row, _ = normalise(value, begin[1])
            raw = codec.dumps(row)
        except (ValueError, TypeError, RecursionError):
            continue
        start = _note_gap(text[done : begin.start()], start, gaps) + _length(text[begin.start() : end])
        done = end
        yield row["checksum"], raw
    _note_gap(text[done:], start, gaps)


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _note_gap(text: str, offset: int, gaps: list[Gap]) -> int:
    """Record a range without records, unless it cannot have held any; return the offset after it."""
    data = text.encode("utf-8", "surrogateescape")
    named = list(dict.fromkeys(key.lower() for key in _KEY.findall(text)))[:_NAMED_MAX]
    if data.strip(_EMPTY):
        gaps.append(Gap(offset, offset + len(data), named))
    return offset + len(data)


# -- the metadata ------------------------------------------------------------------------------------------------------


def _metadata(source: Canonical) -> Row:
    """Return the members of the metadata that are readable, each parsed on its own."""
    head = source.read(0, _HEAD_BYTES_MAX).decode("utf-8", "replace")
    first = _ENTRY.search(head)
    found: Row = {}
    for name, text in _MEMBER.findall(head[: first.start()] if first else head):
        value = _readable(name, text)
        if name not in found and value is not None:
            found[name] = value
    return found


def _readable(name: str, text: str) -> Any:
    """Return the value of one member if it is valid; made-up values of the others allow checking it alone."""
    others = {"process": "loader", "etl_version": "1", "root_dir": "/"}
    others |= dict.fromkeys(("ts_created", "ts_updated"), "2000-01-01T00:00:00Z")
    if name not in document.METADATA:
        return None
    try:
        checked, _ = document.checked_metadata(others | {name: json.loads(text)})
    except ValueError:
        return None
    return checked[name]
