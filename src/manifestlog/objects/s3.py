"""S3 and compatible stores: conditional uploads, checked part by part.

Invariants:

- Every body is sent with its SHA-256, which the store compares with the bytes that it received.
- `If-None-Match: *` makes the store itself refuse a name that is taken, for small objects and at the end of large ones.
- A copy of up to 5 GiB is compared with the SHA-256 of the content, if the store returns one.

Credentials, region, endpoint, certificate authorities and retries come from the environment and the files of AWS.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.locations import joined, split
from manifestlog.objects.protocol import Copied, Listed, ObjectStat, Unfinished
from manifestlog.objects.s3_errors import code_of, translated
from manifestlog.objects.s3_patience import be_patient

_BLOCK_BYTES = 1 << 20
_COPY_BYTES_MAX = 5 << 30
"""S3 copies no larger range at once."""
_CONFLICTS_MAX = 5
_TAKEN = frozenset({"PreconditionFailed", "412"})
_CONFLICT = "ConditionalRequestConflict"
"""Another request for the same name was in progress: only a repetition tells whether it won."""
_GONE = frozenset({"NoSuchKey", "404", "NotFound"})


def _base64(sha256: bytes) -> str:
    return base64.b64encode(sha256).decode()


def _hex(sha256: str | None) -> str | None:
    """Return a SHA-256 as hexadecimal digits; None for that of an upload's parts, which ends with their number."""
    return None if sha256 is None or "-" in sha256 else base64.b64decode(sha256).hex()


def _address(url: str) -> dict[str, str]:
    place = split(url)
    return {"Bucket": place.bucket, "Key": place.key}


@cache
def _descriptions() -> Any:
    """Return what botocore reads of the services that it knows. To read it takes ten times as long as a client."""
    return botocore.session.Session().get_component("data_loader")


def _session() -> botocore.session.Session:
    """Return a session with the environment's present settings."""
    session = botocore.session.Session()
    session.register_component("data_loader", _descriptions())
    return session


class S3Store:
    """The buckets that one set of credentials can reach."""

    forks = True

    def __init__(self, url: str, connections: int = 10) -> None:
        config = Config(max_pool_connections=connections)
        with translated(url):
            session = _session()
            self._client: Any = session.create_client("s3", config=config)
            be_patient(self._client, session)

    def stat(self, url: str) -> ObjectStat | None:
        with translated(url):
            try:
                found = self._client.head_object(**_address(url), ChecksumMode="ENABLED")
            except ClientError as error:
                if code_of(error) in _GONE:
                    return None
                raise
        return ObjectStat(found["ContentLength"], _hex(found.get("ChecksumSHA256")))

    def read(self, url: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        wanted = {} if not start and length is None else {"Range": f"bytes={start}-{_end(start, length)}"}
        with translated(url):
            body = self._client.get_object(**_address(url), **wanted)["Body"]
            try:
                while block := body.read(_BLOCK_BYTES):
                    yield block
            finally:
                body.close()

    def list(self, url: str) -> Iterator[Listed]:
        bucket, prefix = split(url)[1:]
        wanted = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/" if prefix else ""}
        with translated(url):
            for page in self._client.get_paginator("list_objects_v2").paginate(**wanted):
                for one in page.get("Contents", ()):
                    yield Listed(joined(url, one["Key"]), one["Size"])

    def create(self, url: str, content: bytes | bytearray, sha256: str) -> bool:
        checksum = _base64(bytes.fromhex(sha256))
        return _creating(
            url,
            lambda: self._client.put_object(**_address(url), Body=content, ChecksumSHA256=checksum, IfNoneMatch="*"),
        )

    def write(self, url: str, content: bytes | bytearray) -> None:
        checksum = _base64(hashlib.sha256(content).digest())
        with translated(url):
            self._client.put_object(**_address(url), Body=content, ChecksumSHA256=checksum)

    def upload(self, url: str) -> S3Upload:
        return S3Upload(self._client, url)

    def copy(self, source: str, target: str, stat: ObjectStat, *, creates: bool) -> bool:
        upload = S3Upload(self._client, target)
        try:
            for start in range(0, stat.size, _COPY_BYTES_MAX):
                found = upload.copy(source, start, min(_COPY_BYTES_MAX, stat.size - start))
                if stat.size <= _COPY_BYTES_MAX and None not in (found, stat.sha256) and found != stat.sha256:
                    raise ObjectStoreError(f"the store's copy has the SHA-256 {found}; run again", target)
            return upload.finish(creates=creates)
        finally:
            upload.abort()

    def delete(self, url: str) -> None:
        with translated(url):
            self._client.delete_object(**_address(url))

    def unfinished(self, url: str) -> Iterator[Unfinished]:
        bucket, prefix = split(url)[1:]
        wanted = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/" if prefix else ""}
        with translated(url):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**wanted):
                for one in page.get("Uploads", ()):
                    yield Unfinished(joined(url, one["Key"]), one["UploadId"])

    def abort(self, upload: Unfinished) -> None:
        with translated(upload.url), suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(**_address(upload.url), UploadId=upload.id)


def _end(start: int, length: int | None) -> str:
    return "" if length is None else str(start + length - 1)


def _creating(url: str, request: Any) -> bool:
    """Send a conditional request; return False if the name is taken.

    A repetition after a lost answer finds the name taken by itself, so the caller compares the contents.
    """
    with translated(url):
        for attempt in range(_CONFLICTS_MAX):
            try:
                request()
                return True
            except ClientError as error:
                if code_of(error) in _TAKEN:
                    return False
                if code_of(error) != _CONFLICT or attempt == _CONFLICTS_MAX - 1:
                    raise
    raise AssertionError


class S3Upload:
    """A multipart upload."""

    def __init__(self, client: Any, url: str) -> None:
        self._client, self._url = client, url
        self._parts: list[dict[str, Any]] = []
        self._is_open = True
        with translated(url):
            self._id = client.create_multipart_upload(**_address(url), ChecksumAlgorithm="SHA256")["UploadId"]

    def _next(self) -> dict[str, Any]:
        return {**_address(self._url), "UploadId": self._id, "PartNumber": len(self._parts) + 1}

    def _add(self, answer: dict[str, Any]) -> None:
        names = [name for name in ("ETag", "ChecksumSHA256") if answer.get(name)]
        self._parts.append({name: answer[name] for name in names} | {"PartNumber": len(self._parts) + 1})

    def write(self, part: bytes | bytearray, copied: Copied | None = None) -> None:
        if copied is not None:
            self.copy(copied.url, copied.start, len(part))
            return
        checksum = _base64(hashlib.sha256(part).digest())
        with translated(self._url):
            self._add(self._client.upload_part(**self._next(), Body=part, ChecksumSHA256=checksum))

    def copy(self, source: str, start: int, length: int) -> str | None:
        """Copy a range of another object as the next part; return the SHA-256 that the store found, or None."""
        wanted = {"CopySource": _address(source), "CopySourceRange": f"bytes={start}-{start + length - 1}"}
        with translated(source):
            answer = self._client.upload_part_copy(**self._next(), **wanted)["CopyPartResult"]
        self._add(answer)
        return _hex(answer.get("ChecksumSHA256"))

    def complete(self) -> None:
        self.finish(creates=False)

    def finish(self, *, creates: bool) -> bool:
        """Make the object appear; return False if the name is taken, and `creates`."""
        condition = {"IfNoneMatch": "*"} if creates else {}
        wanted = {"UploadId": self._id, "MultipartUpload": {"Parts": self._parts}}
        done = _creating(
            self._url,
            lambda: self._client.complete_multipart_upload(**_address(self._url), **wanted, **condition),
        )
        self._is_open = not done
        return done

    def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(ObjectStoreError), translated(self._url):
                self._client.abort_multipart_upload(**_address(self._url), UploadId=self._id)
