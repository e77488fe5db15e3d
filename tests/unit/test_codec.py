"""Bytes of rows and of closed lines."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given, strategies as st

from manifestlog.engines.filelog import checksums
from manifestlog.errors import RecordRejectedError
from manifestlog.model import codec

from .builders import row, sha

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(JSON)
def test_dumped_json_can_be_loaded(value: object) -> None:
    """A round trip changes nothing."""
    assert codec.loads(codec.dumps(value)) == value


@given(JSON)
def test_dumped_json_has_no_raw_newline(value: object) -> None:
    """That is what makes newline framing sound."""
    assert b"\n" not in codec.dumps(value)


@given(JSON)
def test_dumps_is_json_without_white_space(value: object) -> None:
    """Any JSON reader reads it, and gets the same."""
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert json.loads(codec.dumps(value)) == json.loads(expected)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), JSON, min_size=1))
def test_indented_is_what_json_would_write(value: dict[str, object]) -> None:
    """Four spaces a level, as the standard library does it."""
    assert json.loads(codec.dumps_indented(value, 1)) == value


def test_indented_looks_as_in_the_design() -> None:
    """Four spaces a level, one level deep."""
    assert codec.dumps_indented({"a": 1, "b": "  x"}, 1) == b'{\n        "a": 1,\n        "b": "  x"\n    }'


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_a_sealed_line_is_intact(body: bytes, salt: int, offset: int) -> None:
    """Where it was made for."""
    assert checksums.line_is_intact(checksums.seal_line(body, salt, offset)[:-1], salt, offset)


def test_a_sealed_line_has_the_crc_that_is_written_down() -> None:
    """CRC-32 of the body, seeded with salt and offset; eight digits, then brace and newline."""
    body, salt, offset = b'{"op":"x"', 0x12345678, 4096
    crc = zlib.crc32(body, zlib.crc32(offset.to_bytes(8, "little"), salt))
    assert checksums.seal_line(body, salt, offset) == body + b',"crc":"%08x"}\n' % crc


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_flipped_bit_is_seen(body: bytes, data: st.DataObject) -> None:
    """Any one bit of a line, its CRC included."""
    line = bytearray(checksums.seal_line(body, 7, 100)[:-1])
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    assert not checksums.line_is_intact(bytes(line), 7, 100)


@pytest.mark.parametrize(("salt", "offset"), [(8, 100), (7, 101), (7, 0), (0, 100)])
def test_a_moved_line_is_seen(salt: int, offset: int) -> None:
    """Another segment or another place."""
    assert not checksums.line_is_intact(checksums.seal_line(b'{"op":"x"', 7, 100)[:-1], salt, offset)


@pytest.mark.parametrize("line", [b"", b"{}", b'"}', b',"crc":"00000000"}'])
def test_a_short_line_is_not_intact(line: bytes) -> None:
    """Less than a line is none."""
    assert not checksums.line_is_intact(line, 7, 0)


def test_an_upper_case_crc_is_another() -> None:
    """CRCs are compared as bytes."""
    lines = (checksums.seal_line(b'{"op":"x"', salt, 0)[:-1] for salt in range(20))
    line = next(ln for ln in lines if ln[-10:-2] != ln[-10:-2].upper())
    assert not checksums.line_is_intact(line[:-10] + line[-10:-2].upper() + line[-2:], 0, 0)


def test_a_row_is_compact_json_in_its_order() -> None:
    """What lies on disk."""
    assert codec.encode_row({"b": 1, "a": "ä"}, 100) == '{"b":1,"a":"ä"}'.encode()


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_the_length(extra: int) -> None:
    """As long as allowed is allowed."""
    length = len(codec.dumps(row()))
    assert len(codec.encode_row(row(), length + extra)) == length


def test_over_the_limit_is_rejected() -> None:
    """One byte more is not."""
    with pytest.raises(RecordRejectedError, match="record_bytes_max"):
        codec.encode_row(row(), len(codec.dumps(row())) - 1)


@pytest.mark.parametrize("wrong", [{"a": "\ud800"}, {"a": 1 << 64}, {"a": object()}, {"\udfff": 1}])
def test_values_that_json_cannot_hold_are_rejected(wrong: dict[str, object]) -> None:
    """Text that is no Unicode, numbers beyond 64 bits, things."""
    with pytest.raises(RecordRejectedError):
        codec.encode_row(wrong, 1000)


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b'"\xff"', b'"\\ud800"', b"[" * 5000, b"{}x", b"'a'"])
def test_invalid_json_is_a_decode_error(data: bytes) -> None:
    """One error for all of it, and a `ValueError`."""
    with pytest.raises(codec.DecodeError):
        codec.loads(data)


RECORDS: dict[str, dict[str, object]] = {
    "none": {"version": "1"},
    "one": {"version": "1", "derived_from": [sha("a")]},
    "two": {"version": "1", "derived_from": [sha("a"), sha("b")]},
    "a tie behind": {"derived_from": [sha("a")], "tie": 1},
    "a list behind": {"derived_from": [sha("a")], "unknown": ["x"]},
    "in an unknown member": {"version": "1", "unknown": {"derived_from": [sha("a")]}},
    "in a list of an unknown member": {"version": "1", "unknown": [{"derived_from": [sha("a")]}]},
    "in a text": {"version": f'"derived_from":["{sha("a")}"]}}'},
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_inputs_of_a_record_are_those_that_it_names(name: str) -> None:
    assert list(codec.inputs_of(codec.dumps(RECORDS[name]))) == RECORDS[name].get("derived_from", [])
