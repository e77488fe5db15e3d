"""Renders a whole manifest as one JSON document: its metadata, its records and the bytes between them.

::

    {
        "metadata": {
            "process": "extractor",
            …
        },
        "records": {
            "0a4d…": {"source_id":…},      one record per line, sorted by checksum
            "9f31…": {"source_id":…}
        }
    }

Invariants:

- The same records and metadata give the same bytes.
- A record starts `KEY_BYTES` after the start of its line, so the sorted file can be searched directly.

No I/O. The file engine stores this document as its canonical file, and `manifestlog cat` prints it for any engine.
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
    """Return the bytes before the line of the first record."""
    text = b'{\n    "metadata": ' + codec.dumps_indented(metadata, 1) + b',\n    "records": {'
    return text if empty else text + b"\n"


def entry(checksum: str, raw: bytes) -> bytes:
    """Return the line of a record, without the separator."""
    return b'        "%b": %b' % (checksum.encode(), raw)


def foot(*, empty: bool) -> bytes:
    """Return the bytes after the line of the last record."""
    return EMPTY_FOOT if empty else FOOT


def parts(metadata: Row, records: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Yield a whole document, one part per record. `records` are (checksum, JSON), sorted by checksum."""
    before = head(metadata, empty=False)
    empty = True
    for checksum, raw in records:
        yield before + entry(checksum, raw)
        before, empty = BETWEEN, False
    yield (head(metadata, empty=True) if empty else b"") + foot(empty=empty)


def render(metadata: Row, records: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a whole document."""
    return b"".join(parts(metadata, records))


def skeleton(metadata: Row) -> bytes:
    """Return the document of an empty manifest."""
    return render(metadata, ())


_CHECKS = (
    Check("process", str, "metadata.process is not a string"),
    Check("etl_version", str, "metadata.etl_version is not a string"),
    Check("root_dir", str, "metadata.root_dir is not a string"),
    Check(
        "process",
        str,
        lambda process: f"metadata.process is {process!r:.40}, not one of {', '.join(PROCESSES)}",
        lambda process: process in PROCESSES,
    ),
    Check("etl_version", str, "metadata.etl_version is empty", bool),
)
"""Checks of the metadata's members, except the number of records and the times."""


def checked_metadata(metadata: Any) -> tuple[Row, bool]:
    """Return the metadata in normal form, and whether a time had no zone. Raises `ValueError` with the reason."""
    if not isinstance(metadata, dict):
        raise ValueError("metadata is not a JSON object")
    fixed: Row = {"total_records": 0} | metadata
    if type(fixed["total_records"]) is not int:
        raise ValueError("metadata.total_records is not an integer")
    for name in METADATA:
        if name not in fixed:
            raise ValueError(f"metadata lacks {name}")
    check_members(fixed, _CHECKS)
    naive = False
    for name in ("ts_created", "ts_updated"):
        try:
            fixed[name], no_zone = normal_time(fixed[name])
        except ValueError:
            raise ValueError(f"metadata.{name} is not an ISO-8601 time") from None
        naive = naive or no_zone
    known = {name: fixed[name] for name in METADATA}
    return known | {name: value for name, value in fixed.items() if name not in known}, naive
