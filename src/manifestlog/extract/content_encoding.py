"""Content-Encoding: decides whether a body is decoded before it is stored, and decodes it.

Invariants:

- Decoding checks the whole body: a truncated or wrongly labelled body is refused.

It knows neither servers nor parts.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

from manifestlog.extract import paths
from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.fetchers.protocol import FetchError, ResponseHead

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_SUFFIXES = {
    "gzip": (".gz", ".gzip", ".tgz"), "x-gzip": (".gz", ".gzip", ".tgz"), "deflate": (".zz", ".zlib"),
    "br": (".br",), "zstd": (".zst", ".zstd"), "compress": (".z",), "x-compress": (".z",),
}  # fmt: skip
_WITH_CONTENT = (200, 206)
_DECODABLE = frozenset({"gzip", "x-gzip", "deflate"})


def resolve_encoding(defaults: Defaults, source: ETLSource, head: ResponseHead) -> ResponseHead:
    """Return the head with the encoding to decode, or without one if the body is stored as sent."""
    if head.encoding is None or head.status not in _WITH_CONTENT:
        return head
    wanted = source.decode if source.decode is not None else defaults.decode
    can_be = head.encoding in _DECODABLE
    is_named = paths.file_name_of(source).lower().endswith(_SUFFIXES.get(head.encoding, ()))
    if wanted and not can_be:
        reason = f"the server sends the unsupported Content-Encoding {head.encoding}: set decode = false"
        raise FetchError(f"{reason} to store the body as sent", transient=False)
    decodes = wanted if wanted is not None else can_be and not is_named
    if wanted is not None:
        why = f"decode = {str(wanted).lower()}"
    elif can_be or is_named:
        why = "because of the file name's suffix; set decode to choose"
    else:
        why = "because this encoding is not supported; set decode = false to confirm"
    log.log(
        logging.INFO if wanted is not None or is_named else logging.WARNING,
        "%s/%s: the server sends the file compressed (%s); it is stored %s (%s)",
        *(source.dataset, source.source_id, head.encoding, "decompressed" if decodes else "as sent", why),
    )
    return head if decodes else head._replace(encoding=None)


def decode(path: Path, to: Path, encoding: str) -> str:
    """Decode a file into another one and return its SHA-256; raises `FetchError` if it does not have this encoding."""
    sha = hashlib.sha256()
    to.unlink(missing_ok=True)  # left by a killed run, or a link: never write into either
    with to.open("xb") as file, path.open("rb") as body:
        for block in decoded(body, encoding):
            sha.update(block)
            file.write(block)
    return sha.hexdigest()


def decoded(body: io.BufferedReader, encoding: str) -> Iterator[bytes]:
    """Yield the decoded body; raises `FetchError` if it does not have this encoding."""
    try:
        yield from _inflated(body) if encoding == "deflate" else _unzipped(body)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        reason = f"the body does not match its Content-Encoding ({encoding}): report it to the server's operator"
        raise FetchError(f"{reason}, or set decode = false", transient=False) from None


def _unzipped(body: io.BufferedReader) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=body) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _inflated(body: io.BufferedReader) -> Iterator[bytes]:
    """Yield the decoded body. Accepts deflate with the standard zlib header, and without it, as some servers send it."""
    head = body.peek(2)[:2]
    has_header = len(head) == 2 and head[0] & 15 == 8 and int.from_bytes(head, "big") % 31 == 0
    inflater = zlib.decompressobj(15 if has_header else -15)
    while block := body.read(_BLOCK_BYTES):
        while block:
            yield inflater.decompress(block, _BLOCK_BYTES)
            block = inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof or inflater.unused_data:
        raise EOFError
