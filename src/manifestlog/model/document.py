"""A whole manifest as one JSON document: the bytes around and between its records, and its metadata.

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

No I/O. It is what the file engine keeps as its canonical file, and what `manifestlog cat` prints of any engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifestlog.model import codec
from manifestlog.model.checks import Check, check_members
from manifestlog.model.rows import PROCESSES, Row, normal_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

METADATA = ("process", "etl_version", "root_dir", "total_records", "ts_created", "ts_updated")
KEY_BYTES = len('        "') + 64 + len('": ')
BETWEEN = b",\n"
FOOT = b"\n    }\n}\n"
EMPTY_FOOT = b"}\n}\n"


def head(metadata: Row, *, empty: bool) -> bytes:
    """Everything before the first record's line."""
    text = b'{\n    "metadata": ' + codec.dumps_indented(metadata, 1) + b',\n    "records": {'
    return text if empty else text + b"\n"


def entry(checksum: str, raw: bytes) -> bytes:
    """A record's line, without what separates it from the next."""
    return b'        "%b": %b' % (checksum.encode(), raw)


def foot(*, empty: bool) -> bytes:
    """Everything behind the last record's line."""
    return EMPTY_FOOT if empty else FOOT


def parts(metadata: Row, records: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """A whole document, a part for each record; `records` are (checksum, JSON), sorted by checksum."""
    before = head(metadata, empty=False)
    empty = True
    for checksum, raw in records:
        yield before + entry(checksum, raw)
        before, empty = BETWEEN, False
    yield (head(metadata, empty=True) if empty else b"") + foot(empty=empty)


def render(metadata: Row, records: Iterable[tuple[str, bytes]]) -> bytes:
    """A whole document in one piece."""
    return b"".join(parts(metadata, records))


def skeleton(metadata: Row) -> bytes:
    """An empty manifest."""
    return render(metadata, ())


_CHECKS = (
    Check("process", str, "metadata.process is no text"),
    Check("etl_version", str, "metadata.etl_version is no text"),
    Check("root_dir", str, "metadata.root_dir is no text"),
    Check(
        "process",
        str,
        lambda process: f"metadata.process is {process!r:.40}, not one of {', '.join(PROCESSES)}",
        lambda process: process in PROCESSES,
    ),
    Check("etl_version", str, "metadata.etl_version is empty", bool),
)
"""What the members of the metadata have to be, but for the number of records and the times."""


def checked_metadata(metadata: Any) -> tuple[Row, bool]:
    """The metadata in normal form, and whether a time had no zone; raises `ValueError` saying what is wrong."""
    if not isinstance(metadata, dict):
        raise ValueError("metadata is no JSON object")
    fixed: Row = {"total_records": 0} | metadata
    if type(fixed["total_records"]) is not int:
        raise ValueError("metadata.total_records is no whole number")
    for name in METADATA:
        if name not in fixed:
            raise ValueError(f"metadata has no {name}")
    check_members(fixed, _CHECKS)
    naive = False
    for name in ("ts_created", "ts_updated"):
        try:
            fixed[name], no_zone = normal_time(fixed[name])
        except ValueError:
            raise ValueError(f"metadata.{name} is no ISO-8601 time") from None
        naive = naive or no_zone
    known = {name: fixed[name] for name in METADATA}
    return known | {name: value for name, value in fixed.items() if name not in known}, naive
