"""Hides credentials and query values in URLs.

Invariants:

- `safe_url` and `safe_text` never raise, whatever the text.
- `safe_url` shows neither userinfo nor query values; a URL that it cannot parse is hidden completely.

It knows no secrets by themselves; `extract` removes those of its configuration.
"""

from __future__ import annotations

import re

MASK = "***"

_SCHEME = r"(?:[a-z*][a-z0-9+.*-]{0,31}::){0,3}[a-z*][a-z0-9+.*-]{0,31}://"
_URL = re.compile(
    rf"(?P<scheme>{_SCHEME})(?P<userinfo>[^/?#]*@)?(?P<host>\[[0-9a-f:.%]*\]|[^/?#@:\[\]]*)(?P<port>:[0-9]*)?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE,
)
_URL_IN_TEXT = re.compile(rf"{_SCHEME}[^\s\"<>]+", re.IGNORECASE)
_QUERY_IN_TEXT = re.compile(r"(?<=[^\s?])\?[^\s\"<>]+")  # urllib3 shows `/path?query`, even of a redirect's target
_SENTENCE_END = ")',.;:"
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f]")


def safe_url(url: str) -> str:
    """Return the URL with `***` for userinfo and query values, without fragment; `***` if it is not a URL."""
    found = None if _UNSEEN.search(url) else _URL.fullmatch(url)
    if found is None:
        return MASK
    userinfo = f"{MASK}@" if found["userinfo"] else ""
    rest = "".join(found[name] or "" for name in ("host", "port", "path"))
    return f"{found['scheme']}{userinfo}{rest}{_masked_query(found['query'] or '')}"


def safe_text(text: str) -> str:
    """Return the text with safe URLs."""
    return _QUERY_IN_TEXT.sub(_query_in_text, _URL_IN_TEXT.sub(_safe_in_text, text))


def _masked_query(query: str) -> str:
    """Return `?a=***&b=***` for `?a=1&b=2`; a part without a name is hidden completely."""
    return query[:1] + "&".join(map(_masked_pair, query[1:].split("&")))


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if equals:
        return f"{name}={MASK}"
    return MASK if pair else ""


def _safe_in_text(found: re.Match[str]) -> str:
    url, end = _split_end(found[0])
    return safe_url(url) + end


def _query_in_text(found: re.Match[str]) -> str:
    query, end = _split_end(found[0])
    return _masked_query(query) + end


def _split_end(text: str) -> tuple[str, str]:
    """Split the punctuation of the sentence off the end of the text."""
    body = text.rstrip(_SENTENCE_END)
    return body, text[len(body) :]
