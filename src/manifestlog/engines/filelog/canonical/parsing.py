"""Parses lines of a canonical file, many in one step, and checks that each is in normal form.

Invariants:

- A line counts only if it equals what `model.document` would write for its record, byte for byte.
- Records with the usual members are checked column by column, all others one by one (`model.rows.normalise`). Both ways
  accept the same records.

It does not read files: `scan` provides the lines, and if a line does not count, reads the file in another way
(`foreign`).
"""

from __future__ import annotations

import re
from array import array
from datetime import datetime
from itertools import accumulate, chain
from operator import itemgetter, lt
from typing import TYPE_CHECKING, Any
from zlib import crc32

from manifestlog.engines.filelog.canonical.columns import Block
from manifestlog.engines.filelog.canonical.source_rows import many_source_rows, source_rows
from manifestlog.model import codec
from manifestlog.model.document import BETWEEN, KEY_BYTES
from manifestlog.model.rows import CHECKSUM_DIGITS, FILE_SIZE_MAX, REQUIRED, Row, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

_USUAL = frozenset(
    REQUIRED + more for more in ((), ("last_modified",), ("derived_from",), ("last_modified", "derived_from"))
)
"""The members of a record with one source, in their order."""
_NEXT_HEAD = '":         "'
_required = itemgetter(*REQUIRED)
Texts = tuple[str, ...]
_TEXT, _TEXT_OR_NULL = {str}, {str, type(None)}
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(?!000000)\d{6})?Z"
_TIMES = re.compile(rf"(?:{_TIME}\n)*+{_TIME}", re.ASCII)


class OtherLayoutError(Exception):
    """The file is not in our layout. A signal to read it in another way; it reaches no caller."""


def parse(lines: list[bytes], offset: int, before: str) -> tuple[Block, str]:
    """Return the records of these lines, which come without separators, and the last checksum.

    `offset` is where the first line begins, and `before` the checksum before it. Raises `OtherLayoutError`.
    """
    raws = [line[KEY_BYTES:] for line in lines]
    try:
        rows = codec.loads_all(raws)
        checksums = [row["checksum"] for row in rows]
        heads = b"".join([line[:KEY_BYTES] for line in lines])
        _require(heads == _heads(checksums) and codec.dumps(rows) == b"[%b]" % b",".join(raws))
        _require(before < checksums[0] and all(map(lt, checksums, checksums[1:])))
        sources = _checked(rows)
    except (ValueError, TypeError, LookupError):
        # Not JSON, not a record, not in our form, or nested too deeply to be written again.
        raise OtherLayoutError from None
    offsets = accumulate((len(line) + len(BETWEEN) for line in lines[:-1]), initial=offset)
    digests = bytes.fromhex("".join(checksums))
    return Block(digests, array("Q", offsets), array("I", map(crc32, raws)), sources), checksums[-1]


def _heads(checksums: list[str]) -> bytes:
    """Return what the lines of these records have before the record itself, joined: each has `KEY_BYTES` of it."""
    return f'        "{_NEXT_HEAD.join(checksums)}": '.encode()


def _require(condition: bool) -> None:  # noqa: FBT001 -- what it requires
    if not condition:
        raise ValueError


def _checked(rows: list[Row]) -> bytes:
    """Return the source rows of these records. Raises an error if one is not in normal form."""
    usual = rows if are_usual(rows) else [row for row in rows if tuple(row) in _USUAL]
    found = usual_source_rows(usual)[1] if usual else b""
    if usual is not rows:
        others = (row for row in rows if tuple(row) not in _USUAL)
        found += b"".join(chain.from_iterable(map(_checked_other, others)))
    return found


def _checked_other(row: Row) -> list[bytes]:
    normal, naive = normalise(row, row["checksum"])
    _require(not naive and codec.dumps(normal) == codec.dumps(row))
    return source_rows(normal)


def usual_source_rows(rows: list[Row]) -> tuple[Texts, bytes]:
    """Return the checksums and the source rows of records that have the usual members.

    Raises `ValueError` or `TypeError` if a record is not in normal form.
    """
    source_ids, datasets, checksums, moments = _checked_columns(rows)
    return checksums, many_source_rows(source_ids, datasets, moments, bytes.fromhex("".join(checksums)))


def are_usual(rows: list[Row]) -> bool:
    """Return whether all of these records have the usual members, in their order."""
    return set(map(tuple, rows)) <= _USUAL


def have_normal_times(rows: list[Row]) -> bool:
    """Return whether the times of these records look normal: `usual_source_rows` looks at the days as well."""
    return _TIMES.fullmatch("\n".join([row["ts_downloaded"] for row in rows])) is not None


def _checked_columns(rows: list[Row]) -> tuple[Texts, Texts, Texts, list[datetime]]:
    """Return the source_ids, datasets, checksums and times of records that have the usual members."""
    columns: list[tuple[Any, ...]] = list(zip(*map(_required, rows), strict=True))
    source_ids, datasets, checksums, paths, sizes, etags, times, versions = columns
    for texts in (source_ids, datasets, checksums, paths, times, versions):
        _require(set(map(type, texts)) == _TEXT)
    _require(all(source_ids) and all(datasets) and set(map(type, etags)) <= _TEXT_OR_NULL)
    _require(set(map(type, sizes)) == {int} and min(sizes) > 0 and max(sizes) <= FILE_SIZE_MAX)
    _require(have_normal_times(rows))
    _require_checksums(checksums)
    _check_optional(rows)
    return source_ids, datasets, checksums, list(map(datetime.fromisoformat, times))


def _check_optional(rows: list[Row]) -> None:
    if any(map(len(REQUIRED).__ne__, map(len, rows))):
        modified = [row["last_modified"] for row in rows if "last_modified" in row]
        inputs = [row["derived_from"] for row in rows if "derived_from" in row]
        _require(all(modified) and set(map(type, modified)) <= {str})
        _require(all(inputs) and set(map(type, inputs)) <= {list})
        _require_checksums(list(chain.from_iterable(inputs)))


def _require_checksums(texts: Sequence[str]) -> None:
    """Raise an error if one of these is not 64 lower-case hexadecimal digits."""
    _require(set(map(len, texts)) <= {CHECKSUM_DIGITS})
    digits = "".join(texts)
    _require(bytes.fromhex(digits).hex() == digits)
