"""Reads a manifest as a table: rows, columns and Arrow batches of plain values, without models.

Invariants:

- It reads one snapshot, in order of checksums and in batches of bounded size.
- Values are those of the canonical file: times and paths are text. Only Arrow has times as timestamps.

pyarrow is imported by `arrow_batches` only. No other module of this library knows it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from manifestlog.errors import ManifestError
from manifestlog.model import codec
from manifestlog.model.rows import FIELDS, OBSERVED, REQUIRED, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from manifestlog.engines.protocol import Snapshot

COLUMNS = tuple(name for name in FIELDS if name != "tie")
_RECORDS_AT_ONCE = 8192
INSTALL = "pip install 'manifestlog[arrow]'"

Columns = dict[str, list[Any]]


def checked(columns: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of columns [default: all]. Raises `ValueError` for a name that is no column of a manifest."""
    names = COLUMNS if columns is None else tuple(columns)
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ValueError(f"a manifest has no column {', '.join(map(repr, unknown))}, only {', '.join(COLUMNS)}")
    return names


def rows(snapshot: Snapshot, columns: Sequence[str] | None) -> Iterator[Row]:
    """Yield each record as a dict: all its members, or exactly these columns."""
    if columns is None:
        return snapshot.rows()
    names = checked(columns)
    return (
        dict(zip(names, values, strict=True))
        for some in snapshot.batches()
        for values in zip(*_columns_of(some, names).values(), strict=True)
    )


def column_batches(snapshot: Snapshot, names: Sequence[str]) -> Iterator[Columns]:
    """Yield the records as columns, each a list of one value per record."""
    found: Columns = {name: [] for name in names}
    count = 0
    for some in snapshot.batches():
        for name, values in _columns_of(some, names).items():
            found[name] += values
        count += len(some)
        if count >= _RECORDS_AT_ONCE:
            yield found
            found, count = {name: [] for name in names}, 0
    if count:
        yield found


def _columns_of(some: Sequence[tuple[str, bytes]], names: Sequence[str]) -> Columns:
    parsed = codec.loads_all(raw for _, raw in some)
    bare = all(map(len(REQUIRED).__eq__, map(len, parsed)))  # nearly always: no record has an optional member
    return {name: _column(parsed, name, bare=bare) for name in names}


def _column(parsed: list[Row], name: str, *, bare: bool) -> list[Any]:
    if name in REQUIRED:
        return [row[name] for row in parsed]
    return [None] * len(parsed) if bare else [row.get(name) for row in parsed]


def arrow_batches(snapshot: Snapshot, names: Sequence[str]) -> pa.RecordBatchReader:
    """Return an Arrow reader of these columns, which reads each batch when it is asked for."""
    try:
        arrow = importlib.import_module("pyarrow")  # an extra, and it takes longer to import than everything else
    except ImportError:
        raise ManifestError(f"Arrow batches need pyarrow: {INSTALL}") from None
    as_text, as_typed = _schema(arrow, names, arrow.string()), _schema(arrow, names, arrow.timestamp("us", tz="UTC"))
    batches = (
        arrow.RecordBatch.from_pydict(some, schema=as_text).cast(as_typed)  # parses times many times as fast as Python
        for some in column_batches(snapshot, names)
    )
    reader: pa.RecordBatchReader = arrow.RecordBatchReader.from_batches(as_typed, batches)
    return reader


def _schema(arrow: Any, names: Sequence[str], time: Any) -> Any:
    """Return the Arrow schema of these columns, with this type for times."""
    text = arrow.string()
    special = {"ts_downloaded": time, "file_size": arrow.int64(), "derived_from": arrow.list_(text)}
    seen = arrow.struct([(name, special.get(name, text)) for name in OBSERVED if name != "tie"])
    special["also_seen"] = arrow.list_(seen)
    return arrow.schema([(name, special.get(name, text)) for name in names])
