"""Bodies with a Content-Encoding: what is stored, and that it does not change each night."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from typing import TYPE_CHECKING

import pytest

from extract.builders import config_error, raw_config, raw_source, source
from extract.running import pattern, sha256
from manifestlog.extract import Result
from support import answers

if TYPE_CHECKING:
    from extract.builders import Write
    from extract.running import Here, Put
    from support.badserver import BadServer, Step

BODY = pattern(1000)
ETAG = '"a"'


def encoded(payload: bytes, encoding: str = "gzip", etag: str | None = None) -> Step:
    return answers.whole(payload, etag, headers={"Content-Encoding": encoding})


def zipped(body: bytes, seconds: int = 0) -> bytes:
    return gzip.compress(body, mtime=seconds)


RAW = zlib.compressobj(wbits=-15)
INFLATED = [
    ("gzip", zipped(BODY)),
    ("x-gzip", zipped(BODY)),
    ("GZIP", zipped(BODY)),
    ("gzip", zipped(BODY[:400]) + zipped(BODY[400:])),
    ("deflate", zlib.compress(BODY)),
    ("deflate", RAW.compress(BODY) + RAW.flush()),
]


@pytest.mark.parametrize(("encoding", "payload"), INFLATED)
def test_a_body_is_decoded_where_its_name_does_not_say_that_it_is_encoded(
    here: Here, bad: BadServer, encoding: str, payload: bytes
) -> None:
    here.fetch(bad.script("/api.json", encoded(payload, encoding)))
    assert (here.body(), here.files) == (BODY, ["systems/api.json"])


def test_a_body_with_another_time_in_its_header_is_unchanged(here: Here, bad: BadServer) -> None:
    url = bad.script("/api.json", *(encoded(zipped(BODY, seconds)) for seconds in (1, 2, 3)))
    assert [here.fetch(url).result for _ in range(3)] == [Result.NEW, Result.UNCHANGED, Result.UNCHANGED]


@pytest.mark.parametrize("name", ["/a.json.gz", "/a.tgz", "/A.GZ"])
def test_a_body_is_kept_as_it_comes_where_its_name_says_so(here: Here, bad: BadServer, name: str) -> None:
    here.fetch(bad.script(name, encoded(zipped(BODY), "x-gzip")))
    assert here.body() == zipped(BODY)


@pytest.mark.parametrize(("name", "decode", "kept"), [("/a.gz", True, BODY), ("/a.json", False, zipped(BODY))])
@pytest.mark.parametrize("where", ["source", "defaults"])
def test_the_configuration_decides(
    here: Here, bad: BadServer, name: str, decode: bool, kept: bytes, where: str
) -> None:
    url = bad.script(name, encoded(zipped(BODY)))
    of_source, of_all = ({"decode": decode}, {}) if where == "source" else ({}, {"decode": decode})
    here.one(source(url, source_id="a", dataset="systems", **of_source), **of_all)
    assert here.body() == kept


def test_a_pin_is_of_the_decoded_bytes(here: Here, bad: BadServer) -> None:
    url = bad.script("/api.json", encoded(zipped(BODY)))
    assert here.one(source(url, checksum=sha256(BODY))).result is Result.NEW


@pytest.mark.parametrize("payload", [BODY, zipped(BODY)[:-9], zipped(BODY)[:-8] + b"\0" * 8, b"\x1f\x8b"])
def test_a_body_that_does_not_match_its_encoding_fails(here: Here, bad: BadServer, payload: bytes) -> None:
    outcome = here.fetch(bad.script("/api.json", encoded(payload)))
    assert (outcome.result, "Content-Encoding" in str(outcome.error), here.files) == (Result.FAILED, True, [])


def decoded_and_synced(here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, synced = os.fsync, set[int]()

    def noted_sync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted_sync)
    url = bad.script("/a.json", encoded(zipped(b"{}" + BODY)))
    assert here.fetch(url, decode=True, starts_with="{}").error is None
    assert here.record().file_path.stat().st_ino in synced


def test_what_is_decoded_is_checked_and_synced(here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what was received."""
    decoded_and_synced(here, bad, monkeypatch)


def test_a_body_that_decodes_to_nothing_fails(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/api.json", encoded(zipped(b""))))
    assert (outcome.result, here.files) == (Result.FAILED, [])


def test_an_unsupported_encoding_is_stored_as_sent(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/api.json", encoded(BODY, "br")))
    assert here.body() == BODY


def test_an_unsupported_encoding_fails_with_decode(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/api.json", encoded(BODY, "br")), decode=True)
    assert (outcome.result, "decode = false" in str(outcome.error)) == (Result.FAILED, True)


def test_a_cut_body_is_continued_by_the_next_run_and_decoded(here: Here, bad: BadServer) -> None:
    whole = zipped(BODY)
    told = {"Content-Encoding": "gzip", "ETag": ETAG, "Content-Length": str(len(whole))}
    url = bad.script("/api.json", answers.exactly(200, told, whole[:300]), encoded(whole, etag=ETAG))
    here.fetch(url, retries=0)
    assert (here.fetch(url).result, here.body(), bad.bodies["/api.json"]) == (Result.NEW, BODY, len(whole))


def test_the_rest_in_an_encoding_is_not_appended_to_plain_bytes(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/api.json", answers.cut_at(400, BODY, ETAG), encoded(zipped(BODY), etag=ETAG)))
    assert here.body() == BODY


def test_a_configured_encoding_is_requested(here: Here, put: Put) -> None:
    plain = b'{"a":1}' * 1000
    here.one(source(put("a.json", plain), source_id="a", dataset="systems", headers={"Accept-Encoding": "gzip"}))
    assert ([request.content_encoding for request in put.real.requests()], here.body()) == (["gzip"], plain)


@pytest.mark.parametrize("name", ["If-None-Match", "if-modified-since", "Range", "If-Range"])
def test_a_header_that_would_be_dropped_is_refused(write: Write, name: str) -> None:
    error = config_error(write(raw_config(raw_source(headers={name: "x"}))))
    assert "extract sends this header itself" in str(error)


@pytest.mark.parametrize(
    ("name", "encoding", "said"),
    [
        ("/api.json", "gzip", "stored decompressed (because of the file name's suffix"),
        ("/api.json", "br", "stored as sent (because this encoding is not supported"),
        ("/a.json.br", "br", "stored as sent (because of the file name's suffix"),
    ],
)
def test_the_log_says_how_it_is_stored(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture, name: str, encoding: str, said: str
) -> None:
    caplog.set_level(logging.INFO, "manifestlog")
    here.fetch(bad.script(name, encoded(zipped(BODY), encoding)))
    assert f"compressed ({encoding}); it is {said}" in caplog.text


def test_an_answer_without_content_gives_no_warning_about_encodings(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture
) -> None:
    unchanged = answers.exactly(304, {"Content-Encoding": "br", "ETag": ETAG})
    url = bad.script("/a.json", answers.whole(BODY, ETAG), unchanged)
    here.fetch(url)
    assert (here.fetch(url, decode=True).result, caplog.text) == (Result.UNCHANGED, "")
