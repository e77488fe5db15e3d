"""Converts a canonical file in another layout (indented, unsorted, upper case) to our layout, in memory.

Invariants:

- The result is the canonical bytes of the same records. The file itself is not changed.
- Anything that cannot be parsed is an error with its byte offset, never an empty manifest.
"""

from __future__ import annotations

import json
import logging
from codecs import BOM_UTF8
from typing import Any

from manifestlog.errors import DamagedManifestError, NotAManifestError
from manifestlog.model import codec
from manifestlog.model.document import checked_metadata, render
from manifestlog.model.rows import Row, merge, normalise

log = logging.getLogger(__name__)

_SHAPE_KEYS_MAX = 5
_SHAPE_KEY_MAX = 40


def canonical_bytes(path: str, data: bytes) -> bytes:
    """Return the canonical bytes of a manifest in another layout.

    Raises `NotAManifestError` for JSON of another shape, and `DamagedManifestError` with the byte offset of the error.
    """
    document = _parse(path, data)
    if not isinstance(document, dict) or not {"metadata", "records"} & set(document):
        raise NotAManifestError(path, _shape(document))
    if not isinstance(document, dict) or not {"metadata", "records"} == set(document):
        raise DamagedManifestError(path, 0, 'expected one object with "metadata" and "records", and nothing else')
    if not isinstance(document["records"], dict):
        raise DamagedManifestError(path, max(0, data.find(b'"records"')), '"records" must be a JSON object')
    try:
        metadata, naive = checked_metadata(document["metadata"])
        codec.dumps(metadata)
    except (ValueError, TypeError) as error:
        raise DamagedManifestError(path, max(0, data.find(b'"metadata"')), str(error)) from None
    rows: dict[str, Row] = {}
    for key, value in document["records"].items():
        row, no_zone = _import_record(path, data, key, value)
        naive = naive or no_zone
        known = rows.get(row["checksum"])
        rows[row["checksum"]] = merge(known, row) if known else row
    if metadata["total_records"] != len(document["records"]):
        log.warning("%s: total_records is %s, but the file has %d", path, metadata["total_records"], len(rows))
    if naive:
        log.warning("%s: times without a time zone were read as UTC", path)
    metadata["total_records"] = len(rows)
    _writable(path, data, b'"metadata"', metadata)
    return render(metadata, ((c, _writable(path, data, c.encode(), rows[c])) for c in sorted(rows)))


def _shape(document: Any) -> str:
    """Describe a JSON document for a message."""
    if isinstance(document, list):
        return f"a list of {len(document)} values"
    if isinstance(document, dict):
        keys = [repr(key[:_SHAPE_KEY_MAX]) for key in list(document)[:_SHAPE_KEYS_MAX]]
        more = ", …" if len(document) > len(keys) else ""
        return f"an object with the keys {', '.join(keys)}{more}" if keys else "an empty object"
    return "a string" if isinstance(document, str) else f"nothing but {json.dumps(document)[:_SHAPE_KEY_MAX]}"


def _writable(path: str, data: bytes, place: bytes, value: Row) -> bytes:
    """Encode a value as JSON; raises `DamagedManifestError` if it is too deep or too large to be written again."""
    try:
        return codec.dumps(value)
    except TypeError as error:
        reason = f"a member cannot be written as JSON again ({error})"
        raise DamagedManifestError(path, max(0, data.find(place)), reason) from None


def _import_record(path: str, data: bytes, key: str, value: object) -> tuple[Row, bool]:
    try:
        row, naive = normalise(value, key)
        codec.dumps(row)  # refuses a number beyond 64 bits, also in an unknown member, with its place
        return row, naive
    except (ValueError, TypeError) as error:
        raise DamagedManifestError(path, max(0, data.find(json.dumps(key).encode())), str(error)) from None


def _parse(path: str, data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedManifestError(path, error.start, "not UTF-8") from None
    try:
        codec.loads(data.removeprefix(BOM_UTF8))  # stricter than json: no NaN, no lone surrogates, limited nesting
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise DamagedManifestError(path, offset, f"not JSON ({error.msg})") from None
    except RecursionError:
        raise DamagedManifestError(path, 0, "nested too deeply") from None
    except ValueError as error:
        key = str(error).encode()
        raise DamagedManifestError(path, max(0, data.rfind(key)), f"duplicate key {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(key[:80])
            seen.add(key)
    return found
