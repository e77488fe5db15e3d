"""Decides whether a downloaded content meets its source's expectations. All functions are pure.

Invariants:

- The same inputs give the same result; nothing is read, written or run here (`validate` runs the user's command).
- A source's settings override the defaults.
- Content that does not meet an expectation is never registered: `violation` names the first one.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo

from manifestlog import safe_names

HEAD_BYTES = 4096
"""Number of bytes inspected at the beginning of a content."""
TAIL_BYTES = 4
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_SAYS_HTML = frozenset({".html", ".htm", ".xhtml", ".shtml"})
_SAYS_NOTHING = frozenset({".php", ".asp", ".aspx", ".jsp", ".jspx", ".cgi", ".do", ".pl"})
"""Suffixes of server programs, which may return any type."""
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|script)\b", re.IGNORECASE)
_TYPE = re.compile(r"[!-~]+/[!-~]+")
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\r\n\f\x1a")


def _many(value: object) -> object:
    """Wrap a single string in a list."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _types(types: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if types is None:
        return None
    if types == ("",):  # removes the default, as an empty text does for other settings
        return ()
    if not all(map(_TYPE.fullmatch, types)):
        raise ValueError("expected a content type such as text/csv, or a pattern such as text/*; correct it")
    return tuple(map(str.lower, types))


def _command(value: object, info: ValidationInfo) -> object:
    """Return program and arguments; a relative path of a program starts at the configuration file's directory."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise ValueError("unbalanced quotation marks; correct them, or write the command as a list") from None
    words = _many(value)
    if not isinstance(words, tuple) or not words or not isinstance(words[0], str):
        return words
    if any(isinstance(word, str) and "\0" in word for word in words) or not words[0]:
        raise ValueError("expected a program and its arguments; correct it")
    if "/" in words[0] and info.context:
        return (os.path.abspath(os.path.join(info.context["directory"], words[0])), *words[1:])
    return words


class Expectations(BaseModel):
    """Requirements for a content; None means no requirement."""

    strict: bool | None = Field(default=None, strict=True, description="true or false")
    content_type: Annotated[tuple[str, ...] | None, BeforeValidator(_many), AfterValidator(_types)] = Field(
        default=None, description="a content type such as text/csv, or a list of them"
    )
    bytes_min: int | None = Field(default=None, strict=True, ge=0, description="an integer, 0 or more")
    bytes_max: int | None = Field(default=None, strict=True, ge=0, description="an integer; 0 means no limit")
    shrink_max: float | None = Field(
        default=None, strict=True, ge=0, le=1, description="a share of the previous content, from 0 to 1"
    )
    starts_with: str | None = Field(
        default=None, description="gzip, zip, parquet, json, xml or csv, or the string at the start of the content"
    )
    validate_command: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = Field(
        default=None, alias="validate", description="a command: a string, or a list of program and arguments"
    )


class Content(NamedTuple):
    """The inspected properties of a downloaded content."""

    name: str
    """The file name of its source."""
    content_type: str | None
    length_bytes: int
    head: bytes
    tail: bytes


class PreviousContent(NamedTuple):
    """The source's previous content: length, name, and first bytes (None if unreadable)."""

    length_bytes: int
    name: str
    head: bytes | None


def effective(source: Expectations, defaults: Expectations) -> Expectations:
    """Return the settings that apply to a source: its own, otherwise the default."""
    found = {
        name: theirs if (theirs := getattr(source, name)) is not None else getattr(defaults, name)
        for name in Expectations.model_fields
    }
    return Expectations.model_construct(**found)


def violation(expected: Expectations, content: Content, previous: PreviousContent | None) -> str | None:
    """Return the first expectation that a content fails; None if it meets all of them."""
    found = (
        _wrong_type(expected, content)
        or _wrong_size(expected, content.length_bytes)
        or _shrunk(expected, content.length_bytes, previous)
        or _wrong_start(expected, content)
    )
    return found or (html_warning(expected, content, previous) if expected.strict else None)


def html_warning(expected: Expectations, content: Content, previous: PreviousContent | None) -> str | None:
    """Return why this may be an error page instead of the data; None if nothing suggests so, or if HTML is expected."""
    if not says_html(content) or expected.content_type:
        return None
    suffixes = _suffixes(content.name)
    if suffixes and not suffixes & _SAYS_HTML and not suffixes <= _SAYS_NOTHING:
        why = f"the file name {content.name} says otherwise"
    elif previous is not None and not _was_html(previous):
        why = "the previous content was not HTML"
    else:
        return None
    advice = 'inspect the file; if it is correct, set content_type = "text/html" for the source'
    return f"the server sent an HTML page ({_media_type(content)}), and {why}: {advice}"


def says_html(content: Content) -> bool:
    """Return whether the server called a content an HTML page."""
    return _media_type(content) in _HTML_TYPES


def _media_type(content: Content) -> str:
    return (content.content_type or "").partition(";")[0].strip().lower()


def _suffixes(name: str) -> set[str]:
    suffixes = safe_names.split_suffixes(name.lower())[1]
    return {f".{suffix}" for suffix in suffixes.split(".")[1:]}


def _was_html(previous: PreviousContent) -> bool:
    """Return whether the previous content was HTML, or may have been."""
    return bool(_suffixes(previous.name) & _SAYS_HTML) or previous.head is None or is_html(previous.head)


def is_html(head: bytes) -> bool:
    """Return whether a content starts like an HTML page, after comments and an XML declaration."""
    text = re.sub(rb"\A(\s|<!--.*?-->|<\?xml.*?\?>)+", b"", head.removeprefix(b"\xef\xbb\xbf"), flags=re.DOTALL)
    return _HTML.match(text) is not None


def _wrong_type(expected: Expectations, content: Content) -> str | None:
    if not expected.content_type:
        return None
    media_type = _media_type(content)
    if any(fnmatchcase(media_type, pattern) for pattern in expected.content_type):
        return None
    sent = f"the server sent content type {media_type[:80]!r}" if media_type else "the server sent no content type"
    return f"{sent}, content_type expects {' or '.join(expected.content_type)}"


def _wrong_size(expected: Expectations, length_bytes: int) -> str | None:
    if expected.bytes_min is not None and length_bytes < expected.bytes_min:
        return f"its size is {length_bytes:,} bytes, less than bytes_min ({expected.bytes_min:,})"
    if expected.bytes_max and length_bytes > expected.bytes_max:
        return f"its size is {length_bytes:,} bytes, more than bytes_max ({expected.bytes_max:,})"
    return None


def _shrunk(expected: Expectations, length_bytes: int, previous: PreviousContent | None) -> str | None:
    if expected.shrink_max is None or previous is None:
        return None
    if length_bytes >= previous.length_bytes * (1 - expected.shrink_max):
        return None
    share = 1 - length_bytes / previous.length_bytes
    sizes = f"from {previous.length_bytes:,} to {length_bytes:,} bytes"
    return f"it shrank {sizes}, a share of {share:.2f}, more than shrink_max ({expected.shrink_max:g})"


def _wrong_start(expected: Expectations, content: Content) -> str | None:
    start = expected.starts_with
    if not start:
        return None
    if start in _FORMATS:
        return None if _FORMATS[start](content) else f"it is not {start}, as starts_with requires"
    return None if content.head.startswith(start.encode()) else "it does not start with the string in starts_with"


def _is_gzip(content: Content) -> bool:
    return content.head.startswith(b"\x1f\x8b")


def _is_zip(content: Content) -> bool:
    return content.head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"))


def _is_parquet(content: Content) -> bool:
    """Return whether the same magic bytes start and end the content; a truncated file has other bytes at its end."""
    return content.length_bytes > 8 and content.head[:4] == content.tail in (b"PAR1", b"PARE")


def _text(content: Content) -> str:
    """Return the beginning as text without byte order mark and leading space; empty if it is binary."""
    head = content.head
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    return "" if any(ord(character) in _CONTROLS for character in text) else text.lstrip()


def _is_json(content: Content) -> bool:
    return _text(content).startswith(("{", "["))


def _is_xml(content: Content) -> bool:
    return re.match(r"<[?!A-Za-z_:]", _text(content)) is not None and not is_html(content.head)


def _is_csv(content: Content) -> bool:
    """Return whether the content is text, but no page and no object; a one-column table has no other mark."""
    text = _text(content)
    return bool(text) and not text.startswith(("<", "{"))


_FORMATS: dict[str, Callable[[Content], bool]] = {
    "gzip": _is_gzip, "zip": _is_zip, "parquet": _is_parquet, "json": _is_json, "xml": _is_xml, "csv": _is_csv,
}  # fmt: skip
