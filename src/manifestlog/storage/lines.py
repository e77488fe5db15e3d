"""The log's grammar: what each line says, how it is written, how lines are found again among damaged bytes.

::

    {"op":"open","format":1,"manifest":…,"ts_created":…,"segment":…,"salt":…,"previous":…,"bases":[…],"crc":…}
    {"op":"put","ts":…,"synced":…,"record":{…},"crc":…}
    {"op":"batch","ts":…,"synced":…,"records":[{…},…],"crc":…}
    {"op":"forget","ts":…,"synced":…,"checksum":…,"crc":…}
    {"op":"meta","ts":…,"synced":…,"metadata":{…},"crc":…}
    {"op":"compacting","ts":…,"base":{…},"seconds":…,"crc":…}   a canonical like this one may appear now
    {"op":"compacted","ts":…,"base":{…},"seconds":…,"crc":…}    it has appeared, and is the only one that counts
    {"op":"seal","length":…,"lines":…,"chain":…,"next":…,"crc":…}

Invariants:

- A line that decodes has a right CRC; nothing of a line with a wrong one is ever used.
- A length or offset is never taken from damaged bytes: the next line is found by newline, or by how every line begins.
- `synced` says through which offset this segment is known to be on the disk; damage before it cannot be a crash's.

No I/O: bytes in, values out.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.errors import NewerFormatError
from manifestlog.rows import REQUIRED, Row, is_checksum, observations
from manifestlog.storage import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINE_START = re.compile(rb'\{"op":"')
_LINE_END = re.compile(rb',"crc":"[0-9a-f]{8}"\}')


class Base(NamedTuple):
    """A canonical file, by its bytes, and the last segment whose records it holds."""

    size: int
    crc: str
    covers: int


class Summary(NamedTuple):
    """The valid part of a segment, as its successor states it; `chain` is the CRC-32 over the lines' CRCs."""

    segment: int
    length: int
    lines: int
    chain: str


class Opening(NamedTuple):
    """The first line of a segment."""

    manifest: str
    ts_created: str
    segment: int
    salt: int
    previous: Summary | None
    bases: tuple[Base, ...]


class Put(NamedTuple):
    """A record of the log: its bytes, and just enough of what they say to find it again."""

    raw: bytes
    checksum: str
    source_ids: tuple[str, ...]


class Op(NamedTuple):
    """What a line says, or several `put` lines in a row: the records of a `put` or `batch`, everything else in `data`.

    `ts` is the time of the first line, `data["ts_last"]`, where there are several, that of the last.
    """

    kind: str
    ts: str
    puts: list[Put]
    data: dict[str, Any]


class Piece(NamedTuple):
    """A stretch of a segment: a valid line (its newline taken off), or damage where `line` is None."""

    offset: int
    end: int
    line: bytes | None
    terminated: bool = True


def _head(op: bytes, ts: str, synced: int) -> bytes:
    mark = b'"synced":%d,' % synced if synced else b""
    return b'{"op":"%b","ts":"%b",%b' % (op, ts.encode(), mark)


def put_body(ts: str, synced: int, record: bytes) -> bytes:
    return b'%b"record":%b' % (_head(b"put", ts, synced), record)


def batch_body(ts: str, synced: int, records: Iterable[bytes]) -> bytes:
    return b'%b"records":[%b]' % (_head(b"batch", ts, synced), b",".join(records))


def forget_body(ts: str, synced: int, checksum: str) -> bytes:
    return b'%b"checksum":"%b"' % (_head(b"forget", ts, synced), checksum.encode())


def meta_body(ts: str, synced: int, metadata: dict[str, str]) -> bytes:
    return b'%b"metadata":%b' % (_head(b"meta", ts, synced), codec.dumps(metadata))


def base_body(kind: str, ts: str, base: Base, seconds: float) -> bytes:
    return codec.dumps({"op": kind, "ts": ts, "base": base._asdict(), "seconds": round(seconds, 3)})[:-1]


def seal_body(summary: Summary) -> bytes:
    told = {"length": summary.length, "lines": summary.lines, "chain": summary.chain}
    return codec.dumps({"op": "seal", **told, "next": summary.segment + 1})[:-1]


def opening_line(opening: Opening) -> bytes:
    previous = opening.previous._asdict() if opening.previous else None
    body = codec.dumps(
        {"op": "open", "format": codec.FORMAT}
        | opening._asdict()
        | {"salt": codec.hex_crc(opening.salt), "previous": previous, "bases": [b._asdict() for b in opening.bases]}
    )
    return codec.seal_line(body[:-1], opening.salt, 0)


def decode_opening(line: bytes, path: str) -> Opening | None:
    """The opening in a segment's first line, or None when it is damaged.

    Raises `NewerFormatError` before any checksum is looked at, so that a newer file is not called corrupt.
    """
    try:
        data = codec.loads(line)
        if data["op"] == "open" and int(data["format"]) > codec.FORMAT:
            raise NewerFormatError(path, int(data["format"]), codec.FORMAT)
        salt = int(data["salt"], 16)
        if not codec.line_is_intact(line, salt, 0):
            return None
        previous = Summary(**data["previous"]) if data["previous"] else None
        bases = tuple(Base(**base) for base in data["bases"])
        return Opening(data["manifest"], data["ts_created"], data["segment"], salt, previous, bases)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def put_of_row(raw: bytes, row: Row) -> Put:
    """A record whose row is at hand."""
    if "also_seen" in row:
        return Put(raw, row["checksum"], tuple({seen["source_id"] for seen in observations(row)}))
    return Put(raw, row["checksum"], (row["source_id"],))


def put_of(raw: bytes) -> Put:
    """A record by its bytes, parsed only if they are not laid out as ours; raises `ValueError` for what is no record."""
    found = _USUAL_RECORD.fullmatch(raw)
    if found:
        return Put(raw, found[2].decode(), (found[1].decode(),))
    row = codec.loads(raw)
    missing = _RECORD_MEMBERS - row.keys()
    if missing:
        raise ValueError(f"a record without {', '.join(sorted(missing))}")
    if not is_checksum(row["checksum"]):
        raise ValueError("a record without a checksum")
    return put_of_row(raw, row)


# Never gives back what it took: a third of the time of the same pattern that may.
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# A record with one source, whose name needs no escapes: what nearly every line holds, recognised in one step.
_RECORD_PATTERN = (
    rb'\{"source_id":"([^"\\]+)","dataset":%b,"checksum":"([0-9a-f]{64})","file_path":%b,"file_size":\d+,'
    rb'"etag":(?:null|%b),"ts_downloaded":%b,"version":%b(?:,"last_modified":%b)?\}' % ((_TEXT,) * 6)
)
_USUAL_RECORD = re.compile(_RECORD_PATTERN)
_USUAL_PUT = re.compile(
    rb'\{"op":"put","ts":"([^"\\]{27})",(?:"synced":(\d+),)?"record":(%b),"crc":"[0-9a-f]{8}"\}' % _RECORD_PATTERN
)
_RECORD_MEMBERS = frozenset(REQUIRED)


def usual_put(line: bytes) -> tuple[str, int, Put] | None:
    """The (time, synced mark, record) of an intact line as nearly every one is, cut at its places instead of parsed."""
    found = _USUAL_PUT.fullmatch(line)
    if found is None:
        return None
    ts, synced, raw, source_id, checksum = found.groups()
    return ts.decode(), int(synced) if synced else 0, Put(raw, checksum.decode(), (source_id.decode(),))


def decode(line: bytes) -> Op:
    """What an intact line says.

    Raises `ValueError`, `KeyError` or `TypeError` when it says nothing known.
    """
    data = codec.loads(line)
    kind = data["op"]
    _check_shape(kind, data)
    rows = [data["record"]] if kind == "put" else data["records"] if kind == "batch" else ()
    puts = [put_of(codec.dumps(row)) for row in rows]
    return Op(kind, data.get("ts", ""), puts, data)


_MEMBERS = {
    "put": ("ts", "record"),
    "batch": ("ts", "records"),
    "forget": ("ts", "checksum"),
    "meta": ("ts", "metadata"),
    "compacting": ("ts", "base", "seconds"),
    "compacted": ("ts", "base", "seconds"),
    "seal": ("length", "lines", "chain"),
}


def _check_shape(kind: str, data: dict[str, Any]) -> None:
    """Raise `ValueError` or `KeyError` for a line that has a right CRC and yet cannot be ours."""
    missing = [name for name in _MEMBERS[kind] if name not in data]
    if missing:
        raise ValueError(f"{kind} without {', '.join(missing)}")
    if "base" in data:
        Base(**data["base"])
    if kind == "forget" and not is_checksum(data["checksum"]):
        raise ValueError("forget of no checksum")


def pieces(blocks: Iterable[bytes], salt: int) -> Iterator[Piece]:
    """Every line and every damage of a whole segment, given in blocks; an unfinished rest at the end is left out."""
    waiting: list[bytes] = []
    start = 0
    for block in blocks:
        whole = block.rfind(b"\n") + 1
        waiting.append(block[:whole] if whole else block)
        if whole:
            data = b"".join(waiting)
            yield from split(data, start, salt)
            start += len(data)
            waiting = [block[whole:]]
    yield from split(b"".join(waiting), start, salt)


def split(data: bytes, start: int, salt: int) -> Iterator[Piece]:
    """Cut `data`, which stands at offset `start` of a segment, into lines and damage.

    An unfinished rest at the end is not yielded: it is a line being written, or a torn tail.
    """
    position = 0
    while position < len(data):
        stop = data.find(b"\n", position)
        line = data[position:] if stop < 0 else data[position:stop]
        offset = start + position
        position += len(line) + 1
        if codec.line_is_intact(line, salt, offset):
            yield Piece(offset, offset + len(line) + (stop >= 0), line, stop >= 0)
        else:
            yield from _salvage(line, offset, salt, terminated=stop >= 0)


def _salvage(span: bytes, offset: int, salt: int, *, terminated: bool) -> Iterator[Piece]:
    """The valid lines inside a span that is none as a whole: a newline was hit, or junk stands before a line."""
    done = 0
    starts = [found.start() for found in _LINE_START.finditer(span)]
    for start, stop in pairwise([*starts, len(span)]):
        # Inside a valid line every quote of a text is escaped, so none can begin within another.
        length = _intact_length(span[start:stop], salt, offset + start)
        if length:
            if start > done:
                yield Piece(offset + done, offset + start, None)
            done = start + length
            whole = terminated and done == len(span)
            yield Piece(offset + start, offset + done + whole, span[start:done], whole)
    if done < len(span) and (terminated or done):
        yield Piece(offset + done, offset + len(span) + terminated, None, terminated)


def _intact_length(fragment: bytes, salt: int, offset: int) -> int:
    ends = [found.end() for found in _LINE_END.finditer(fragment)]
    # The last is the line's own; a few more for members of that name inside a record, not all: a hostile line has many.
    return next((end for end in ends[:-5:-1] if codec.line_is_intact(fragment[:end], salt, offset)), 0)
