"""Hides credentials and query values in URLs, and credentials in texts around them.

Invariants:

- `safe_url` and `safe_text` never raise, whatever the text.
- Everything that a text names as a credential is hidden; words of a sentence stay. It takes linear time.
- `safe_url` shows neither userinfo nor query values; a URL that it cannot parse is hidden completely.

It does not know any secret values; `extract` removes those of its configuration.
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
_PLAIN_URL = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[^\s\x00-\x1f\x7f/?#@:\[\]]*(?:/[^\s\x00-\x1f\x7f?#]*)?")
_URL_IN_TEXT = re.compile(rf"{_SCHEME}[^\s\"<>]+", re.IGNORECASE)
_QUERY_IN_TEXT = re.compile(r"(?<=[^\s?])\?[^\s\"<>]+")  # urllib3 shows `/path?query`, even of a redirect's target
_USERINFO = re.compile(
    r"(?<![^\s\"'<>(\[=,])(?!mailto:)[^\s:/\\@\"'<>(\[=,]{1,64}:[^\s/\\\"'<>]{1,256}@(?!sha[0-9]+:)(?=[\w\[])",
    re.IGNORECASE,
)
"""`user:password@` before a host, without a scheme; not the tag of an image before its digest."""
_HEADER = re.compile(
    r"\b((?:authorization|(?:set-)?cookie)[\"']?\s{0,4}[:=]\s{0,4}[\"']?)"
    r"(?:(?:bearer|basic|digest|token|negotiate|apikey)\s+)?[^\s\"',;]+(?:;\s{0,4}[^\s\"',;=]+=[^\s\"',;]+)*",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"\b((?:bearer|basic)\s+)(?=[^\s\"',;]{0,256}[0-9=+/])[^\s\"',;]{6,}", re.IGNORECASE)
"""A word after the name of a scheme that is none of a language: it has a digit or a sign of Base64."""
_NAMES = (
    r"(?:password|passwd|passphrase|secret|token|signature|credentials?|api[-_]?key|access[-_]?key(?:[-_]?id)?|private[-_]?key"
    r"|session[-_]?id|(?<![a-z0-9])(?:pass|pwd|sig|auth|jwt))"
)
_NOTHING = r"(?!(?:\*{3}|none|null|true|false)(?![\w*]))"
_NAMED = re.compile(
    rf"({_NAMES}[\"']?\s{{0,4}}=\s{{0,4}}|{_NAMES}[\"']\s{{0,4}}:\s{{0,4}}){_NOTHING}"
    r"(\"[^\"]*\"|'[^']*'|[^\s\"'&,;)<>]+)",
    re.IGNORECASE,
)
"""`password=…`, and `"token": "…"` as in JSON."""
_NAMED_BY_COLON = re.compile(
    rf"((?:password|passwd|passphrase|secret|api[-_]?key):\s{{0,4}})(?![a-z]+(?![^\s,.;:)])){_NOTHING}[^\s\"',;]+",
    re.IGNORECASE,
)
"""`password: …`, unless a plain word of a sentence follows, as in `password: wrong`."""
_SENTENCE_END = ")',.;:"
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f]")


def safe_url(url: str) -> str:
    """Return the URL with `***` for userinfo and query values, without fragment; `***` if it is not a URL."""
    if _PLAIN_URL.fullmatch(url):  # most URLs of downloads: there is nothing to hide
        return url
    found = None if _UNSEEN.search(url) else _URL.fullmatch(url)
    if found is None:
        return MASK
    userinfo = f"{MASK}@" if found["userinfo"] else ""
    rest = "".join(found[name] or "" for name in ("host", "port", "path"))
    return f"{found['scheme']}{userinfo}{rest}{_masked_query(found['query'] or '')}"


def safe_text(text: str) -> str:
    """Return the text with safe URLs, and without what is named or placed as a credential."""
    text = _QUERY_IN_TEXT.sub(_query_in_text, _URL_IN_TEXT.sub(_safe_in_text, text))
    text = _HEADER.sub(rf"\1{MASK}", _USERINFO.sub(f"{MASK}@", text))
    return _TOKEN.sub(rf"\1{MASK}", _NAMED_BY_COLON.sub(rf"\1{MASK}", _NAMED.sub(_named, text)))


def _named(found: re.Match[str]) -> str:
    value = found[2]
    quote = value[0] if value[0] in "\"'" else ""
    return found[1] + quote + MASK + quote


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
