"""Reads events: finds the lines of every segment, gives their events a position, and filters them.

Invariants:

- Events come in log order or in reverse, each once. A batch has one event for each record that it changes.
- Nothing is skipped silently: damage that appeared after a segment was closed raises `DamagedManifestError`.
- Events are ordered by the log, not by time, because a clock may be set back. So a search for a time never ends early:
  it finds the same events forward and in reverse, and skips only blocks that are entirely too early or too late.
- A cursor names the position after an event, and the CRC of the line there. It stays valid when the segment is moved or
  packed, and fits no other line that a power cut or a restored copy puts in that place.

It opens no files; `spans` does.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.history import batch_lines, keys
from manifestlog.engines.filelog.history.changes import changes
from manifestlog.engines.filelog.log import framing
from manifestlog.errors import CursorError
from manifestlog.model import codec
from manifestlog.model.events import Event, EventKind, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manifestlog.engines.filelog.history.changes import Parsed
    from manifestlog.engines.filelog.history.spans import Span
    from manifestlog.model.changes import Change

_CURSOR = re.compile(r"([0-9a-f]{8})\.([1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17}\.([0-9a-f]{8})(?:\.([1-9][0-9]{0,8}))?)")
_TIME = re.compile(rb'"ts":"([^"]*)"')
_ALL, _ALL_BACK = Query(), Query(reverse=True)
_NO_DIGITS = frozenset([b""])
"""No checksum is asked for: nothing is found."""
_PUT = EventKind.PUT
_PARSED_BYTES = 32 << 10
"""Lines to parse in one call; with many more, Python's garbage collector looks at the objects of them all."""


class InvalidLineError(Exception):
    """A line has a valid CRC, and no session has accepted it: somebody has forged it. Never leaves the engine."""

    def __init__(self, segment: int, offset: int, cause: Exception) -> None:
        super().__init__(f"segment {segment}: a line has a valid CRC but invalid content ({cause!r})")
        self.offset = offset


class Position(NamedTuple):
    """A place in the log: an offset in a segment, and how many events of the line that begins there are done."""

    segment: int
    offset: int
    done: int = 0
    crc: str = ""
    """The CRC digits of that line, or if none of its events is done, of the line that ends there; empty at offset 0."""


def tag_of(manifest: str, ts_created: str) -> str:
    """Return what a cursor begins with: it tells manifests apart."""
    return f"{crc32(f'{manifest} {ts_created}'.encode()):08x}"


def parse_cursor(text: str, tag: str, display: str) -> Position:
    """Return the position that a cursor names; raises `CursorError` if it is none of this manifest."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise CursorError(display, text, "is not a cursor")
    if found[1] != tag:
        raise CursorError(display, text, "is the cursor of another manifest")
    return Position(int(found[2]), int(found[3].partition(".")[0]), int(found[5] or 0), found[4] or "")


def cursor_text(tag: str, position: Position) -> str:
    """Return the cursor of this position."""
    segment, offset, done, crc = position
    return f"{tag}.{segment}.{offset}.{crc}.{done}" if done else f"{tag}.{segment}.{offset}" + (crc and f".{crc}")


class _Mark(NamedTuple):
    """What finds the lines that a query asks for: keys of packs, and what each of these lines holds."""

    keys: tuple[bytes, ...]
    text: bytes
    digits: frozenset[bytes] = frozenset()
    """In place of the text, one of several checksums."""
    is_of_contents: bool = False

    def find(self, data: bytes, start: int = 0) -> int:
        """Return where the next line that may be asked for has what it holds, or -1."""
        if not self.digits:
            return data.find(self.text, start)
        found = (one.start() for one in keys.CHECKSUM.finditer(data, start) if one[1] in self.digits)
        return next(found, -1)


def _mark(query: Query) -> _Mark | None:
    """Return the rarest mark of what the query asks for; None if it has none."""
    if query.checksums is not None:
        found = tuple(map(keys.checksum_key, sorted(query.checksums)))
        return (
            _Mark(found, b'"%b"' % found[0], is_of_contents=True)
            if len(found) == 1
            else _Mark(found, b"", frozenset(found) or _NO_DIGITS, is_of_contents=True)
        )
    if query.source_id is not None:
        return _Mark((keys.source_key(query.source_id),), b'"source_id":' + codec.dumps(query.source_id))
    if query.other_inputs:
        return _Mark((keys.OTHER_INPUTS_KEY,), keys.OTHER_INPUTS_TEXT)
    if query.run is not None:
        return _Mark((keys.run_key(query.run),), b'"run":' + codec.dumps(query.run))
    if len(query.kinds) == 1 and (key := keys.kind_key(*query.kinds)) is not None:
        return _Mark((key,), keys.kind_text(*query.kinds))
    return None


def keys_of(query: Query) -> tuple[bytes, ...] | None:
    """Return the keys under which packs know where to find what the query asks for; None if there are none."""
    mark = _mark(query)
    return None if mark is None else mark.keys


def events(spans: Iterable[Span], tag: str, query: Query, on_damage: Callable[[Span, int], None]) -> Iterator[Event]:
    """Yield the events of these spans that the query asks for, in reverse with `query.reverse`.

    `on_damage` is called with a span and the offset of a damaged range in it, and raises if no crash explains it.
    """
    mark = _mark(query)
    wanted = None if query in (_ALL, _ALL_BACK) else query.matches
    since = query.since.encode()
    for span in spans:
        if span.checked and ((mark is not None and mark.find(span.data) < 0) or _is_before(span.data, since)):
            continue
        found = _span_events(span, tag, query, mark, on_damage)
        in_order = reversed(list(found)) if query.reverse else found
        yield from in_order if wanted is None else filter(wanted, in_order)


def first_time(spans: Iterable[Span], on_damage: Callable[[Span, int], None]) -> str | None:
    """Return the time of the first line that has one. Raises `InvalidLineError`."""
    for span in spans:
        for _, _, data in _parsed_lines(span, None, on_damage):
            if isinstance(ts := data.get("ts"), str):
                return ts
    return None


def _is_before(lines: bytes, since: bytes) -> bool:
    """Return whether all of these lines are of an earlier time."""
    return bool(since) and max(_TIME.findall(lines), default=b"") < since


def _span_events(
    span: Span, tag: str, query: Query, mark: _Mark | None, on_damage: Callable[[Span, int], None]
) -> Iterator[Event]:
    segment = span.segment.number
    prefix = f"{tag}.{segment}."
    # A quote inside a text is escaped, so only a line of this run has these bytes; they tell without parsing it.
    skipped = None if query.without_run is None else b'"run":' + codec.dumps(query.without_run)
    if span.packed and mark is None and skipped is None:
        parsed = _parsed_pack(span)
    else:
        parsed = _parsed_lines(span, mark, on_damage, skipped)
    at = span.start
    try:
        for offset, end, data in parsed:
            at = offset
            if data["op"] == "put" and "event" not in data:  # most lines, so in few steps
                row = data["record"]
                yield Event(f"{prefix}{end}.{data['crc']}", data["ts"], _PUT, row["checksum"], row, {})
            elif found := changes(data):
                crc = data["crc"]
                places = Position(segment, offset, 0, crc), Position(segment, end, 0, crc)
                yield from _line_events(found, data["ts"], tag, *places, query)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidLineError(segment, at, error) from None


def _line_events(
    found: Sequence[Change | None], ts: str, tag: str, begin: Position, end: Position, query: Query
) -> Iterator[Event]:
    source_id = query.source_id
    for number, change in enumerate(found, 1):
        if change is None:
            continue
        row = change.row
        if source_id is not None and row is not None and change.details.get("source_id", row["source_id"]) != source_id:
            continue  # a batch may have thousands of records, of which one is asked for
        at = end if number == len(found) else begin._replace(done=number)
        yield Event(cursor_text(tag, at), ts, *change)


def _parsed_pack(span: Span) -> Iterator[tuple[int, int, Parsed]]:
    """Yield (offset, offset after it, members) of the lines of a pack, which are valid: many are parsed in one call."""
    text, end = BytesIO(span.data), span.start
    while some := text.readlines(_PARSED_BYTES):
        for line, data in zip(some, codec.loads_all(some), strict=True):
            begin, end = end, end + len(line)
            yield begin, end, data


def _parsed_lines(
    span: Span, mark: _Mark | None, on_damage: Callable[[Span, int], None], skipped: bytes | None = None
) -> Iterator[tuple[int, int, Parsed]]:
    for offset, end, line in _lines(span, mark, on_damage):
        if skipped is not None and skipped in line:
            continue
        try:
            data = batch_lines.parse(line, mark.find) if mark and mark.is_of_contents else codec.loads(line)
        except ValueError as error:
            raise InvalidLineError(span.segment.number, offset, error) from None
        yield offset, end, data


def _lines(span: Span, mark: _Mark | None, on_damage: Callable[[Span, int], None]) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, offset after it, bytes) of the lines of a span that may concern the query."""
    if span.checked and mark is not None:
        yield from _lines_with(span, mark, on_damage)
        return
    for piece in framing.split(span.data, span.start, span.segment.salt):
        if piece.line is None:
            on_damage(span, piece.offset)
        elif mark is None or mark.find(piece.line) >= 0:
            yield piece.offset, piece.end, piece.line


def _lines_with(span: Span, mark: _Mark, on_damage: Callable[[Span, int], None]) -> Iterator[tuple[int, int, bytes]]:
    data, position = span.data, 0
    while (found := mark.find(data, position)) >= 0:
        begin = data.rfind(b"\n", 0, found) + 1
        stop = data.find(b"\n", found)
        line = data[begin:] if stop < 0 else data[begin:stop]
        position = len(data) if stop < 0 else stop + 1
        if checksums.line_is_intact(line, span.segment.salt, span.start + begin):
            yield span.start + begin, span.start + position, line
        else:
            on_damage(span, span.start + begin)
