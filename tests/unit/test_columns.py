"""Columns of an index: rows that are cut out of old ones and changes, buckets and their CRCs."""

from __future__ import annotations

from array import array
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given, strategies as st

from manifestlog.engines.filelog.canonical import columns
from manifestlog.engines.filelog.canonical.columns import Rows, bits_for, bounds_of, source_checks

Edits = list[tuple[int, bool, bytes | None]]


@st.composite
def _edited(draw: st.DrawFn) -> tuple[list[bytes], Edits]:
    old = [bytes([n] * 4) for n in range(draw(st.integers(0, 12)))]
    edits: Edits = []
    position = 0
    for number in range(draw(st.integers(0, 10))):
        position = draw(st.integers(position, len(old)))
        drop = position < len(old) and draw(st.booleans())
        row = bytes([100 + number] * 4) if draw(st.booleans()) else None
        edits.append((position, drop, row))
        position += drop
    return old, edits


def _expected(old: list[bytes], edits: Edits) -> list[bytes]:
    found: list[bytes] = []
    done = 0
    for position, drop, row in edits:
        found += old[done:position]
        found += [row] if row else []
        done = position + drop
    return found + old[done:]


@given(_edited())
def test_every_cut_is_that_of_the_edited_rows(made: tuple[list[bytes], Edits]) -> None:
    old, edits = made
    rows = Rows(b"".join(old), 4)
    for position, drop, row in edits:
        rows.edit(position, drop=drop, row=row)
    expected = _expected(old, edits)
    assert len(rows) == len(expected)
    for start in range(len(expected) + 1):
        for end in range(start, len(expected) + 1):
            assert bytes(rows.cut(start, end)) == b"".join(expected[start:end])


@pytest.mark.parametrize("count", [0, 1, 31, 32, 5_000, 10_000])
@pytest.mark.parametrize("spread", [1, 3, 1 << 20])
def test_bounds_are_where_the_first_bits_change(count: int, spread: int) -> None:
    heads = sorted(crc32(b"%d" % (n // spread)) for n in range(count))
    keys = b"".join(head.to_bytes(4, "big") + bytes(28) for head in heads)
    bits = bits_for(count)
    expected = [sum(head < bucket << (32 - bits) for head in heads) for bucket in range(min(1 << bits, 64))]
    found = bounds_of(Rows(keys, 32))
    assert (len(found), found[-1]) == ((1 << bits) + 1, count)
    assert found[: len(expected)].tolist() == expected


@pytest.mark.parametrize("rows_at_once", [4, 4_096])
def test_the_crc_of_a_bucket_is_the_same_in_one_piece_and_in_many(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(columns, "_BLOCK_ROWS", rows_at_once)
    data = bytes(range(256)) * 32
    bounds = array("I", [0, 0, 5, 200, 256])
    expected = [
        crc32(data[a * 32 : b * 32], crc32(a.to_bytes(4, "little") + b.to_bytes(4, "little")))
        for a, b in pairwise(bounds)
    ]
    assert source_checks(bounds, Rows(data, 32)).tolist() == expected
