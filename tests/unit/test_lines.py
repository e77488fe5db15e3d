"""Lines found again: whole, damaged, glued, torn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.engines.filelog.log.framing import Piece
from manifestlog.engines.filelog.log.lines import CanonicalId, LogEntry, SegmentHeader, Summary
from manifestlog.errors import NewerFormatError
from manifestlog.model import codec
from manifestlog.model.rows import REQUIRED, Row

from .builders import row, sha

if TYPE_CHECKING:
    from collections.abc import Callable

SALT = 0xC0FFEE
START = 1000
TS = "2026-01-01T00:00:00.000000Z"


def _log(*bodies: bytes) -> tuple[bytes, list[int]]:
    """Lines one behind the other from `START`, and where each begins; the last number is their end."""
    data, starts = b"", [0]
    for body in bodies:
        data += checksums.seal_line(body, SALT, START + len(data))
        starts.append(len(data))
    return data, starts


def _body(kind: str, raws: list[bytes], synced: int = 0, **data: object) -> bytes:
    return lines.encode(LogEntry(kind, TS, [codec.encoded_bytes(raw) for raw in raws], data), synced)


def _put(content: str) -> bytes:
    return _body("put", [codec.dumps(row(content))])


THREE, AT = _log(_put("a"), _put("b"), _put("c"))


def _pieces(data: bytes) -> list[Piece]:
    return list(framing.split(data, START, SALT))


def _good(data: bytes) -> list[str]:
    found = [lines.decode(p.line) for p in _pieces(data) if p.line is not None]
    return [checksum for op in found for _, checksum, _ in op.puts]


def _damage(data: bytes) -> list[tuple[int, int]]:
    return [(p.offset - START, p.end - START) for p in _pieces(data) if p.line is None]


def test_whole_lines_are_found() -> None:
    """Each with its place, nothing in between."""
    assert [(p.offset - START, p.end - START, p.terminated) for p in _pieces(THREE)] == [
        (AT[0], AT[1], True),
        (AT[1], AT[2], True),
        (AT[2], AT[3], True),
    ]


def test_nothing_is_nothing() -> None:
    """No bytes, no pieces."""
    assert _pieces(b"") == []


@pytest.mark.parametrize("length", range(AT[1] + 1, AT[2] - 1))
def test_a_torn_line_is_not_yielded(length: int) -> None:
    """An unfinished rest is neither a line nor damage: somebody may be writing it."""
    assert [p.offset - START for p in _pieces(THREE[:length])] == [AT[0]]


def test_a_line_without_its_newline_is_a_line() -> None:
    """Complete, CRC right: it counts."""
    assert _good(THREE[:-1]) == [sha("a"), sha("b"), sha("c")]


def test_a_line_without_its_newline_is_not_terminated() -> None:
    """And its end is the end of the file."""
    last = _pieces(THREE[:-1])[-1]
    assert (last.end - START, last.terminated) == (AT[3] - 1, False)


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_costs_its_own_line_only(bit: int) -> None:
    """Lines beside a damaged one are all found, and the damage is told."""
    wrong = []
    for place in range(AT[1], AT[2] - 1):
        data = bytearray(THREE)
        data[place] ^= 1 << bit
        if _good(bytes(data)) != [sha("a"), sha("c")] or not _damage(bytes(data)):
            wrong.append(place)
    assert wrong == []


@pytest.mark.parametrize("byte", [b"\0", b" ", b"{", b'"', b"\r", b"}"])
def test_a_wrong_newline_byte_costs_no_line(byte: bytes) -> None:
    """The byte is told as damage, the lines are kept."""
    data = THREE[: AT[1] - 1] + byte + THREE[AT[1] :]
    assert (_good(data), _damage(data)) == ([sha("a"), sha("b"), sha("c")], [(AT[1] - 1, AT[1])])


@pytest.mark.parametrize("length", [AT[2] - AT[1], AT[2] - AT[1] - 1])
def test_a_line_overwritten_with_newlines_is_damage(length: int) -> None:
    """Empty lines are told of: nothing else says that a line stood there."""
    data = THREE[: AT[1]] + b"\n" * length + THREE[AT[1] + length :]
    assert (_good(data), sum(end - at for at, end in _damage(data))) == ([sha("a"), sha("c")], AT[2] - AT[1])


@pytest.mark.parametrize("byte", [b"\0", b" ", b"{", b'"'])
def test_a_wrong_last_newline_byte_costs_no_line(byte: bytes) -> None:
    """Also at the very end."""
    data = THREE[:-1] + byte
    assert (_good(data), _damage(data)) == ([sha("a"), sha("b"), sha("c")], [(AT[3] - 1, AT[3])])


JUNK = [b"\0" * 50, b"x", b'{"op":"', b'{"op":"put","record":{', b"\xff\xfe", b'","crc":"00000000"}', b'{"op":"{"op":"']


@pytest.mark.parametrize("junk", JUNK)
def test_junk_before_a_line_costs_no_line(junk: bytes) -> None:
    """A line that follows junk without a newline is found by how it begins."""
    data, _ = _log(_put("a"))
    behind = checksums.seal_line(_put("b"), SALT, START + len(data) + len(junk))
    assert _good(data + junk + behind) == [sha("a"), sha("b")]


@pytest.mark.parametrize("junk", JUNK)
def test_junk_before_a_line_is_reported(junk: bytes) -> None:
    """With exactly its bytes."""
    data, _ = _log(_put("a"))
    behind = checksums.seal_line(_put("b"), SALT, START + len(data) + len(junk))
    assert _damage(data + junk + behind) == [(len(data), len(data) + len(junk))]


def test_glued_lines_are_both_found() -> None:
    """A line whose newline is gone, and the next one right behind it."""
    first = checksums.seal_line(_put("a"), SALT, START)[:-1]
    data = first + checksums.seal_line(_put("b"), SALT, START + len(first))
    assert _good(data) == [sha("a"), sha("b")]


def test_a_line_within_a_line_is_no_line() -> None:
    """A record whose text looks like a whole valid line stays one record."""
    inner = checksums.seal_line(_put("evil"), SALT, START + 60)[:-1].decode()
    data, _ = _log(_body("put", [codec.dumps(row("a", etag=inner))]))
    assert _good(data) == [sha("a")]


def test_a_damaged_line_with_a_line_in_its_text_gives_nothing_false() -> None:
    """Text inside a record has its quotes escaped, so it never becomes a line of its own."""
    inner = checksums.seal_line(_put("evil"), SALT, START + 60)[:-1].decode()
    data, _ = _log(_body("put", [codec.dumps(row("a", etag=inner))]))
    assert _good(b"X" + data[1:]) == []


def test_two_flipped_newlines_cost_no_line() -> None:
    """Three lines run together are three lines."""
    data = THREE.replace(b"\n", b"\0", 2)
    assert _good(data) == [sha("a"), sha("b"), sha("c")]


def test_a_line_at_another_offset_is_damage() -> None:
    """A copy is no record."""
    data = THREE + THREE[AT[1] : AT[2]]
    assert (_good(data), _damage(data)) == ([sha("a"), sha("b"), sha("c")], [(AT[3], AT[3] + AT[2] - AT[1])])


def test_a_line_of_another_salt_is_damage() -> None:
    """A line of another segment is no record."""
    assert list(framing.split(THREE, START, SALT + 1)) != _pieces(THREE)
    assert not any(p.line for p in framing.split(THREE, START, SALT + 1))


def test_a_hostile_line_takes_no_hostile_time() -> None:
    """A megabyte of things that look like ends and beginnings is passed over quickly."""
    junk = b'{"op":"' * 20_000 + b',"crc":"00000000"}' * 20_000 + b"\n"
    assert _damage(junk) == [(0, len(junk))]


BODIES: dict[str, tuple[bytes, dict[str, object]]] = {
    "batch": (_body("batch", [codec.dumps(row("a")), codec.dumps(row("b"))]), {"records": [row("a"), row("b")]}),
    "forget": (_body("forget", [], checksum=sha("a")), {"checksum": sha("a")}),
    "meta": (_body("meta", [], metadata={"etl_version": "2"}), {"metadata": {"etl_version": "2"}}),
    "compacting": (
        _body("compacting", [], base=CanonicalId(7, "0a", 3)._asdict(), seconds=0.0),
        {"base": {"size": 7, "crc": "0a", "covers": 3}, "seconds": 0.0},
    ),
    "seal": (lines.seal_body(Summary(4, 100, 3, "0b")), {"length": 100, "lines": 3, "chain": "0b", "next": 5}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_each_kind_comes_back(kind: str) -> None:
    """What was said is what is read."""
    body, expected = BODIES[kind]
    data, _ = _log(body)
    op = lines.decode(data[:-1])
    assert {name: op.data.get(name) for name in expected} == expected


@pytest.mark.parametrize("kind", BODIES)
def test_the_kind_is_the_first_member_of_each_line(kind: str) -> None:
    """`"op"` is the first member."""
    assert BODIES[kind][0].startswith(b'{"op":"%b",' % kind.encode())


def test_the_bytes_of_a_put_are_the_records() -> None:
    """Untouched, so that they can be copied into the canonical."""
    data, _ = _log(_put("a"))
    assert lines.decode(data[:-1]).puts[0][0] == codec.dumps(row("a"))


@pytest.mark.parametrize("text", ['"record":', '"records":[', "\\", '"', "}", ',"crc":"00000000"}', "\n"])
def test_the_bytes_of_a_put_survive_odd_text(text: str) -> None:
    """A record that speaks of records."""
    raw = codec.dumps(row("a", etag=text, source=text))
    data, _ = _log(_body("put", [raw], 17))
    assert lines.decode(data[:-1]).puts == [(raw, sha("a"), (text,))]


SEEN = {k: v for k, v in row("a", 0, source="s\\1", dataset="other").items() if k not in ("checksum", "file_size")}


@pytest.mark.parametrize(
    "given",
    [
        row("a"),
        row("a", source="ünï 🪐"),
        row("a", source='"checksum":"' + sha("b")),
        row("a", source="back\\slash"),
        row("a", dataset=',"checksum":"' + sha("b") + '",'),
        row("a", dataset="back\\slash"),
        row("a", file_path="/raw/\\"),
        row("a", also_seen=[SEEN]),
        row("a", derived_from=[sha("b")]),
        row("a", mirror={"source_id": "x", "checksum": sha("b"), "also_seen": []}),
        dict(reversed(row("a").items())),
    ],
)
def test_the_short_way_to_a_record_is_the_long_way(given: Row) -> None:
    """What is cut out of a record's bytes is what parsing gives."""
    raw = codec.dumps(given)
    _, checksum, source_ids = codec.encoded_row(raw, codec.loads(raw))
    found = codec.encoded_bytes(raw)
    assert (found[0], found[1], set(found[2])) == (raw, checksum, set(source_ids))


@pytest.mark.parametrize("name", REQUIRED)
def test_a_record_without_a_member_is_no_record(name: str) -> None:
    """Every required member must be there."""
    given = row("a")
    del given[name]
    with pytest.raises(ValueError, match=name):
        codec.encoded_bytes(codec.dumps(given))


@pytest.mark.parametrize("wrong", ["", "x", sha("a").upper(), sha("a") + "0", 7, None])
def test_a_record_without_a_checksum_is_no_record(wrong: object) -> None:
    """Lower case, 64 digits."""
    with pytest.raises(ValueError, match="checksum"):
        codec.encoded_bytes(codec.dumps(row("a") | {"checksum": wrong}))


def test_synced_is_left_out_when_unknown() -> None:
    """Zero says nothing."""
    assert b"synced" not in _put("a")


def test_synced_comes_back() -> None:
    """Through which offset the segment is on the disk."""
    data, _ = _log(_body("forget", [], 4711, checksum=sha("a")))
    assert lines.decode(data[:-1]).data["synced"] == 4711


def _of(kind: bytes, members: bytes) -> bytes:
    return b'{"op":"%b","ts":"%b",%b' % (kind, TS.encode(), members)


def _record(**changes: object) -> bytes:
    return b'"record":' + codec.dumps(row("a") | changes)


NOTHING_KNOWN = [
    b'{"op":"merge","ts":""',
    b'{"no":"op"',
    b'{"op":"put"',
    b'{"op":"batch","ts":""',
    b'{"op":["put"]',
    _of(b"put", b'"record":[1]'),
    _of(b"put", _record(source_id=7)),
    _of(b"put", _record(source_id=[])),
    _of(b"put", _record(also_seen=7)),
    _of(b"put", _record(ts_downloaded="2023-02-30T12:00:00+00:00")),
    _of(b"put", _record(ts_downloaded="2023-01-01T12:00:00+00:00")),
    _of(b"put", _record(ts_downloaded="2023-13-01T12:00:00Z")),
    _of(b"put", _record(ts_downloaded="2023-01-01T12:00:00.000006)Z")),  # which 3.11 takes for a time
    _of(b"put", _record(file_size=0)),
    _of(b"put", _record(dataset="")),
    _of(b"put", _record().replace(b"/raw/a", b"/raw/\\x")),
    _of(b"put", _record().replace(b"/raw/a", b"/raw/\xff")),
    _of(b"put", _record().replace(b"/raw/a", b"/raw/\t")),
    _of(b"put", _record().replace(b'"file_size":', b'"file_size":0')),
    _of(b"put", b'"synced":"all",' + _record()),
    _of(b"batch", b'"records":7'),
    _of(b"batch", b'"records":{"a":1}'),
    _of(b"batch", b'"records":["a"]'),
    _of(b"meta", b'"metadata":7'),
    _of(b"meta", b'"metadata":{"etl_version":7}'),
    _of(b"compacted", b'"base":{"size":1,"crc":"0","covers":"1"},"seconds":1.0'),
    _of(b"compacted", b'"base":{"size":1,"crc":"0","covers":1},"seconds":"1"'),
    _of(b"forget", b'"checksum":"ab"'),
    b'{"op":"put","ts":7,' + _record(),
    b'{"op":"put","ts":"soon",' + _record(),
    b'{"op":"seal","length":1,"lines":"1","chain":"0"',
]


@pytest.mark.parametrize("body", NOTHING_KNOWN)
def test_the_short_cut_takes_no_line_that_says_nothing_known(body: bytes) -> None:
    """What would not be understood when it is parsed is not accepted unparsed."""
    data, _ = _log(body)
    assert lines.usual_puts(data, 0, START, SALT) is None


@pytest.mark.parametrize("body", NOTHING_KNOWN)
def test_a_line_that_says_nothing_known_is_an_error(body: bytes) -> None:
    """`ValueError` or `KeyError`, for the segment to give a place."""
    data, _ = _log(body)
    with pytest.raises((ValueError, KeyError, TypeError)):
        lines.decode(data[:-1])


OPENING = SegmentHeader(
    "systems_download", TS, 42, SALT, Summary(41, 100, 3, "0b"), (CanonicalId(7, "0a", 40), CanonicalId(8, "0c", 41))
)


@pytest.mark.parametrize("opening", [OPENING, OPENING._replace(previous=None, segment=1, bases=())])
def test_an_opening_comes_back(opening: SegmentHeader) -> None:
    """The first line of a segment."""
    assert lines.decode_header(lines.header_line(opening)[:-1], "x") == opening


def test_a_damaged_opening_is_none_or_newer() -> None:
    """Any flipped bit; the digit of the format may become a newer one."""
    line = lines.header_line(OPENING)[:-1]
    wrong = []
    for bit in range(8 * len(line)):
        data = bytearray(line)
        data[bit // 8] ^= 1 << bit % 8
        try:
            if lines.decode_header(bytes(data), "x") is not None:
                wrong.append(bit)
        except NewerFormatError:
            if bit // 8 != line.index(b'"format":2') + len(b'"format":'):
                wrong.append(bit)
    assert wrong == []


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"{}",
        lambda _: b"[]",
        lambda _: b"null",
        lambda line: line[:-1],
        lambda line: line.replace(b'"salt":"', b'"salt":"x'),
        lambda line: line.replace(b'"format":2', b'"format":"one"'),
        lambda line: line.replace(b'"format":2', b'"format":null'),
        lambda line: line.replace(b'"format":2', b'"format":1e999'),
        lambda line: checksums.seal_line(line[: -checksums.CRC_TAIL].replace(b'"covers":40', b'"covers":"x"'), SALT, 0)[
            :-1
        ],
    ],
)
def test_another_line_is_not_an_opening(change: Callable[[bytes], bytes]) -> None:
    """Whatever it is instead."""
    assert lines.decode_header(change(lines.header_line(OPENING)[:-1]), "x") is None


def test_a_newer_format_goes_before_the_crc() -> None:
    """A newer file is not called corrupt."""
    with pytest.raises(NewerFormatError, match="format 9"):
        lines.decode_header(b'{"op":"open","format":9}', "x")


# -- many at once ------------------------------------------------------------------------------------------------------

USUAL = [_put("a"), _body("put", [codec.dumps(row("b", source="ünï 🪐", last_modified="x"))], 77), _put("c")]
UNUSUAL = {
    "a batch": _body("batch", [codec.dumps(row("d"))]),
    "a tombstone": _body("forget", [], checksum=sha("a")),
    "an escaped source": _body("put", [codec.dumps(row("d", source='"'))]),
    "two sources": _body("put", [codec.dumps(row("d", also_seen=[SEEN]))]),
    "an unknown member": _body("put", [codec.dumps(row("d", mirror={"checksum": sha("b")}))]),
}


def _run(data: bytes, position: int = 0) -> lines.PutRun:
    found = lines.usual_puts(data, position, START, SALT)
    assert found is not None
    return found


def test_usual_lines_are_taken_in_one_go() -> None:
    """All of them, up to the end."""
    data, _ = _log(*USUAL)
    assert _run(data).end == len(data)


def test_the_records_of_a_run_are_those_that_parsing_gives() -> None:
    """The short way is the long way."""
    data, _ = _log(*USUAL)
    parsed = [lines.decode(piece.line) for piece in _pieces(data) if piece.line is not None]
    assert _run(data).puts == [put for op in parsed for put in op.puts]


def test_the_crcs_of_a_run_are_those_of_its_lines() -> None:
    """Eight digits each, for the segment's chain."""
    data, _ = _log(*USUAL)
    assert _run(data).crcs == b"".join(checksums.line_crc(line) for line in data.splitlines())


def test_a_run_keeps_the_greatest_mark() -> None:
    """Of several `synced`, and of lines without one."""
    data, _ = _log(_body("put", [codec.dumps(row("a"))], 90), *USUAL)
    assert _run(data).synced == 90


@pytest.mark.parametrize("kind", UNUSUAL)
def test_a_run_ends_before_any_other_line(kind: str) -> None:
    """What follows it is for the long way."""
    data, at = _log(*USUAL, UNUSUAL[kind], _put("e"))
    assert _run(data).end == at[3]


@pytest.mark.parametrize("kind", UNUSUAL)
def test_no_run_begins_with_any_other_line(kind: str) -> None:
    """Nor is a line skipped."""
    data, _ = _log(UNUSUAL[kind], _put("e"))
    assert lines.usual_puts(data, 0, START, SALT) is None


def test_a_run_may_begin_in_the_middle() -> None:
    """A place is counted from the segment's start."""
    data, at = _log(UNUSUAL["a batch"], *USUAL)
    assert len(_run(data, at[1]).puts) == 3


def test_a_run_ends_before_an_unfinished_line() -> None:
    """Even when it lacks its newline only: whether it counts is decided elsewhere."""
    data, at = _log(*USUAL)
    assert _run(data[:-1]).end == at[2]


@pytest.mark.parametrize("bit", range(8))
def test_a_run_ends_before_every_flipped_bit(bit: int) -> None:
    """Each bit of the second of three lines, its newline included."""
    data, at = _log(*USUAL)
    wrong = []
    for place in range(at[1], at[2]):
        hit = bytearray(data)
        hit[place] ^= 1 << bit
        if _run(bytes(hit)).end != at[1]:
            wrong.append(place)
    assert wrong == []


def test_a_moved_line_is_in_no_run() -> None:
    """The CRC holds its place."""
    data, at = _log(*USUAL)
    assert _run(data[: at[1]] + data[at[2] :]).end == at[1]


def test_junk_without_a_line_in_it_is_one_damage() -> None:
    """However many newlines it holds."""
    junk = b"\n\0\n" * 1000
    behind = checksums.seal_line(_put("b"), SALT, START + len(junk))
    assert (_good(junk + behind), _damage(junk + behind)) == ([sha("b")], [(0, len(junk))])


@pytest.mark.parametrize("before", [b"", b"junk\n", b"\n\0\n" * 10, b'{"op":"junk\n\n'])
def test_an_intact_line_that_begins_unlike_ours_is_a_line_wherever_it_stands(before: bytes) -> None:
    """Among junk as well: what is read in two steps must say what it says at once (found by fuzzing)."""
    odd = checksums.seal_line(b'{"ts":1', SALT, START + len(before))
    found = [(piece.offset - START, piece.line) for piece in _pieces(before + odd + b"\n\n") if piece.line]
    assert found == [(len(before), odd[:-1])]


def test_neighbouring_damage_is_joined() -> None:
    """Also where each piece of junk looks like the beginning of a line."""
    junk = b'{"op":"\n' * 1000
    found = framing.with_damage([], _pieces(junk))
    assert [(p.offset - START, p.end - START) for p in found] == [(0, len(junk))]


def test_damage_after_a_line_is_not_joined_with_damage_before_it() -> None:
    """Each keeps its place."""
    behind = checksums.seal_line(_put("b"), SALT, START + 2)
    found = framing.with_damage([], _pieces(b"x\n" + behind + b"y\n"))
    assert [(p.offset - START, p.end - START) for p in found] == [(0, 2), (2 + len(behind), 4 + len(behind))]
