"""The request options of a source: client certificate, trusted authorities, proxy, method and body.

Invariants:

- A source's options override the defaults, and both override the environment. A key belongs to the certificate beside
  it.
- Proxy and body may contain secrets: they appear in no `repr`.
- Certificate, key and authorities are checked here before a library loads them: OpenSSL would prompt on the terminal
  for the password of an encrypted key, and block.

It makes no connection.
"""

from __future__ import annotations

import json
import os
import ssl
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, ValidationInfo

HTTP = ("http", "https")
DIRECT = "none"
"""Given as `proxy`: use no proxy, whatever the environment says."""
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_FILES = ("cert", "key", "ca")
_TEXT_TYPE = "application/x-www-form-urlencoded"
_OBJECT_TYPE = "application/json"


def has_host(url: str) -> bool:
    """Return whether a URL names a host, and a valid port if any."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_http(url: str) -> bool:
    """Return whether this URL is requested over HTTP."""
    return url.partition("://")[0].lower() in HTTP


def has_invisible(text: str) -> bool:
    """Return whether a text contains white space, control characters or surrogates."""
    return any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in text)


def _file(value: object, info: ValidationInfo) -> object:
    """Return an absolute path; relative paths start at the configuration file's directory."""
    if not isinstance(value, str | Path) or not str(value):
        return value
    if not str(value).isprintable() or str(value).startswith("~"):
        raise ValueError("expected the path of a file (~ is not expanded); write the path out")
    base = info.context["directory"] if info.context else ""
    return os.path.abspath(os.path.join(base, value))


def _proxy(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if value in ("", DIRECT):
        return value
    if not separator or has_invisible(value) or not has_host(value):
        raise ValueError(f"expected a URL like http://proxy.example.org:3128, or {DIRECT}; correct it")
    if scheme.lower() not in _PROXY_SCHEMES:
        raise ValueError(f"expected a proxy URL with one of the schemes {', '.join(_PROXY_SCHEMES)}; correct it")
    return value


def _body(value: object) -> object:
    try:
        if isinstance(value, str):
            value.encode()
            return value
        if isinstance(value, dict):
            return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        pass  # not representable in JSON
    if value is None:
        return None
    raise ValueError("expected a string, or an object of JSON values; correct it")


_File = Annotated[str | None, BeforeValidator(_file)]


class RequestOptions(BaseModel):
    """How to reach and query a server; None sets nothing, and an empty string removes the default."""

    cert: _File = Field(default=None, description="the path of a file, a client certificate in PEM")
    key: _File = Field(default=None, description="the path of a file, the certificate's key in PEM")
    ca: _File = Field(default=None, description="the path of a file, certificates in PEM")
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        default=None, repr=False, description="a URL like http://proxy.example.org:3128, or none"
    )
    method: Literal["GET", "POST"] | None = Field(default=None, description="GET or POST")
    body: Annotated[str | dict[str, Any] | None, PlainValidator(_body)] = Field(
        default=None, repr=False, description="a string, or an object"
    )


def effective_options(source: RequestOptions, defaults: RequestOptions) -> RequestOptions:
    """Return the options that apply to a source: its own, otherwise the default."""
    found = {
        name: theirs if (theirs := getattr(source, name)) is not None else getattr(defaults, name)
        for name in RequestOptions.model_fields
    }
    if source.cert is not None:
        found["key"] = source.key
    return RequestOptions.model_construct(**found)


def uses_post(source: RequestOptions, defaults: RequestOptions) -> bool:
    """Return whether a source is requested by POST; then only the content shows whether it has changed."""
    return (source.method or defaults.method) == "POST"


def encoded_body(wanted: RequestOptions) -> tuple[bytes, str] | None:
    """Return the request body and its content type; None without a body."""
    if wanted.method != "POST" or not wanted.body:
        return None
    if isinstance(wanted.body, str):
        return wanted.body.encode(), _TEXT_TYPE
    return json.dumps(wanted.body).encode(), _OBJECT_TYPE


def strings_in(body: object) -> Iterator[str]:
    """Yield every text in a body except keys."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


# -- problems ----------------------------------------------------------------------------------------------------------


def unusable_fields(source: RequestOptions, url: str, defaults: RequestOptions) -> Iterator[tuple[str, str]]:
    """Yield (field, reason) for each option that a source with this URL cannot use, or lacks."""
    if not is_http(url):
        for name in RequestOptions.model_fields:
            if getattr(source, name) and (name, getattr(source, name)) != ("method", "GET"):
                yield name, "applies to http and https only, but the url has another scheme; remove it"
        return
    if source.cert and not url.lower().startswith("https:"):
        yield (
            "cert",
            "expected an https url, since a certificate is sent over TLS only; correct the url, or remove cert",
        )
    if source.body and not uses_post(source, defaults):
        yield "body", "is sent by POST only; set method to POST, or remove body"


def missing_files(owner: RequestOptions) -> Iterator[tuple[str, str]]:
    """Yield (field, reason) for each file that is missing or not named."""
    if owner.key and not owner.cert:
        yield "key", "expected its certificate in cert; add cert, or remove key"
    for name in _FILES:
        path = getattr(owner, name)
        if path and not os.path.isfile(path):
            yield name, "no such file (a relative path starts at the configuration file's directory); correct the path"
        elif path and not os.access(path, os.R_OK):
            yield name, "permission to read the file denied; change its permissions"


class _EncryptedError(Exception):
    """A key is encrypted with a password."""


def _no_password() -> str:
    raise _EncryptedError


def tls_problem(wanted: RequestOptions) -> str | None:
    """Return why certificate, key or authorities cannot be used, and what to do; None if they can."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if wanted.ca:
            context.load_verify_locations(wanted.ca)
    except OSError as error:
        return f"ca: {_why(error)}: set it to a file of certificates in PEM"
    try:
        if wanted.cert:
            context.load_cert_chain(wanted.cert, wanted.key or None, _no_password)
    except _EncryptedError:
        return "key: it is encrypted, and extract cannot ask for its password: store it decrypted (openssl pkey), readable by this user only"
    except OSError as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return "key: it does not belong to the certificate: correct cert or key"
        return f"cert: {_why(error)}: set cert to a certificate in PEM and key to its key, or store both in one file"
    return None


def _why(error: OSError) -> str:
    return "the file is invalid" if isinstance(error, ssl.SSLError) else error.strerror or "the file cannot be read"
