"""The models of the extract step."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extract.builders import CHECKSUM, source
from manifestlog.extract.config.source import DownloadEvent, ETLSource, SourceState
from manifestlog.model.downloads import EventLike, SourceLike, record_from_download

SECRET = "s3cret-value"


def _event(**more: Any) -> DownloadEvent:
    given: dict[str, Any] = {
        "sha256": CHECKSUM,
        "file_path": Path("/d/x"),
        "file_size_bytes": 1,
        "etag": '"1"',
        "ts_download_completed": datetime(2024, 1, 1, tzinfo=UTC),
    }
    return DownloadEvent(**given | more)


def test_the_models_fit_the_managers_protocols() -> None:
    """mypy checks the assignments; the record is checked at run time."""
    a_source: SourceLike = source()
    an_event: EventLike = _event(last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    assert record_from_download(a_source, an_event, "1").last_modified == "Mon, 01 Jan 2024 00:00:00 GMT"


def test_the_sources_last_etag_stands_in() -> None:
    known = source(state=SourceState(last_etag='W/"7"'))
    assert record_from_download(known, _event(etag=None), "1").etag == 'W/"7"'


@pytest.mark.parametrize(
    "url",
    [
        "https://host",
        "http://host:8080/a?b=c#d",
        "HTTPS://host/",
        "https://user:pass@host/x",
        "http://[::1]:80/x",
        "http://127.0.0.1/x",
        "https://høst.example/städte.json",
        "file:///data/x.csv",
        "s3://bucket/key",
        "memory://x",
        "simplecache::s3://bucket/key",
        "zip://inner.csv::https://host/x.zip",
    ],
)
def test_a_url_with_a_scheme_is_accepted(url: str) -> None:
    assert source(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host/x",
        "//host/x",
        "/data/x",
        "host:8080/x",
        "C:\\data\\x",
        "https:/host/x",
        "https:host",
        "mailto:a@b",
        "https://",
        "https:///x",
        "https://:80/x",
        "https://user@/x",
        "https://host:x/",
        "https://host:70000/",
        "https://host:0/",
        "https://user:pa/ss@host/",
        "https://[::1/x",
        "simplecache::https://",
        "https://ho st/x",
        "https://host/a b",
        "https://host/a\n",
        "https://host/\0",
        "https://host/\u2028",
        " https://host/",
        "https://host/\ud800",
    ],
)
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        source(url)


@pytest.mark.parametrize("dataset", ["a", "a/b/c", "star systems", "städte", "2024-01-01", "a.b"])
def test_a_dataset_is_a_folder(dataset: str) -> None:
    assert source(dataset=dataset).dataset == dataset


@pytest.mark.parametrize(
    "dataset",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a\\b",
        "~/a\0",
        ".a",
        "a/.b",
        "CON",
        "a/nul",
        "a:b",
        "a.part",
        "a.",
        "x" * 181,
        "-a",
        "a\nb",
        "\ud800",
        5,
        None,
    ],
)
def test_a_dataset_that_is_no_folder_is_refused(dataset: Any) -> None:
    with pytest.raises(ValidationError):
        source(dataset=dataset)


def test_a_refused_dataset_names_the_part() -> None:
    with pytest.raises(ValidationError, match=r"part 2 of the path starts with a dot"):
        source(dataset="a/../b")


def test_a_dataset_has_one_spelling() -> None:
    """Decomposed letters name the same directory."""
    assert source(dataset="sta\u0308dte").dataset == "städte"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "x.part", "x.rejected", "x\0", "x\\y", "NUL.csv", "x" * 181])
def test_an_unsafe_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        source(file_name=name)


def test_a_pinned_checksum_is_lower_case() -> None:
    assert source(checksum=CHECKSUM.upper()).checksum == CHECKSUM


@pytest.mark.parametrize("checksum", ["", "0a", CHECKSUM + "0", CHECKSUM[:-1] + "g", CHECKSUM + "\n", 5])
def test_another_checksum_is_refused(checksum: Any) -> None:
    with pytest.raises(ValidationError):
        source(checksum=checksum)


@pytest.mark.parametrize("value", ["", "x", "Bearer a.b-c", "a\tb", "caf\xe9"])
def test_a_valid_header_is_accepted(value: str) -> None:
    assert source(headers={"X-Key": value}).headers == {"X-Key": value}


@pytest.mark.parametrize("value", ["a\r\nHost: b", "a\n", " a", "a ", "\0", "€", "a\x7f", 5, None])
def test_a_header_that_cannot_be_sent_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        source(headers={"X-Key": value})


@pytest.mark.parametrize("name", ["", "X Key", "X-Key:", "X\n", "Ключ"])
def test_a_headers_name_that_cannot_be_sent_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        source(headers={name: "x"})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        source(uri="https://host/")


def test_a_source_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        source().url = "https://other/"


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_a_source_does_not_show_its_secrets(show: Any) -> None:
    shown = source(f"https://u:{SECRET}@host/x?t={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    assert SECRET not in show(shown)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"https://u:{SECRET}@host:x/"},
        {"url": f"https://host/ {SECRET}"},
        {"url": SECRET},
        {"url": [SECRET]},
        {"headers": {"Authorization": f"{SECRET}\n"}},
        {"headers": {"Authorization": [SECRET]}},
        {"headers": SECRET},
        {"checksum": SECRET},
        {"unknown": SECRET},
    ],
    ids=str,
)
def test_a_validation_error_does_not_show_its_input(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        source(**wrong)
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_a_source_goes_to_another_process() -> None:
    sent = source(headers={"X-Key": "x"}, checksum=CHECKSUM, state=SourceState(last_etag='"1"'))
    assert pickle.loads(pickle.dumps(sent)) == sent


def test_headers_are_the_sources_own() -> None:
    """Later changes to the caller's mapping have no effect."""
    given = {"X-Key": "x"}
    made = source(headers=given)
    given["X-Key"] = "y"
    assert made.headers == {"X-Key": "x"}


@pytest.mark.parametrize(
    "wrong", [{"file_size_bytes": 0}, {"ts_download_completed": datetime(2024, 1, 1)}, {"sha256": "x"}]
)
def test_an_event_that_is_no_download_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _event(**wrong)


def test_an_events_time_is_in_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert _event(ts_download_completed=datetime(2024, 1, 1, 1, tzinfo=berlin)).ts_download_completed.tzinfo is UTC


def test_a_source_needs_three_fields_only() -> None:
    assert ETLSource(source_id="a", dataset="b", url="https://c").state.last_etag is None


def test_an_event_without_an_etag_has_none() -> None:
    """As in a record: sources of `ftp` and `file` have no ETag."""
    event = DownloadEvent(
        sha256=CHECKSUM,
        file_path=Path("/d/x"),
        file_size_bytes=1,
        ts_download_completed=datetime(2024, 1, 1, tzinfo=UTC),
    )
    assert (event.etag, record_from_download(source(), event, "1").etag) == (None, None)
