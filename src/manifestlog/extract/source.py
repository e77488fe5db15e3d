"""The data models of the extract step: a source to fetch, and a finished download; no I/O.

Invariants:

- Models cannot be changed, and fit the protocols of `manifestlog.events`.
- Address, headers, proxy and body of a source may hold secrets: they are in no `repr`, and no validation error shows its input.
- Dataset and file name of a source are safe: joined to a folder they stay inside.
- Whatever stands in a header can be sent: the libraries below would refuse it with the value in their message.

It does not know where files lie, nor where a source was configured.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from manifestlog.extract import names
from manifestlog.extract.expectations import Expectations
from manifestlog.extract.reach import HTTP, Reach, has_host, has_unseen
from manifestlog.models import Checksum, UtcTime

_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*([A-Za-z][A-Za-z0-9+.-]*)://")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ASKED_BY_US = frozenset({"if-none-match", "if-modified-since", "if-range", "range"})
SPAN_UNITS_S = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")
HEADER_VALUE = re.compile(r"(?:[!-~\xa0-\xff](?:[\t -~\xa0-\xff]*[!-~\xa0-\xff])?)?")


def _checked_url(url: str) -> str:
    scheme = _SCHEME.match(url)
    if scheme is not None and scheme[1].lower() not in HTTP and url == url.strip():
        url = url.replace(
            " ", "%20"
        )  # people copy names of files, and an address that holds a space cannot be told safely
    if has_unseen(url):
        raise ValueError("expected an address without spaces and control characters; write a space as %20")
    if scheme is None:
        raise ValueError("expected an address with a scheme; write it like https://host/path/file")
    if scheme[1].lower() in HTTP and not has_host(url[scheme.start(1) :]):
        raise ValueError("expected a host, and after it a port number or none; write it like https://host:8080/file")
    return url


def _checked_dataset(dataset: str) -> str:
    parts = unicodedata.normalize("NFC", dataset).split("/")
    for number, part in enumerate(parts, 1):
        if wrong := names.problem(part):
            which = f"part {number} of the path" if len(parts) > 1 else "the name"
            raise ValueError(f"expected a folder below the data folder, but {which} {wrong}; choose another name")
    return "/".join(parts)


def _checked_file_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    if wrong := names.problem(name):
        raise ValueError(f"expected one safe file name, but the name {wrong}; choose another name")
    return name


def _checked_header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("expected the name of a header: letters, digits and '-'; correct it")
    if name.lower() in _ASKED_BY_US:
        raise ValueError(
            "expected no header that extract sends itself, to ask for news and for the rest of a file; remove it"
        )
    return name


def _checked_header_value(value: str) -> str:
    if not HEADER_VALUE.fullmatch(value):
        raise ValueError("expected one line of Latin-1 text without spaces at its ends; correct it")
    return value


Headers = Mapping[
    Annotated[str, AfterValidator(_checked_header_name)],
    Annotated[str, AfterValidator(_checked_header_value)],
]


def _span(value: object) -> float | None:
    """A span such as `36h`, in seconds."""
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError("expected a span above 0: a number and s, m, h, d or w, such as 36h or 7d; correct it")
    return float(found[1]) * SPAN_UNITS_S[found[2]]


Span = Annotated[float, BeforeValidator(_span)]

STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class WithHeaders(BaseModel):
    """What has a field `headers`, some of whose values may come from the environment."""

    model_config = STRICT

    _private_headers: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def private_headers(self) -> frozenset[str]:
        """The names, in lower case, of the headers whose values came from the environment: no other server gets those."""
        return self._private_headers

    def keep_private(self, names: Iterable[str]) -> None:
        """Mark these headers; for whoever has read the configuration, before anybody else has it."""
        self._private_headers = frozenset(name.lower() for name in names)


class Conditions(StrEnum):
    """When a server may be asked "has it changed since what is recorded?", and its answer compared with the record.

    - `RECORDED`: whenever the source has a record.
    - `SAME_NAME`: while the recorded file has the name that the source's files get: another one was at another address.
    - `NEVER`: not at all: whatever is there is fetched, a pinned content as well.
    """

    RECORDED = "recorded"
    SAME_NAME = "same_name"
    NEVER = "never"


class SourceState(BaseModel):
    """What is known of a source from earlier runs."""

    model_config = STRICT

    last_etag: str | None = Field(default=None, description="the ETag of its last answer, quotes included")


class ETLSource(Expectations, Reach, WithHeaders):
    """A remote source: what it is called, where it is, and where its files go."""

    source_id: str = Field(min_length=1, description="a text that is not empty")
    dataset: Annotated[str, AfterValidator(_checked_dataset)] = Field(description="a folder below the data folder")
    url: Annotated[str, AfterValidator(_checked_url)] = Field(
        repr=False, description="an address like https://host/path/file"
    )
    file_name: Annotated[str, AfterValidator(_checked_file_name)] | None = Field(
        default=None, description="one safe file name"
    )
    headers: Headers = Field(default={}, repr=False, description="an object of texts by the names of headers")
    decode: bool | None = Field(default=None, strict=True, description="true or false")
    stale_after: Span | None = Field(default=None, description="a span such as 36h or 7d")
    checksum: Checksum | None = Field(default=None, description="64 hexadecimal digits, the SHA-256 of the file")
    state: SourceState = Field(default=SourceState(), description="what is known of it from earlier runs")
    conditions: Conditions = Field(
        default=Conditions.RECORDED, description="when a server may be asked whether what is recorded has changed"
    )


class DownloadEvent(BaseModel):
    """A finished download."""

    model_config = STRICT

    sha256: Checksum = Field(description="SHA-256 of the content, 64 hexadecimal digits in lower case")
    file_path: Path = Field(description="where the file is; a relative path begins at the manifest's root_dir")
    file_size_bytes: int = Field(gt=0, description="length of the content in bytes, more than 0")
    etag: str | None = Field(default=None, description="ETag of the server's answer, quotes included; None without one")
    last_modified: str | None = Field(default=None, description="Last-Modified of the server's answer, as it was sent")
    ts_download_completed: UtcTime = Field(description="when the download ended, in UTC; to the microsecond")
