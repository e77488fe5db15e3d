"""What the fuzzer calls: one function a reader, bytes in, nothing out; whatever it raises is a find.

Invariants:

- Without atheris these are plain functions: `test_corpus` replays what the fuzzer has kept, in `make test`.
- Each has an oracle: only the documented exceptions, and where something was understood, it is what stands in the bytes.
- The first byte says whether checksums are made to fit afterwards. Without that a fuzzer never comes past the first CRC;
  with it alone, nobody would see what happens to bytes that do not fit.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import chain, islice, pairwise
from unittest import mock
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.canonical import columns, index, scan
from manifestlog.engines.filelog.canonical.columns import DIGEST
from manifestlog.engines.filelog.canonical.index import Index, IndexDamagedError
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.engines.filelog.canonical.source_rows import source_rows
from manifestlog.engines.filelog.history import keys, reading
from manifestlog.engines.filelog.history.compression import compress
from manifestlog.engines.filelog.history.pack import Kept, Pack
from manifestlog.engines.filelog.history.spans import Span
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.engines.filelog.log.lines import LogEntry
from manifestlog.engines.filelog.log.segment import Segment
from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.errors import CursorError, DamagedManifestError, NewerFormatError
from manifestlog.files import disk
from manifestlog.model import codec, document
from manifestlog.model.before import undone
from manifestlog.model.events import Event, Query, event_members
from manifestlog.model.models import ManifestMetadata, record_from_row
from manifestlog.model.rows import Row, is_checksum, observations

Target = Callable[[bytes], None]

FIT = 0x01
"""Make the CRCs of lines, or of the index's header, fit."""
FIT_ALL = 0x02
"""Of the index: the CRCs of its buckets, too."""

SALT = 0xC0FFEE
_CRC = re.compile(rb',"crc":".{8}"\}\Z', re.DOTALL)
_SALT = re.compile(rb'"salt":"([0-9a-f]{1,8})"')
_SPACE = re.compile(rb'"(?:[^"\\]|\\.)*"|(\s)')
_LOOKUPS_MAX = 64


def _memory_file(data: bytes) -> int:
    """A file that no disk knows."""
    fd = os.memfd_create("fuzz")
    os.write(fd, data)
    return fd


def fitted(data: bytes, salt: int, start: int = 0) -> bytes:
    """The same lines, each that ends like one with the CRC that it must have at its place."""
    made = b""
    for line in data.split(b"\n"):
        if _CRC.search(line):
            made += checksums.seal_line(line[: -checksums.CRC_TAIL], salt, start + len(made))
        else:
            made += line + b"\n"
    return made[:-1]


# -- the lines of a log ------------------------------------------------------------------------------------------------


def check_lines(data: bytes) -> None:
    """`split` finds every intact line and names every other byte; `decode` and the short cut say the same."""
    mode, data = data[:1], data[1:]
    if mode and mode[0] & FIT:
        data = fitted(data, SALT, 1000)
    position = 1000
    for piece in framing.split(data, 1000, SALT):
        assert piece.offset == position < piece.end <= 1000 + len(data)
        position = piece.end
        if piece.line is not None:
            raw = data[piece.offset - 1000 :]
            assert raw.startswith(piece.line)
            assert piece.terminated == raw[len(piece.line) :].startswith(b"\n")
            assert checksums.line_is_intact(piece.line, SALT, piece.offset)
            _check_meaning(piece.line, piece.offset)
    rest = data[position - 1000 :]
    assert b"\n" not in rest
    with suppress(NewerFormatError):
        lines.decode_header(data.partition(b"\n")[0], "fuzz")


def _check_meaning(line: bytes, offset: int) -> None:
    usual = lines.usual_puts(line + b"\n", 0, offset, SALT)
    try:
        op = lines.decode(line)
    except (ValueError, KeyError, TypeError):
        assert usual is None, "the short cut takes what is no line"
        return
    if usual is not None:
        assert (op.kind, op.ts, op.data.get("synced", 0)) == ("put", usual.ts, usual.synced)
        ((raw, *told),) = usual.puts
        ((parsed, *meant),) = op.puts
        assert told == meant
        assert codec.loads(raw) == codec.loads(parsed)


# -- a whole segment ---------------------------------------------------------------------------------------------------


def check_segment(data: bytes) -> None:
    """A segment is read or refused; read in two steps it says what it says at once."""
    mode, data = data[:1], data[1:]
    if mode and mode[0] & FIT:
        salt = _SALT.search(data)
        data = fitted(data, int(salt[1], 16) if salt else SALT)
    ops = _read(data)
    if ops is None:
        return
    _use(ops)
    first = data.find(b"\n") + 1
    cut = first + mode[0] * (len(data) - first) // 256
    # What a seal makes of the damage around it is told at the end of what was read: there is one, and nothing behind it.
    sealed_once = all(op.kind != "seal" for op in ops[:-1])
    if first and data.endswith(b"\n") and sealed_once and not _makes_a_line(data, cut):
        stepwise = _read(data, cut)
        assert stepwise is not None, "refused when it is read in two steps"
        assert _puts(stepwise) == _puts(ops)


def _makes_a_line(data: bytes, cut: int) -> bool:
    """Whether the first part of a longer line ends here with a right CRC: nobody writes that, and it may be refused."""
    salt = _SALT.search(data)
    start = data.rfind(b"\n", 0, cut) + 1
    intact = checksums.line_is_intact(data[start:cut], int(salt[1], 16) if salt else SALT, start)
    return intact and data[cut : cut + 1] != b"\n"


def _read(data: bytes, cut: int | None = None) -> list[LogEntry] | None:
    fd = _memory_file(data if cut is None else data[:cut])
    try:
        segment = Segment("fuzz", fd)
    except (DamagedManifestError, NewerFormatError):
        return None
    try:
        ops = list(segment.advance())
        if cut is not None:
            os.pwrite(fd, data[cut:], cut)
            ops += segment.advance()
        assert segment.tail.length <= len(data)
        return ops
    except DamagedManifestError as error:
        _check_place(error, data)
        return None
    finally:
        segment.unpin()


def _check_place(error: DamagedManifestError, data: bytes) -> None:
    assert 0 <= error.offset <= len(data)


def _puts(ops: list[LogEntry]) -> list[tuple[str, Row]]:
    return [(checksum, codec.loads(raw)) for op in ops for raw, checksum, _ in op.puts]


def _use(ops: list[LogEntry]) -> None:
    """What a state does with them, and what a reader sees then."""
    overlay = Overlay()
    for op in ops:
        overlay.put_all(op.puts, 1)
        if op.kind == "forget":
            overlay.forget(op.data["checksum"], 1)
    for checksum, (raw, _) in islice(overlay.entries.items(), _LOOKUPS_MAX):
        if raw is not None:
            row = codec.loads(raw)
            assert row["checksum"] == checksum
            if not all(_is_time(seen["ts_downloaded"]) for seen in observations(row)):
                continue  # the 30th of February under a right CRC: nobody but a forger writes that
            record_from_row(row)
            source_rows(row)
            for seen in observations(row):
                assert checksum in [key for _, key in overlay.newest(seen["source_id"], seen["dataset"])]


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


# -- the canonical file ------------------------------------------------------------------------------------------------


def check_canonical(data: bytes) -> None:
    """A canonical is refused, or every record in it is found again; what needed no import is canonical to the byte."""
    source = Canonical("fuzz", _memory_file(data))
    try:
        scanned = scan.scan(source)
    except DamagedManifestError as error:
        _check_place(error, data)
        return
    assert scanned.crc == f"{crc32(data):08x}"
    ManifestMetadata.model_validate({name: scanned.metadata[name] for name in document.METADATA})
    lay = data if source.memory is None else source.memory
    found = Index(b"".join(index.encode(scanned.columns, index.Head(disk.Stamp(0, 0, 0), "", 0, scanned.metadata))))
    records = []
    for number in range(found.count):
        raw = source.record(found.place(number))
        row = codec.loads(raw)
        assert row["checksum"] == found.digest(number).hex()
        assert found.find(found.digest(number)) == number
        record_from_row(row)
        _check_sources(found, number, row)
        records.append((row["checksum"], raw))
    assert document.render(scanned.metadata, records) == lay
    assert {key.lower() for key in json.loads(data.decode("utf-8-sig"))["records"]} == {key for key, _ in records}


def _check_sources(found: Index, number: int, row: Row) -> None:
    for seen in observations(row):
        groups = found.groups(seen["source_id"], seen["dataset"])
        assert number in [n for group in groups for at in group for n in found.named(at)]


# -- the index ---------------------------------------------------------------------------------------------------------


def check_index(data: bytes) -> None:
    """An index is refused when it is opened or when a damaged bucket is touched, or answers within its bounds."""
    mode, data = data[:1], data[1:]
    flags = mode[0] if mode else 0
    try:
        found = Index(_fitted_index(data, flags))
    except (IndexDamagedError, ValueError, KeyError, TypeError):  # what `Index.open` takes for "no index"
        return
    digests = [bytes([first]) * DIGEST for first in (0, 1, 127, 255)]
    digests += [found.digest(number) for number in range(min(found.count, _LOOKUPS_MAX))]
    for digest in digests:
        with suppress(IndexDamagedError):
            number = found.find(digest)
            assert -1 <= number < found.count
            assert number < 0 or found.digest(number) == digest
            assert 0 <= found.position(digest) <= found.count
            if number >= 0:
                found.place(number)
    for source_id, dataset in (("a", None), ("a", "systems"), ("source-1", "systems"), ("source-2", None)):
        with suppress(IndexDamagedError):
            for group in found.groups(source_id, dataset):
                named = chain.from_iterable(map(found.named, reversed(group)))
                assert all(0 <= number < found.count for number in islice(named, _LOOKUPS_MAX))
    with suppress(IndexDamagedError):
        assert len(list(found.checksums())) == found.count
        columns = found.columns()
        assert len(columns.offsets) == len(columns.crcs) + 1


def _fitted_index(data: bytes, flags: int) -> bytes:
    """The same index with a right CRC over its header and, if asked for, over its buckets."""
    if not flags & FIT or len(data) < index._FIXED:
        return data
    size = int.from_bytes(data[len(index.MAGIC) : len(index.MAGIC) + 4], "little")
    header = data[index._FIXED : index._FIXED + size]
    made = bytearray(data)
    made[index._FIXED - 4 : index._FIXED] = crc32(header).to_bytes(4, "little")
    if flags & FIT_ALL:
        with suppress(IndexDamagedError, ValueError, KeyError, TypeError):
            _fit_buckets(made, Index(bytes(made)), index._FIXED + size)
    return bytes(made)


def _fit_buckets(made: bytearray, found: Index, position: int) -> None:
    checks = position + _padded(4 * len(found._bounds))
    for number, (start, end) in enumerate(pairwise(found._bounds)):
        check = columns.record_check(found._digests, found._offsets, found._crcs, start, end)
        made[checks + 4 * number : checks + 4 * number + 4] = check.to_bytes(4, "little")
    sources = found._sources_at - _padded(4 * len(found._source_checks))
    for number, (start, end) in enumerate(pairwise(found._source_bounds)):
        check = columns.source_check(found._sources, start, end)
        made[sources + 4 * number : sources + 4 * number + 4] = check.to_bytes(4, "little")


def _padded(size: int) -> int:
    return size + -size % 8


# -- packs, cursors and events -----------------------------------------------------------------------------------------


def check_pack(data: bytes) -> None:
    """A pack is refused when it is opened or when a damaged block is touched, or gives lines that follow each other.

    With `FIT`: JSON, an empty line, and the lines of one block, which are made into a pack with right CRCs.
    """
    mode, data = data[:1], data[1:]
    if mode and mode[0] & FIT:
        data = _fitted_pack(data)
    try:
        with mock.patch.object(disk, "open_read", return_value=_memory_file(data)):
            found = Pack("fuzz")
        found.refuse_foreign(found.manifest, found.ts_created, (found.segments[0].number, found.segments[-1].number))
    except (DamagedManifestError, NewerFormatError, IndexError):
        return
    for key in (keys.source_key("a"), keys.checksum_key("0" * 64), keys.run_key("r"), keys.OTHER_INPUTS_KEY):
        assert all(0 <= number < keys.BLOCKS_MAX for number in found.keys.blocks(key))
    for number, block in enumerate(found.blocks):
        with suppress(DamagedManifestError):
            pieces = found.pieces(number)
            assert [(p.segment, p.start, len(p.data)) for p in pieces] == [tuple(part) for part in block.parts]


def _fitted_pack(data: bytes) -> bytes:
    text, _, content = data.partition(b"\n\n")
    block = compress(content)
    with suppress(ValueError, KeyError, TypeError, IndexError):
        members = codec.loads(text)
        members["blocks"][0][:3] = [0, len(block), crc32(block)]
        text = codec.dumps(members)
    text = compress(text)
    text += b"\0" * (-len(text) % 4)
    table = struct.pack("<3I", 0, 1, 0x12340000)
    body = struct.pack("<III", 0x184D2A50, 20 + len(text) + len(table), len(text)) + text + table
    return block + body + struct.pack("<II8s", len(body) + 16, crc32(body), b"MLPACK01")


def check_cursor(data: bytes) -> None:
    """A cursor is refused, or written back as it was."""
    text = data.decode("utf-8", "replace")
    try:
        at = reading.parse_cursor(text, "0123abcd", "fuzz")
    except CursorError:
        return
    assert reading.cursor_text("0123abcd", at) == text


def check_events(data: bytes) -> None:
    """Whatever a valid line says: each of its events can be looked at, printed as JSON, and found by what it says."""
    data = fitted(data, SALT, 1000)
    kept = Kept(1, SALT, 2, None, anew=False, length=1000 + len(data))
    for piece in framing.split(data, 1000, SALT):
        try:
            if piece.line is None or not _is_compact(piece.line) or lines.decode(piece.line).kind == "open":
                continue
        except (ValueError, KeyError, TypeError):
            continue
        spans = [Span(kept, piece.offset, piece.line + b"\n", checked=True)]
        for event in reading.events(spans, "0123abcd", Query(), _no_damage):
            _look_at(event, spans)


def _is_compact(line: bytes) -> bool:
    """Return whether no white space is between the tokens: no writer may put any there, as keys are found in the text."""
    return not any(_SPACE.findall(line))


def _look_at(event: Event, spans: list[Span]) -> None:
    json.dumps(event_members(event, "fuzz_manifest"))
    assert reading.parse_cursor(event.cursor, "0123abcd", "fuzz").segment == 1
    before = undone(event.row, event.was)
    if before is not None and event.checksum is not None:
        assert codec.encoded_bytes(codec.dumps(before))[1] == event.checksum
    # Capitals in the checksum of an input, under a right CRC: nobody but a forger writes that, and nobody can ask for it.
    digits = [checksum for checksum in (event.checksum, *event.inputs) if checksum and is_checksum(checksum)]
    asked = [Query(checksums=frozenset(some)) for some in (*([one] for one in digits), [*digits, "0" * 64])]
    asked = asked if digits else []
    asked += [Query(source_id=event.source_id)] * (event.source_id is not None)
    asked += [Query(run=event.run)] * (event.run is not None)
    for query in asked:
        cursors = [one.cursor for one in reading.events(spans, "0123abcd", query, _no_damage)]
        assert event.cursor in cursors, f"{query} does not find it"
        found = reading.keys_of(query)
        assert found is None or not keys.keys_in(spans[0].data).isdisjoint(found), f"no key for {query}"


def _no_damage(_span: Span, offset: int) -> None:
    raise AssertionError(f"an intact line is damage at {offset}")


TARGETS: dict[str, Target] = {
    "lines": check_lines,
    "segment": check_segment,
    "canonical": check_canonical,
    "index": check_index,
    "pack": check_pack,
    "cursor": check_cursor,
    "events": check_events,
}
