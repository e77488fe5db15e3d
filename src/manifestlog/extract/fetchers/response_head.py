"""Turns the head of an HTTP response into a `ResponseHead`.

Invariants:

- A length or range that violates the standard counts as unknown.
- A date identifies the bytes only if it is at least a minute older than the response: younger content may have changed
  twice within one second.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

import urllib3
from urllib3.util.retry import Retry

from manifestlog.extract.fetchers.protocol import ResponseHead

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_NOT_MODIFIED = 304
_STRONG_AFTER_S = 60


def head_of(answer: urllib3.BaseHTTPResponse) -> ResponseHead:
    """Return what a response says before its body."""
    headers = answer.headers
    start, length = _extent(answer.status, headers)
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    last_modified = headers.get("Last-Modified") or None
    return ResponseHead(
        status=answer.status,
        etag=headers.get("ETag") or None,  # an empty ETag never changes
        last_modified=last_modified,
        length_bytes=length,
        start=start,
        retry_after_s=_retry_after_s(headers.get("Retry-After")),
        encoding=None if encoding == "identity" else encoding,
        strong_date=_is_strong(last_modified, headers.get("Date")),
        content_type=headers.get("Content-Type") or None,
    )


def _is_strong(last_modified: str | None, date: str | None) -> bool | None:
    """Return whether a date identifies the bytes. A response without a date is dated now (RFC 9110, 6.6.1)."""
    if not last_modified:
        return None
    modified, sent_at = _seconds(last_modified), _seconds(date or "")
    return modified is not None and (time.time() if sent_at is None else sent_at) - modified >= _STRONG_AFTER_S


@lru_cache(maxsize=256)  # all responses of one second have the same Date
def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _extent(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Return (position of the body's first byte, length of the whole content)."""
    if status in (206, 416):
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if found is None:
            return -1, None
        return int(found[1] or 0), None if found[2] == "*" else int(found[2])
    if status == _NOT_MODIFIED:
        return 0, None  # many servers send 0 here
    said = headers.get("Content-Length", "")
    chunked = "Transfer-Encoding" in headers
    return 0, int(said) if _LENGTH.fullmatch(said) and not chunked else None


def _retry_after_s(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(Retry().parse_retry_after(value)))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
