"""What a source's content is expected to be, and whether a fetched one is that: pure decisions.

Invariants:

- The same inputs give the same verdict; nothing is read, written or run here (the `validate` command is in `validate`).
- What a source says comes before what the defaults say.
- A content that meets nothing it was asked to meet is never registered: `problem` names the first expectation that fails.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo

from manifestlog.extract import names

HEAD_BYTES = 4096
"""So much of the beginning of a content is looked at."""
TAIL_BYTES = 4
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_SAYS_HTML = frozenset({".html", ".htm", ".xhtml", ".shtml"})
_SAYS_NOTHING = frozenset({".php", ".asp", ".aspx", ".jsp", ".jspx", ".cgi", ".do", ".pl"})
"""Suffixes of programs, which may answer with anything."""
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|title|meta|script)\b", re.IGNORECASE)
_TYPE = re.compile(r"[!-~]+/[!-~]+")
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\r\n\f\x1a")


def _many(value: object) -> object:
    """One text is a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _types(types: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if types is None:
        return None
    if types == ("",):  # takes back what the defaults expect, as a text does elsewhere
        return ()
    if not all(map(_TYPE.fullmatch, types)):
        raise ValueError("expected a content type such as text/csv, or a pattern such as text/*; correct it")
    return tuple(map(str.lower, types))


def _command(value: object, info: ValidationInfo) -> object:
    """Program and arguments; a program whose path is relative lies beside the configuration file."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise ValueError("a quotation mark is missing; correct it, or write the command as a list") from None
    words = _many(value)
    if not isinstance(words, tuple) or not words or not isinstance(words[0], str):
        return words
    if any(isinstance(word, str) and "\0" in word for word in words) or not words[0]:
        raise ValueError("expected a program and its arguments; correct it")
    if "/" in words[0] and info.context:
        return (os.path.abspath(os.path.join(info.context["folder"], words[0])), *words[1:])
    return words


class Expectations(BaseModel):
    """What a content must be; None says nothing."""

    strict: bool | None = Field(default=None, strict=True, description="true or false")
    content_type: Annotated[tuple[str, ...] | None, BeforeValidator(_many), AfterValidator(_types)] = Field(
        default=None, description="a content type such as text/csv, or a list of them"
    )
    bytes_min: int | None = Field(default=None, strict=True, ge=0, description="a whole number, 0 or more")
    bytes_max: int | None = Field(default=None, strict=True, ge=0, description="a whole number; 0 is any")
    shrink_max: float | None = Field(
        default=None, strict=True, ge=0, le=1, description="a share of the last content, from 0 to 1"
    )
    starts_with: str | None = Field(
        default=None, description="gzip, zip, parquet, json, xml or csv, or the text that the content begins with"
    )
    validate_command: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = Field(
        default=None, alias="validate", description="a command: a text, or a list of a program and its arguments"
    )


class Content(NamedTuple):
    """A fetched content as far as it is looked at."""

    name: str
    """What its source's files are called."""
    content_type: str | None
    length_bytes: int
    head: bytes
    tail: bytes


class Last(NamedTuple):
    """The source's last content: its length, its name, and how it begins (None where it cannot be read)."""

    length_bytes: int
    name: str
    head: bytes | None


def wanted(source: Expectations, defaults: Expectations) -> Expectations:
    """What counts for a source: its own, else the default."""
    found = {
        name: theirs if (theirs := getattr(source, name)) is not None else getattr(defaults, name)
        for name in Expectations.model_fields
    }
    return Expectations.model_construct(**found)


def problem(expected: Expectations, content: Content, last: Last | None) -> str | None:
    """Which expectation a content does not meet, and what to do; None when it meets all."""
    found = (
        _wrong_type(expected, content)
        or _wrong_size(expected, content.length_bytes)
        or _shrunk(expected, content.length_bytes, last)
        or _wrong_start(expected, content)
    )
    return found or (suspicion(expected, content, last) if expected.strict else None)


def suspicion(expected: Expectations, content: Content, last: Last | None) -> str | None:
    """Why this may be an error page in place of the data; None where nothing says so, or HTML is expected."""
    if _media_type(content) not in _HTML_TYPES or expected.content_type:
        return None
    suffixes = _suffixes(content.name)
    if suffixes and not suffixes & _SAYS_HTML and not suffixes <= _SAYS_NOTHING:
        why = f"its name, {content.name}, says otherwise"
    elif last is not None and not _was_html(last):
        why = "its last content was not HTML"
    else:
        return None
    advice = 'look at the file; if it is right, set content_type = "text/html" for the source'
    return f"the server sent an HTML page ({_media_type(content)}), and {why}: {advice}"


def _media_type(content: Content) -> str:
    return (content.content_type or "").partition(";")[0].strip().lower()


def _suffixes(name: str) -> set[str]:
    suffixes = names.split_suffixes(name.lower())[1]
    return {f".{suffix}" for suffix in suffixes.split(".")[1:]}


def _was_html(last: Last) -> bool:
    """Whether the last content was HTML, or may have been."""
    return bool(_suffixes(last.name) & _SAYS_HTML) or last.head is None or is_html(last.head)


def is_html(head: bytes) -> bool:
    """Whether a content begins as a page does, behind comments and a declaration of XML."""
    text = re.sub(rb"\A(\s|<!--.*?-->|<\?xml.*?\?>)+", b"", head.removeprefix(b"\xef\xbb\xbf"), flags=re.DOTALL)
    return _HTML.match(text) is not None


def _wrong_type(expected: Expectations, content: Content) -> str | None:
    if not expected.content_type:
        return None
    media_type = _media_type(content)
    if any(fnmatchcase(media_type, pattern) for pattern in expected.content_type):
        return None
    said = f"the server says content type {media_type[:80]!r}" if media_type else "the server says no content type"
    return f"{said}, content_type expects {' or '.join(expected.content_type)}"


def _wrong_size(expected: Expectations, length_bytes: int) -> str | None:
    if expected.bytes_min is not None and length_bytes < expected.bytes_min:
        return f"it is {length_bytes:,} bytes long, less than bytes_min ({expected.bytes_min:,})"
    if expected.bytes_max and length_bytes > expected.bytes_max:
        return f"it is {length_bytes:,} bytes long, more than bytes_max ({expected.bytes_max:,})"
    return None


def _shrunk(expected: Expectations, length_bytes: int, last: Last | None) -> str | None:
    if expected.shrink_max is None or last is None:
        return None
    if length_bytes >= last.length_bytes * (1 - expected.shrink_max):
        return None
    share = 1 - length_bytes / last.length_bytes
    sizes = f"from {last.length_bytes:,} to {length_bytes:,} bytes"
    return f"it shrank {sizes}, by a share of {share:.2f}, more than shrink_max ({expected.shrink_max:g})"


def _wrong_start(expected: Expectations, content: Content) -> str | None:
    start = expected.starts_with
    if not start:
        return None
    if start in _FORMATS:
        return None if _FORMATS[start](content) else f"it is not {start}, as starts_with expects"
    return None if content.head.startswith(start.encode()) else "it does not begin with the text of starts_with"


def _is_gzip(content: Content) -> bool:
    return content.head.startswith(b"\x1f\x8b")


def _is_zip(content: Content) -> bool:
    return content.head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"))


def _is_parquet(content: Content) -> bool:
    """With the same four bytes at its end: a file that is cut has others there."""
    return content.length_bytes > 8 and content.head[:4] == content.tail in (b"PAR1", b"PARE")


def _text(content: Content) -> str:
    """The beginning as text, without a byte order mark and white space; empty where it is none."""
    head = content.head
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    return "" if any(ord(character) in _CONTROLS for character in text) else text.lstrip()


def _is_json(content: Content) -> bool:
    return _text(content).startswith(("{", "["))


def _is_xml(content: Content) -> bool:
    return re.match(r"<[?!A-Za-z_:]", _text(content)) is not None and not is_html(content.head)


def _is_csv(content: Content) -> bool:
    """A text that is neither a page nor an object: nothing else tells a table of one column."""
    text = _text(content)
    return bool(text) and not text.startswith(("<", "{"))


_FORMATS: dict[str, Callable[[Content], bool]] = {
    "gzip": _is_gzip, "zip": _is_zip, "parquet": _is_parquet, "json": _is_json, "xml": _is_xml, "csv": _is_csv,
}  # fmt: skip
