"""Data files in an object store: a real S3 server, from the first byte to the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern, sha256
from extract.stores import PART
from manifestlog.extract import Result
from support import answers

if TYPE_CHECKING:
    from extract.running import Put
    from extract.stores import There
    from support.badserver import BadServer

BODY = pattern(1000)
ETAG = '"one"'
LARGE = pattern(2 * PART + 1000)


def test_a_new_file_becomes_an_object(there: There, put: Put) -> None:
    outcome = there.fetch(put("systems.json", BODY))
    assert (outcome.result, outcome.error, there.files) == (Result.NEW, None, ["systems/systems.json"])


def test_its_record_names_its_url(there: There, put: Put) -> None:
    there.fetch(put("systems.json", BODY))
    assert str(there.record().file_path) == f"{there.bucket.url}/raw/systems/systems.json"


def test_a_large_body_goes_up_in_parts_and_leaves_nothing_else(there: There, put: Put) -> None:
    outcome = there.fetch(put("large.bin", LARGE))
    assert (outcome.error, there.files, there.bucket.uploads) == (None, ["systems/large.bin"], [])
    assert there.body() == LARGE


def test_an_unchanged_source_stores_nothing(there: There, put: Put) -> None:
    url = put("systems.json", BODY)
    there.fetch(url)
    assert (there.fetch(url).result, there.files) == (Result.UNCHANGED, ["systems/systems.json"])


@pytest.mark.parametrize("length", [1000, 2 * PART + 1000])
def test_other_content_gets_another_name(there: There, put: Put, length: int) -> None:
    there.fetch(put("a.json", pattern(length)))
    there.fetch(put("a.json", pattern(length, 1)))
    digits = sha256(pattern(length, 1))[:12]
    assert there.files == [f"systems/a-{digits}.json", "systems/a.json"]
    assert there.body() == pattern(length, 1)


@pytest.mark.parametrize("length", [1000, 2 * PART + 1000])
def test_an_object_of_somebody_else_is_not_replaced(there: There, put: Put, length: int) -> None:
    there.bucket.put("raw/systems/a.json", b"not ours")
    there.fetch(put("a.json", pattern(length)))
    assert there.bucket.get("raw/systems/a.json") == b"not ours"
    assert there.body() == pattern(length)


@pytest.mark.parametrize("length", [1000, 2 * PART + 1000])
def test_the_same_content_under_the_name_is_registered(there: There, put: Put, length: int) -> None:
    there.bucket.put("raw/systems/a.json", pattern(length))
    there.fetch(put("a.json", pattern(length)))
    assert there.files == ["systems/a.json"]


def test_known_content_is_stored_once(there: There, put: Put) -> None:
    url = put("a.json", BODY)
    there.fetch(url)
    assert there.fetch(put("b.json", BODY), source_id="b").result is Result.ALIAS
    assert there.files == ["systems/a.json"]


def test_a_body_that_breaks_off_is_resumed(there: There, bad: BadServer) -> None:
    url = bad.script("/a", answers.cut_at(PART + 10, LARGE, ETAG), answers.whole(LARGE, ETAG))
    outcome = there.fetch(url)
    assert (outcome.error, outcome.result) == (None, Result.NEW)
    assert [one.headers.get("range") for one in bad.requests] == [None, f"bytes={PART + 10}-"]


def test_the_next_run_resumes_what_a_run_has_kept(there: There, bad: BadServer) -> None:
    there.fetch(bad.script("/a", answers.cut_at(2 * PART + 10, LARGE, ETAG)), retries=0)
    kept = there.files
    outcome = there.fetch(bad.script("/a", answers.whole(LARGE, ETAG)))
    assert (outcome.result, outcome.bytes_fetched) == (Result.NEW, len(LARGE) - 2 * PART - 10)
    assert [name.rpartition(".")[2] for name in kept] == ["part", "json"]
    assert there.files == ["systems/a"]


def test_uploads_that_a_killed_run_has_left_are_aborted(there: There, put: Put) -> None:
    there.bucket.begin("raw/.parts/systems/old.json.0123abcd.part")
    there.bucket.begin("raw/systems/old.json")
    there.fetch(put("a.json", BODY))
    assert there.bucket.uploads == []


def test_many_sources_in_worker_processes(there: There, put: Put) -> None:
    urls = [put(f"{number}.json", pattern(500, number)) for number in range(12)]
    report = there.run(*(source(url, source_id=str(i), dataset="d") for i, url in enumerate(urls)), jobs=2)
    assert ([one.error for one in report.outcomes if one.error], len(there.files)) == ([], 12)
