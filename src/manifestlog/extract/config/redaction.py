"""Removes secrets from URLs and from messages of other libraries.

Invariants:

- `redact` never raises, whatever the text.
- After `redact`, the text contains no secret of four or more characters.

Shorter secrets are not searched for: a page number 1 would mask digits in every date and size. They are still hidden in
the usual places, a URL and its query.

It does not know which values came from the environment; the configuration does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.request_options import RequestOptions, encoded_body, strings_in
from manifestlog.model.safe_urls import MASK, safe_text

SECRET_CHARACTERS_MIN = 4

_CREDENTIALS = ("auth", "bearer", "cookie", "credential", "csrf", "jwt", "key", "pass", "secret", "session", "sign",
                "token", "user-id", "xsrf")  # fmt: skip
_OF_ONE_SERVER = frozenset({"host", "origin", "referer"})
_HARMLESS = (
    "accept",
    "cache-control",
    "content-",
    "dnt",
    "from",
    "pragma",
    "prefer",
    "te",
    "user-agent",
    "x-requested-with",
)
_TOKEN = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])\S{8,}")


@dataclass(frozen=True, slots=True)
class Redactor:
    """Removes a set of secrets from any text."""

    secrets: tuple[str, ...] = field(repr=False)  # longest first

    @classmethod
    def of(cls, source: ETLSource, headers: Mapping[str, str], more: Iterable[str] = ()) -> Redactor:
        """Return a redactor for the secrets of a source, of the default headers, and `more`, such as values from the
        environment.
        """
        of_source = (*_in_url(source.url), *_in_headers(source.headers), *secrets_in_options(source))
        return cls.hiding([*of_source, *_in_headers(headers), *more])

    @classmethod
    def hiding(cls, values: Iterable[str]) -> Redactor:
        """Return a redactor for these values."""
        found = {form for value in values for form in _forms(value) if len(form) >= SECRET_CHARACTERS_MIN}
        return cls(tuple(sorted(found, key=lambda secret: (-len(secret), secret))))

    def redact(self, text: str) -> str:
        """Return the text with `***` for every secret, and with safe URLs."""
        # Secrets first, since one may be a whole URL; and again last, since shortening a URL may join two halves.
        return self.without_secrets(safe_text(self.without_secrets(text)))

    def without_secrets(self, text: str) -> str:
        """Return the text with `***` for every secret; URLs stay as they are."""
        while any(secret in text for secret in self.secrets):  # terminates: every secret is longer than the mask
            for secret in self.secrets:
                text = text.replace(secret, MASK)
        return text


def is_credential(name: str, value: str) -> bool:
    """Return whether a header is probably a credential, or belongs to one server only.

    Its name decides; for an unknown name, a value of letters and digits without a space counts as a token.
    """
    lower = name.lower()
    if lower in _OF_ONE_SERVER or any(part in lower for part in _CREDENTIALS):
        return True
    return not lower.startswith(_HARMLESS) and _TOKEN.fullmatch(value) is not None


def _in_url(url: str) -> Iterator[str]:
    for userinfo in re.findall(r"://([^/?#]*)@", url):
        user, _, password = userinfo.partition(":")
        yield from (userinfo, user, password)
        # It is sent as an Authorization header.
        yield base64.b64encode(unquote(userinfo).encode()).decode()
    for pair in re.split(r"[?#&]", url)[1:]:
        name, equals, value = pair.partition("=")
        yield value if equals else name


def secrets_in_options(options: RequestOptions) -> Iterator[str]:
    """Yield possible secrets in the request options: the proxy's userinfo, and the body as configured and as sent."""
    yield from _in_url(options.proxy or "")
    body, _ = encoded_body(options.model_copy(update={"method": "POST"})) or (b"", "")
    yield body.decode()
    for text in strings_in(options.body):
        yield text
        yield from (pair.partition("=")[2] for pair in text.split("&"))


def _in_headers(headers: Mapping[str, str]) -> Iterator[str]:
    for value in headers.values():
        scheme, _, token = value.partition(" ")
        yield from (value, token.strip())
        if scheme.lower() == "basic":
            yield from _in_basic(token.strip())


def _in_basic(token: str) -> Iterator[str]:
    try:
        userinfo = base64.b64decode(token, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    user, _, password = userinfo.partition(":")
    yield from (userinfo, user, password)


def _forms(value: str) -> set[str]:
    """Return the value as configured, decoded, as libraries encode it, and as `repr` shows it."""
    plain = {value, unquote(value), unquote_plus(value)}
    sent = {encode(text, safe=safe, errors="surrogatepass") for text in plain for encode, safe in _ENCODINGS}
    return plain | sent | {repr(text)[1:-1] for text in plain}


_ENCODINGS = ((quote, ""), (quote_plus, ""), (quote, "!#$%&'()*+,/:;=?@[]~"))
