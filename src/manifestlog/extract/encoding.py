"""Encodings in transit: whether a body is decoded before it is kept, and why; and how.

Invariants:

- What is decoded is checked to its end: a body that is cut, or not encoded as it says, is refused.

It does not talk to servers, and does not know parts.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

from manifestlog.extract import place
from manifestlog.extract.config import Defaults
from manifestlog.extract.fetch import FetchError, Head
from manifestlog.extract.source import ETLSource

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_SUFFIXES = {
    "gzip": (".gz", ".gzip", ".tgz"), "x-gzip": (".gz", ".gzip", ".tgz"), "deflate": (".zz", ".zlib"),
    "br": (".br",), "zstd": (".zst", ".zstd"), "compress": (".z",), "x-compress": (".z",),
}  # fmt: skip
_WITH_CONTENT = (200, 206)
_DECODABLE = frozenset({"gzip", "x-gzip", "deflate"})


def heard(defaults: Defaults, source: ETLSource, head: Head) -> Head:
    """The head with the encoding that is to be decoded, or with none when the body is kept as it comes."""
    if head.encoding is None or head.status not in _WITH_CONTENT:
        return head
    wanted = source.decode if source.decode is not None else defaults.decode
    can_be = head.encoding in _DECODABLE
    is_named = place.name_of(source).lower().endswith(_SUFFIXES.get(head.encoding, ()))
    if wanted and not can_be:
        reason = f"the server sends it encoded as {head.encoding}, which cannot be decoded here: set decode = false"
        raise FetchError(f"{reason} to keep it as it comes", transient=False)
    decodes = wanted if wanted is not None else can_be and not is_named
    if wanted is not None:
        why = f"as decode = {str(wanted).lower()} says"
    elif can_be or is_named:
        why = "by the end of its name; `decode` in the configuration decides otherwise"
    else:
        why = "as that cannot be decompressed here; `decode = false` says that this is right"
    log.log(
        logging.INFO if wanted is not None or is_named else logging.WARNING,
        "%s/%s: the server sends it compressed (%s); it is stored %s, %s",
        *(source.dataset, source.source_id, head.encoding, "decompressed" if decodes else "as it comes", why),
    )
    return head if decodes else head._replace(encoding=None)


def decode(path: Path, to: Path, encoding: str) -> str:
    """Decode a file into another one; its SHA-256. Raises `FetchError` when it is not encoded so."""
    sha = hashlib.sha256()
    blocks = _inflated(path) if encoding == "deflate" else _unzipped(path)
    to.unlink(missing_ok=True)  # of a run that was killed, or somebody's link: neither is written into
    with to.open("xb") as file:
        try:
            for block in blocks:
                sha.update(block)
                file.write(block)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            reason = f"the body is not what its Content-Encoding says ({encoding}): tell whoever runs the server"
            raise FetchError(f"{reason}, or set decode = false", transient=False) from None
    return sha.hexdigest()


def _unzipped(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _inflated(path: Path) -> Iterator[bytes]:
    """With the header of zlib, as the standard says, or without it, as some servers send it."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(0)
        has_header = len(head) == 2 and head[0] & 15 == 8 and int.from_bytes(head, "big") % 31 == 0
        inflater = zlib.decompressobj(15 if has_header else -15)
        while block := file.read(_BLOCK_BYTES):
            while block:
                yield inflater.decompress(block, _BLOCK_BYTES)
                block = inflater.unconsumed_tail
        yield inflater.flush()
        if not inflater.eof or inflater.unused_data:
            raise EOFError
