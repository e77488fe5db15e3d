"""The models of the extract step: a source and a finished download. No I/O.

Invariants:

- Models are immutable, and satisfy the protocols of `manifestlog.model.downloads`.
- A source's URL, headers, proxy and body may contain secrets: they appear in no `repr`, and no validation error shows
  its input.
- A source's dataset and file name are safe: joined to a directory, they stay inside it.
- Every header can be sent: the HTTP libraries would refuse an invalid one with its value in their message.

It knows neither file locations nor the configuration file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from manifestlog import safe_names
from manifestlog.extract.expectations import Expectations
from manifestlog.extract.request_options import HTTP, RequestOptions, has_host, has_invisible
from manifestlog.model.headers import HEADER_VALUE
from manifestlog.model.models import Checksum, UtcTime

_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*([A-Za-z][A-Za-z0-9+.-]*)://")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({"if-none-match", "if-modified-since", "if-range", "range"})
SPAN_UNITS_S = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")


def _checked_url(url: str) -> str:
    scheme = _SCHEME.match(url)
    if scheme is not None and scheme[1].lower() not in HTTP and url == url.strip():
        url = url.replace(
            " ", "%20"
        )  # users copy file names, and secrets cannot be removed reliably from a URL with a space
    if has_invisible(url):
        raise ValueError("expected a URL without spaces and control characters; write a space as %20")
    if scheme is None:
        raise ValueError("expected a URL with a scheme; write it like https://host/path/file")
    if scheme[1].lower() in HTTP and not has_host(url[scheme.start(1) :]):
        raise ValueError("expected a host and an optional port number; write it like https://host:8080/file")
    return url


def _checked_dataset(dataset: str) -> str:
    parts = unicodedata.normalize("NFC", dataset).split("/")
    for number, part in enumerate(parts, 1):
        if wrong := safe_names.problem(part):
            which = f"part {number} of the path" if len(parts) > 1 else "the name"
            raise ValueError(f"expected a directory inside data_dir, but {which} {wrong}; choose another name")
    return "/".join(parts)


def _checked_file_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    if wrong := safe_names.problem(name):
        raise ValueError(f"expected a safe file name, but the name {wrong}; choose another name")
    return name


def _checked_header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("expected a header name of letters, digits and '-'; correct it")
    if name.lower() in _OWN_HEADERS:
        raise ValueError("extract sends this header itself, for conditional and range requests; remove it")
    return name


def _checked_header_value(value: str) -> str:
    if not HEADER_VALUE.fullmatch(value):
        raise ValueError("expected one line of Latin-1 text without leading or trailing spaces; correct it")
    return value


Headers = Mapping[
    Annotated[str, AfterValidator(_checked_header_name)],
    Annotated[str, AfterValidator(_checked_header_value)],
]


def _span(value: object) -> float | None:
    """Return a span such as `36h` in seconds."""
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError("expected a positive duration: a number and s, m, h, d or w, such as 36h or 7d; correct it")
    return float(found[1]) * SPAN_UNITS_S[found[2]]


Span = Annotated[float, BeforeValidator(_span)]

STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class WithHeaders(BaseModel):
    """A model with a field `headers`, some of whose values may come from the environment."""

    model_config = STRICT

    _private_headers: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def private_headers(self) -> frozenset[str]:
        """Lower-case names of the headers whose values came from the environment; they are never sent to another
        server.
        """
        return self._private_headers

    def mark_private(self, names: Iterable[str]) -> None:
        """Mark these headers as private; called by the reader of a configuration only."""
        self._private_headers = frozenset(name.lower() for name in names)


class Conditions(StrEnum):
    """When to ask the server whether the recorded content has changed, and to compare its response with the record.

    - `RECORDED`: whenever the source has a record.
    - `SAME_NAME`: while the recorded file has the name that the source's files have now; another name came from another URL.
    - `NEVER`: not at all; the content is always downloaded, even if pinned.
    """

    RECORDED = "recorded"
    SAME_NAME = "same_name"
    NEVER = "never"


class SourceState(BaseModel):
    """What is known about a source from earlier runs."""

    model_config = STRICT

    last_etag: str | None = Field(default=None, description="the ETag of its last response, quotes included")


class ETLSource(Expectations, RequestOptions, WithHeaders):
    """A remote source: its identity, its URL, and where its files go."""

    source_id: str = Field(min_length=1, description="a non-empty string")
    dataset: Annotated[str, AfterValidator(_checked_dataset)] = Field(description="a directory inside data_dir")
    url: Annotated[str, AfterValidator(_checked_url)] = Field(
        repr=False, description="a URL like https://host/path/file"
    )
    file_name: Annotated[str, AfterValidator(_checked_file_name)] | None = Field(
        default=None, description="a safe file name"
    )
    headers: Headers = Field(default={}, repr=False, description="an object of header names and values")
    segments: int | None = Field(default=None, strict=True, ge=1, le=64, description="an integer from 1 to 64")
    decode: bool | None = Field(default=None, strict=True, description="true or false")
    stale_after: Span | None = Field(default=None, description="a duration such as 36h or 7d")
    checksum: Checksum | None = Field(default=None, description="64 hexadecimal digits, the SHA-256 of the file")
    state: SourceState = Field(default=SourceState(), description="what is known of it from earlier runs")
    conditions: Conditions = Field(
        default=Conditions.RECORDED, description="when to ask the server whether the recorded content has changed"
    )


class DownloadEvent(BaseModel):
    """A finished download."""

    model_config = STRICT

    sha256: Checksum = Field(description="SHA-256 of the content, 64 hexadecimal digits in lower case")
    file_path: Path = Field(description="path of the file; a relative path starts at the manifest's root_dir")
    file_size_bytes: int = Field(gt=0, description="size of the content in bytes, more than 0")
    etag: str | None = Field(default=None, description="ETag of the response, quotes included; None without one")
    last_modified: str | None = Field(default=None, description="Last-Modified of the response, as sent")
    ts_download_completed: UtcTime = Field(description="when the download ended, in UTC; to the microsecond")
