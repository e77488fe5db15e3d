"""One source on a correct server: requests, files and records."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import source
from extract.running import NOON, pattern, sha256
from manifestlog import DownloadManifestManager, ManifestRecord
from manifestlog.extract import Finished, Result, Started
from support import answers

if TYPE_CHECKING:
    from extract.running import Here, Put
    from support.badserver import BadServer
    from support.nginx import Nginx

BODY = pattern(100_000)
OTHER = pattern(90_000, 1)
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
TUESDAY = "Tue, 02 Jan 2024 00:00:00 GMT"


# -- new ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_source_is_new(here: Here, put: Put) -> None:
    assert here.fetch(put("a.json", BODY)).result is Result.NEW


def test_a_new_source_is_in_the_directory_of_its_dataset(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY), dataset="stars/near")
    assert here.files == ["stars/near/a.json"]


def test_a_new_source_has_the_bytes_of_the_server(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.body() == BODY


def test_a_record_describes_the_download(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    record = here.record()
    assert (record.checksum, record.file_size) == (sha256(BODY), len(BODY))
    assert (record.source_id, record.dataset, record.version) == ("a", "systems", "1.0.0")


def test_a_record_holds_the_validators_of_the_server(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.record().etag == f'"{NOON:x}-{len(BODY):x}"'
    assert here.record().last_modified == "Mon, 01 Jan 2024 12:00:00 GMT"


def test_a_record_holds_an_absolute_path(here: Here, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here.data_dir = Path("data")
    here.fetch(put("a.json", BODY))
    here.data_dir = tmp_path / "data"
    assert here.record().file_path == tmp_path / "data" / "systems" / "a.json"


def test_a_new_source_is_looked_up_by_its_worker_before_and_under_its_claim(
    here: Here, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = DownloadManifestManager.get_record_by_source, []

    def counted(*pair: Any) -> ManifestRecord | None:
        asked.append(pair)
        return real(*pair)

    monkeypatch.setattr(DownloadManifestManager, "get_record_by_source", counted)
    here.fetch(put("a.json", BODY))
    assert len(asked) == 2


def test_an_outcome_has_path_and_costs(here: Here, put: Put) -> None:
    outcome = here.fetch(put("a.json", BODY))
    assert outcome.file_path == str(here.record().file_path)
    assert (outcome.bytes_fetched, outcome.bytes_saved, outcome.error) == (len(BODY), 0, None)


def test_a_body_is_sent_once(here: Here, put: Put, real: Nginx) -> None:
    here.fetch(put("a.json", BODY))
    assert [(r.method, r.status, r.body_bytes_sent) for r in real.requests()] == [("GET", 200, len(BODY))]


def test_a_source_begins_and_ends_once(here: Here, put: Put) -> None:
    outcome = here.fetch(put("a.json", BODY))
    assert (here.events[0], here.events[-1]) == (Started("a", "systems"), Finished(outcome))
    assert sum(isinstance(event, Started | Finished) for event in here.events) == 2


def test_a_configured_file_name_is_used(here: Here, put: Put) -> None:
    here.one(source(put("a.json", BODY), file_name="b.dat", dataset="systems"))
    assert here.files == ["systems/b.dat"]


def test_a_file_without_a_name_gets_one(here: Here, put: Put) -> None:
    here.fetch(put("index.html", BODY).removesuffix("index.html"))
    assert here.files == ["systems/download"]


def test_a_large_file_comes_whole(here: Here, put: Put) -> None:
    large = pattern(5_000_000)
    here.fetch(put("a.bin", large))
    assert here.body() == large


def test_a_file_of_one_byte_is_one(here: Here, put: Put) -> None:
    here.fetch(put("a.bin", b"x"))
    assert here.record().file_size == 1


def test_a_gzipped_file_stays_gzipped(here: Here, put: Put) -> None:
    zipped = gzip.compress(BODY, mtime=0)
    here.fetch(put("a.json.gz", zipped))
    assert here.body() == zipped


def test_no_encoding_is_requested(here: Here, put: Put, real: Nginx) -> None:
    here.fetch(put("a.json", b'{"a":1}' * 1000))
    assert [request.content_encoding for request in real.requests()] == [None]


def test_encodings_cannot_be_requested_by_a_header(here: Here, put: Put) -> None:
    plain = b'{"a":1}' * 1000
    here.one(source(put("a.json", plain), source_id="a", dataset="systems", headers={"Accept-Encoding": "gzip"}))
    assert here.body() == plain


def test_no_part_is_left(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.files == ["systems/a.json"]


# -- unchanged ---------------------------------------------------------------------------------------------------------


def test_a_source_that_has_not_changed_is_unchanged(here: Here, put: Put) -> None:
    url = put("a.json", BODY)
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


def test_an_unchanged_source_is_requested_by_its_etag_only(here: Here, put: Put, real: Nginx) -> None:
    url = put("a.json", BODY)
    here.fetch(url)
    here.fetch(url)
    asked = real.requests()[-1]
    assert (asked.status, asked.body_bytes_sent) == (304, 0)
    assert (asked.http_if_none_match, asked.http_if_modified_since) == (here.record().etag, None)


def test_an_unchanged_source_reports_the_bytes_saved(here: Here, put: Put) -> None:
    url = put("a.json", BODY)
    here.fetch(url)
    outcome = here.fetch(url)
    assert (outcome.bytes_fetched, outcome.bytes_saved) == (0, len(BODY))
    assert outcome.file_path == str(here.record().file_path)


def test_an_unchanged_source_leaves_its_record_alone(here: Here, put: Put) -> None:
    url = put("a.json", BODY)
    here.fetch(url)
    before = here.record()
    here.fetch(url)
    assert here.record() == before


def test_a_source_with_a_date_only_is_unchanged_by_its_date(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, last_modified=MONDAY))
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


def test_a_source_with_a_date_only_is_requested_by_its_date(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, last_modified=MONDAY))
    here.fetch(url)
    here.fetch(url)
    asked = bad.requests[-1].headers
    assert (asked.get("if-modified-since"), asked.get("if-none-match")) == (MONDAY, None)


def test_a_changed_source_with_a_date_only_is_requested_by_its_date(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, None, MONDAY), answers.whole(OTHER, None, TUESDAY))
    here.fetch(url)
    here.fetch(url)
    here.fetch(url)
    assert bad.requests[-1].headers.get("if-modified-since") == TUESDAY


def test_a_source_with_a_date_only_records_it(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.whole(BODY, last_modified=MONDAY)))
    assert (here.record().etag, here.record().last_modified) == (None, MONDAY)


@pytest.mark.parametrize("etag", ['W/"a"', '"a"', '"with ""quotes"', "bare", '"ä"', 'W/"W/"'])
def test_an_etag_is_kept_as_it_came(here: Here, bad: BadServer, etag: str) -> None:
    here.fetch(bad.script("/a", answers.whole(BODY, etag)))
    assert here.record().etag == etag


@pytest.mark.parametrize("etag", ['W/"a"', '"a"', "bare", '"ä"'])
def test_an_etag_is_requested_as_it_came(here: Here, bad: BadServer, etag: str) -> None:
    url = bad.script("/a", answers.whole(BODY, etag))
    here.fetch(url)
    here.fetch(url)
    assert bad.requests[-1].headers["if-none-match"] == etag


@pytest.mark.parametrize("etag", ['"v1"\n', '"v1"\r\nX-Key: 1', '"\u2713"', ' "v1"', '"v1"\0'])
def test_a_recorded_etag_that_no_header_holds_is_not_asked_by(here: Here, bad: BadServer, etag: str) -> None:
    url = bad.script("/a", answers.whole(BODY, '"a"'))
    here.fetch(url)
    here.manifest.add(here.record().model_copy(update={"etag": etag}))
    assert (here.fetch(url).result, bad.requests[-1].headers.get("if-none-match")) == (Result.REFRESHED, None)


def test_a_weak_etag_makes_unchanged(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.weak(BODY, '"a"'))
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


def test_an_empty_etag_is_none(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ""), answers.whole(OTHER, ""))
    here.fetch(url)
    assert here.fetch(url).result is Result.CHANGED


def test_an_empty_date_is_none(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, None, ""), answers.whole(BODY[::-1], None, ""))
    here.fetch(url)
    assert here.fetch(url).result is Result.CHANGED


# -- changed -----------------------------------------------------------------------------------------------------------


def test_other_content_is_changed(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.fetch(put("a.json", OTHER)).result is Result.CHANGED


def test_changed_content_does_not_touch_the_old_file(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("a.json", OTHER))
    assert here.files == [f"systems/a-{sha256(OTHER)[:12]}.json", "systems/a.json"]


def test_changed_content_is_the_one_of_the_source(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("a.json", OTHER))
    assert (here.body(), len(here.manifest.records)) == (OTHER, 2)


def test_changed_content_of_the_same_length_is_changed(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.fetch(put("a.json", BODY[::-1])).result is Result.CHANGED


def test_content_that_comes_back_is_reverted(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("a.json", OTHER))
    assert here.fetch(put("a.json", BODY)).result is Result.REVERTED


def test_content_that_comes_back_is_kept_once(here: Here, put: Put) -> None:
    for body in (BODY, OTHER, BODY, OTHER):
        here.fetch(put("a.json", body))
    assert here.files == [f"systems/a-{sha256(OTHER)[:12]}.json", "systems/a.json"]


def test_reverted_content_is_unchanged_next_time(here: Here, put: Put) -> None:
    for body in (BODY, OTHER, BODY):
        url = put("a.json", body)
        here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


def test_the_same_content_with_another_etag_is_refreshed(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.fetch(put("a.json", BODY)).result is Result.REFRESHED


def test_a_refreshed_source_has_the_new_etag(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("a.json", BODY))
    assert here.record().etag == f'"{NOON + 1:x}-{len(BODY):x}"'


def test_a_refreshed_source_stays_where_it_is(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("a.json", BODY))
    assert (here.files, here.record().file_path.name) == (["systems/a.json"], "a.json")


def test_a_source_that_moved_to_another_address_stays_the_same_source(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    os.utime(put.folder / "a.json", (NOON, NOON))
    (put.folder / "b.json").write_bytes(BODY)
    os.utime(put.folder / "b.json", (NOON, NOON))
    assert here.fetch(f"{put.real.url}/b.json").result is Result.UNCHANGED


def test_an_older_file_at_another_address_is_changed(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/2024-02.csv", answers.whole(BODY, last_modified=TUESDAY)))
    outcome = here.fetch(bad.script("/2024-01.csv", answers.whole(OTHER, last_modified=MONDAY)))
    assert (outcome.result, here.body()) == (Result.CHANGED, OTHER)


def test_a_file_at_another_address_is_not_requested_by_the_date_of_the_first(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/2024-02.csv", answers.whole(BODY, last_modified=TUESDAY)))
    here.fetch(bad.script("/2024-01.csv", answers.whole(OTHER, last_modified=MONDAY)))
    assert "if-modified-since" not in bad.requests[-1].headers


def test_a_file_of_the_same_date_and_length_at_another_address_is_unchanged(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a.csv", answers.whole(BODY, last_modified=MONDAY)))
    assert here.fetch(bad.script("/b.csv", answers.whole(BODY, last_modified=MONDAY))).result is Result.UNCHANGED


def test_another_server_with_a_file_of_that_name_is_asked_by_its_date(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/old/a.csv", answers.whole(BODY, last_modified=MONDAY)))
    here.fetch(bad.script("/new/a.csv", answers.whole(BODY, last_modified=MONDAY)))
    assert bad.requests[-1].headers["if-modified-since"] == MONDAY
