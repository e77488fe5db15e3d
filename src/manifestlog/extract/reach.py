"""How a source's server is reached and asked: client certificate, trusted authorities, proxy, method and body.

Invariants:

- What a source says comes before what the defaults say, and both before the environment. A key belongs to the
  certificate that stands beside it.
- Proxy and body may hold secrets: they are in no `repr`.
- Certificate, key and authorities are tried here before a library gets them: OpenSSL would ask the terminal for the
  password of an encrypted key, and wait for ever.

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
"""In place of a proxy's address: no proxy, whatever the environment says."""
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_FILES = ("cert", "key", "ca")
_TEXT_TYPE = "application/x-www-form-urlencoded"
_OBJECT_TYPE = "application/json"


def has_host(url: str) -> bool:
    """Whether an address names a host, and a port or none."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_http(url: str) -> bool:
    """Whether a source at this address is asked over HTTP."""
    return url.partition("://")[0].lower() in HTTP


def has_unseen(text: str) -> bool:
    """Whether a text holds spaces, control characters, or halves of characters."""
    return any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in text)


def _file(value: object, info: ValidationInfo) -> object:
    """An absolute path; relative ones lie beside the configuration file."""
    if not isinstance(value, str | Path) or not str(value):
        return value
    if not str(value).isprintable() or str(value).startswith("~"):
        raise ValueError("expected the path of a file, and ~ is not expanded; write it out")
    base = info.context["folder"] if info.context else ""
    return os.path.abspath(os.path.join(base, value))


def _proxy(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if value in ("", DIRECT):
        return value
    if not separator or has_unseen(value) or not has_host(value):
        raise ValueError(f"expected an address like http://proxy.example.org:3128, or {DIRECT}; correct it")
    if scheme.lower() not in _PROXY_SCHEMES:
        raise ValueError(f"expected a proxy of one of the schemes {', '.join(_PROXY_SCHEMES)}; correct it")
    return value


def _body(value: object) -> object:
    try:
        if isinstance(value, str):
            value.encode()
            return value
        if isinstance(value, dict):
            return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        pass  # nothing that JSON has
    if value is None:
        return None
    raise ValueError("expected a text, or an object of what JSON has; correct it")


_File = Annotated[str | None, BeforeValidator(_file)]


class Reach(BaseModel):
    """How a server is reached and asked; None says nothing, and an empty text takes back what the defaults say."""

    cert: _File = Field(default=None, description="the path of a file, a client certificate in PEM")
    key: _File = Field(default=None, description="the path of a file, the certificate's key in PEM")
    ca: _File = Field(default=None, description="the path of a file, certificates in PEM")
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        default=None, repr=False, description="an address like http://proxy.example.org:3128, or none"
    )
    method: Literal["GET", "POST"] | None = Field(default=None, description="GET or POST")
    body: Annotated[str | dict[str, Any] | None, PlainValidator(_body)] = Field(
        default=None, repr=False, description="a text, or an object"
    )


def settled(source: Reach, defaults: Reach) -> Reach:
    """What counts for a source: its own, else the default."""
    found = {
        name: theirs if (theirs := getattr(source, name)) is not None else getattr(defaults, name)
        for name in Reach.model_fields
    }
    if source.cert is not None:
        found["key"] = source.key
    return Reach.model_construct(**found)


def asks_by_post(source: Reach, defaults: Reach) -> bool:
    """Whether a source is asked by POST; then nothing but the content tells whether its answer is news."""
    return (source.method or defaults.method) == "POST"


def sent(wanted: Reach) -> tuple[bytes, str] | None:
    """The body to send, and what is said to be its type; None where there is none."""
    if wanted.method != "POST" or not wanted.body:
        return None
    if isinstance(wanted.body, str):
        return wanted.body.encode(), _TEXT_TYPE
    return json.dumps(wanted.body).encode(), _OBJECT_TYPE


def texts_in(body: object) -> Iterator[str]:
    """Every text in a body, its keys left out."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


# -- what is wrong -----------------------------------------------------------------------------------------------------


def misplaced(source: Reach, url: str, defaults: Reach) -> Iterator[tuple[str, str]]:
    """(field, reason) of what a source at this address cannot use, or lacks."""
    if not is_http(url):
        for name in Reach.model_fields:
            if getattr(source, name) and (name, getattr(source, name)) != ("method", "GET"):
                yield name, "counts for http and https only, and the url has another scheme; remove it"
        return
    if source.cert and not url.lower().startswith("https:"):
        yield (
            "cert",
            "expected a url with https, as a certificate is shown over TLS only; correct the url, or remove it",
        )
    if source.body and not asks_by_post(source, defaults):
        yield "body", "is sent by POST only; set method to POST, or remove it"


def missing(owner: Reach) -> Iterator[tuple[str, str]]:
    """(field, reason) of files that are not there, or not named."""
    if owner.key and not owner.cert:
        yield "key", "expected a cert beside it, the certificate that it is the key of; add cert, or remove key"
    for name in _FILES:
        path = getattr(owner, name)
        if path and not os.path.isfile(path):
            yield name, "there is no such file (a relative path begins at the configuration's folder); correct the path"
        elif path and not os.access(path, os.R_OK):
            yield name, "the file must not be read by this user; change its permissions"


class _EncryptedError(Exception):
    """A key wants a password."""


def _no_password() -> str:
    raise _EncryptedError


def unusable(wanted: Reach) -> str | None:
    """Why certificate, key or authorities cannot be used, and what to do; None when they can."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if wanted.ca:
            context.load_verify_locations(wanted.ca)
    except OSError as error:
        return f"ca: {_why(error)}: correct it to a file of certificates in PEM"
    try:
        if wanted.cert:
            context.load_cert_chain(wanted.cert, wanted.key or None, _no_password)
    except _EncryptedError:
        return "key: it is encrypted, and nobody is there to type its password: store it decrypted (openssl pkey), for this user only"
    except OSError as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return "key: it is not the key of the certificate: correct cert or key"
        return (
            f"cert: {_why(error)}: correct cert to a certificate in PEM, and key to its key, or put both into one file"
        )
    return None


def _why(error: OSError) -> str:
    return "the file cannot be used" if isinstance(error, ssl.SSLError) else error.strerror or "it cannot be read"
