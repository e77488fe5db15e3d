"""Lines of a canonical file, parsed many at once: what counts, whichever way a record is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.engines.filelog.canonical import columns, parsing
from manifestlog.engines.filelog.canonical.columns import rows_of
from manifestlog.engines.filelog.canonical.parsing import OtherLayoutError, parse
from manifestlog.engines.filelog.canonical.source_rows import source_rows
from manifestlog.model import codec, document

from .builders import row, sha

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.model.rows import Row

SEEN = row("z", 3, source="other")
OTHER_SEEN: Row = {name: SEEN[name] for name in SEEN if name not in ("checksum", "file_size")}
GOOD: dict[str, dict[str, Any]] = {
    "usual": {},
    "a fraction": {"ts_downloaded": "2023-01-01T12:00:00.000001Z"},
    "an early time": {"ts_downloaded": "0001-01-01T00:00:00Z"},
    "an ETag": {"etag": '"a1"'},
    "no path": {"file_path": ""},
    "last_modified": {"last_modified": "Mon"},
    "inputs": {"derived_from": [sha("b"), sha("a")]},
    "both": {"last_modified": "Mon", "derived_from": [sha("b")]},
    "another observation": {"ts_downloaded": "2023-01-01T12:05:00Z", "also_seen": [OTHER_SEEN]},
    "a tie": {"tie": 2},
    "an unknown member": {"colour": {"red": 0.5}},
    "every character": {"source_id": '\u0001é"\\\u2028\U0001f600/\x7f'},
    "a great size": {"file_size": 2**63 - 1},
}
BAD: dict[str, dict[str, Any]] = {
    "no source": {"source_id": ""},
    "no dataset": {"dataset": ""},
    "a number for a source": {"source_id": 1},
    "a number for a path": {"file_path": 1},
    "a number for a version": {"version": 1},
    "a number for an ETag": {"etag": 1},
    "no size": {"file_size": 0},
    "a size below zero": {"file_size": -1},
    "true for a size": {"file_size": True},
    "half a byte": {"file_size": 1.5},
    "too great a size": {"file_size": 2**63},
    "an upper-case checksum": {"checksum": sha("a").upper()},
    "a short checksum": {"checksum": sha("a")[:-1]},
    "a checksum with a blank": {"checksum": sha("a")[:30] + "    " + sha("a")[34:]},
    "no zone": {"ts_downloaded": "2023-01-01T12:00:00"},
    "another zone": {"ts_downloaded": "2023-01-01T12:00:00+00:00"},
    "no fraction, written out": {"ts_downloaded": "2023-01-01T12:00:00.000000Z"},
    "milliseconds": {"ts_downloaded": "2023-01-01T12:00:00.001Z"},
    "no such day": {"ts_downloaded": "2023-02-30T12:00:00Z"},
    "no such hour": {"ts_downloaded": "2023-01-01T24:00:00Z"},
    "other digits": {"ts_downloaded": "２023-01-01T12:00:00Z"},
    "a time and more": {"ts_downloaded": "2023-01-01T12:00:00Z\n2023-01-01T12:00:00Z"},
    "an empty last_modified": {"last_modified": ""},
    "a number for last_modified": {"last_modified": 1},
    "an empty list of inputs": {"derived_from": []},
    "a text for the inputs": {"derived_from": sha("b")},
    "an upper-case input": {"derived_from": [sha("b").upper()]},
    "two inputs in one": {"derived_from": [sha("a")[:32], sha("b") + sha("a")[32:]]},
    "a number for an input": {"derived_from": [1]},
    "an empty also_seen": {"also_seen": []},
    "tie 0": {"tie": 0},
}


def _lines(rows: Iterable[Row]) -> list[bytes]:
    return [document.entry(one["checksum"], codec.dumps(one)) for one in rows]


def _sorted(*rows: Row) -> list[Row]:
    return sorted(rows, key=lambda one: str(one["checksum"]))


@pytest.mark.parametrize("name", GOOD)
def test_a_line_in_normal_form_counts(name: str) -> None:
    rows = _sorted(row("a") | GOOD[name], row("b"), row("c", 1))
    block, last = parse(_lines(rows), 100, "")
    found = columns.build([block], 0)
    assert (found.digests.hex(), last) == ("".join(one["checksum"] for one in rows), rows[-1]["checksum"])
    assert rows_of(bytes(found.sources)) == sorted(one for each in rows for one in source_rows(each))


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("alone", [True, False])
def test_a_record_that_is_not_in_normal_form_does_not_count(name: str, *, alone: bool) -> None:
    """By columns, and, because of an unknown member, one by one."""
    odd = row("a") | BAD[name] | ({} if alone else {"colour": "red"})
    with pytest.raises(OtherLayoutError):
        parse(_lines(_sorted(odd, row("b"), row("c"))), 0, "")


LINES: dict[str, Any] = {
    "a blank": lambda line: line.replace(b":", b": ", 2),
    "a blank in front": lambda line: b" " + line,
    "a blank behind": lambda line: line + b" ",
    "another key": lambda line: line.replace(sha("a").encode(), sha("0").encode(), 1),
    "an escape": lambda line: line.replace(b"/raw", b"\\/raw"),
    "a member twice": lambda line: line.replace(b'"etag":null', b'"etag":null,"etag":null'),
    "another order": lambda line: line.replace(b'"dataset":"set",', b"").replace(b'"etag"', b'"dataset":"set","etag"'),
    "no record": lambda line: line[: document.KEY_BYTES] + b"1",
    "two records": lambda line: line + b"," + line[document.KEY_BYTES :],
    "half a record": lambda line: line[:-1],
    "a record of no text": lambda line: line.replace(b"/raw", b"/r\xff"),
    "nothing": lambda line: line[:0],
}


def does_count(line: bytes) -> bool:
    try:
        parsing.parse([line], 0, "")
    except OtherLayoutError:
        return False
    return True


def a_record_under_the_key_of_another() -> None:
    assert not does_count(LINES["another key"](_lines([row("a")])[0]))


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_the_document_would_not_have_does_not_count(name: str) -> None:
    line = _lines([row("a")])[0]
    changed = LINES[name](line)
    assert changed != line
    assert not does_count(changed)


@pytest.mark.parametrize("before", ["", sha("a")])
def test_records_out_of_order_do_not_count(before: str) -> None:
    rows = _sorted(row("a"), row("b"), row("c"))
    with pytest.raises(OtherLayoutError):
        parse(_lines(reversed(rows) if not before else [row("a")]), 0, before)


def test_the_offsets_are_those_of_the_lines() -> None:
    lines = _lines(_sorted(*(row(str(number)) for number in range(9))))
    text = document.BETWEEN.join(lines)
    assert list(parse(lines, 7, "")[0].offsets) == [7 + text.index(line) for line in lines]


def test_source_rows_are_sorted_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_ROWS_AT_ONCE", 3)
    rows = _sorted(*(row(str(number), source=f"s{number}") for number in range(50)))
    blocks = [parse(_lines([one]), 0, "")[0] for one in rows]
    assert rows_of(bytes(columns.build(blocks, 0).sources)) == sorted(source_rows(one)[0] for one in rows)
