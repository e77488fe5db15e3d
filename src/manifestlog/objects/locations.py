"""Checks the URL of a directory in an object store, and splits it into bucket and key.

It knows no store.
"""

from __future__ import annotations

import re
from typing import NamedTuple

S3 = frozenset({"s3", "s3a"})
OTHERS = {"gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""Schemes that obstore serves, each with the name that users know it by."""
SCHEMES = "s3://, gs:// or az://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


class Place(NamedTuple):
    """The place of an object."""

    scheme: str
    bucket: str
    key: str


def split(url: str) -> Place:
    """Return scheme, bucket and key of a URL."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return Place(scheme.lower(), bucket, key)


def joined(url: str, key: str) -> str:
    """Return the URL of a key in the bucket of another URL."""
    place = split(url)
    return f"{url.partition('://')[0]}://{place.bucket}/{key}"


def problem(url: str) -> str | None:
    """Return why a URL cannot be the place of data files, and what to write instead; None if it can."""
    scheme, bucket, key = split(url)
    if scheme not in S3 and scheme not in OTHERS:
        return f"expected a local directory or a URL of {SCHEMES}; mount other stores, and name the directory"
    if "@" in bucket or ":" in bucket:
        return "expected a bucket alone; credentials and endpoints come from the store's own variables and files"
    if not _BUCKET.fullmatch(bucket):
        return f"expected a bucket of letters, digits, dots and dashes; write it like {scheme}://bucket/raw"
    if any(segment in ("", ".", "..") for segment in key.split("/")) and key:
        return "expected a path without empty parts, . and ..; correct it"
    if "?" in key:
        return "expected a URL without ?; options come from the store's own variables and files"
    return None
