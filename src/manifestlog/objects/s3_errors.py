"""Describes in one line what an S3 store refused, and what to do.

Invariants:

- No text of the library or the store gets into a message, only the code of the error: the text may contain a key id, a
  signed URL or a token.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as BotoConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.locations import split

_VARIABLES = "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REJECTED = frozenset(
    [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "AuthorizationHeaderMalformed",
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "InvalidClientTokenId",
    ]
)
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"})
_BUSY = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "502", "503", "504"})
_NO_CREDENTIALS = (
    NoCredentialsError, PartialCredentialsError, ProfileNotFound, CredentialRetrievalError, SSOError, TokenRetrievalError,
)  # fmt: skip


def code_of(error: ClientError) -> str:
    """Return the code of an error, such as `NoSuchKey`; of an answer without a body, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise an `ObjectStoreError` in place of an error of the library."""
    try:
        yield
    except ClientError as error:
        raise ObjectStoreError(_of_code(code_of(error), error.operation_name, url), url) from None
    except (BotoCoreError, HTTPClientError, OSError, ValueError) as error:
        raise ObjectStoreError(_of_library(error), url) from None


def _of_code(code: str, operation: str, url: str) -> str:
    if code in _REJECTED:
        return f"the store rejects the credentials ({code}): check {_VARIABLES}"
    if code in _DENIED:
        rights = "list, read, write and delete objects and uploads there"
        return f"the store denies access ({code}, {operation}): grant these credentials to {rights}"
    if code == "NoSuchBucket":
        return f"there is no bucket {split(url).bucket}: create it, or correct the URL"
    if code == "PermanentRedirect":
        return "the bucket is in another region: set AWS_REGION, or correct the URL"
    if code == "RequestTimeTooSkewed":
        return "this machine's clock is wrong, so the store rejects its requests: synchronise it by NTP"
    if code in _BUSY:
        return f"the store is busy ({code}): run again later"
    if code == "NoSuchUpload":
        return "another process has ended this upload: run again"
    if code in ("NoSuchKey", "404"):
        return "there is no such object: it was deleted meanwhile"
    if code in ("NotImplemented", "501"):
        return "the store lacks a request that is needed, such as conditional writes: use another store"
    said = f"{code or 'no code'}, {operation}"
    return f"the store refuses the request ({said}): look the code up in the store's documentation"


def _of_library(error: Exception) -> str:
    if isinstance(error, _NO_CREDENTIALS):
        return f"no usable credentials were found ({type(error).__name__}): set {_VARIABLES}"
    if isinstance(error, SSLError):
        return "the store's certificate is not trusted: check AWS_ENDPOINT_URL, or set AWS_CA_BUNDLE"
    if isinstance(error, InvalidConfigError):
        return "the configuration of AWS is invalid: correct ~/.aws/config"
    if isinstance(error, (BotoConnectionError, HTTPClientError)):
        kind = type(error).__name__
        return f"the store does not answer ({kind}): check the network and AWS_ENDPOINT_URL, then run again"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "too many open files: raise `ulimit -n`"
    return f"the request cannot be sent ({type(error).__name__}): check AWS_ENDPOINT_URL, AWS_REGION and ~/.aws/config"
