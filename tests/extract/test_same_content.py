"""Several sources with the same content, name or URL: each content is stored once, no file is written twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from extract.builders import source
from extract.running import NOON, pattern, sha256
from manifestlog.extract import Result

if TYPE_CHECKING:
    from extract.running import Here, Put
    from support.nginx import Nginx

BODY = pattern(100_000)
OTHER = pattern(90_000, 1)


# -- the same content, the same name -----------------------------------------------------------------------------------


def test_known_content_of_another_source_is_an_alias(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    assert here.fetch(put("b.json", BODY), source_id="b").result is Result.ALIAS


def test_known_content_is_not_kept_twice(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("b.json", BODY), source_id="b", dataset="bodies")
    assert here.files == ["systems/a.json"]


def test_an_alias_knows_where_the_content_is(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    outcome = here.fetch(put("b.json", BODY), source_id="b")
    assert outcome.file_path == str(here.record("b").file_path) == str(here.record("a").file_path)


def test_an_alias_has_validators_of_its_own(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("b.json", BODY), source_id="b")
    assert (here.record("a").etag, here.record("b").etag) == tuple(
        f'"{NOON + number:x}-{len(BODY):x}"' for number in range(2)
    )


def test_both_sources_of_a_content_are_unchanged_next_time(here: Here, put: Put) -> None:
    sources = [source(put(f"{name}.json", BODY), source_id=name) for name in "ab"]
    here.run(*sources)
    assert [outcome.result for outcome in here.run(*sources).outcomes] == [Result.UNCHANGED] * 2


def test_a_changed_source_leaves_its_alias_alone(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.fetch(put("b.json", BODY), source_id="b")
    here.fetch(put("a.json", OTHER))
    assert (here.body("a"), here.body("b")) == (OTHER, BODY)


def test_known_content_whose_file_is_gone_is_kept_again(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    here.record().file_path.unlink()
    here.fetch(put("a.json", BODY))
    assert here.body() == BODY


def test_known_content_whose_file_was_cut_is_kept_again(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    os.truncate(here.record().file_path, 10)
    here.fetch(put("a.json", BODY))
    assert here.body() == BODY


def test_known_content_whose_folder_has_become_a_file_is_kept_again(here: Here, put: Put) -> None:
    here.fetch(put("b.json", BODY), source_id="b", dataset="bodies")
    folder, away = here.data_dir / "bodies", here.data_dir / "away"
    folder.rename(away)
    folder.touch()
    outcome = here.fetch(put("a.json", BODY))
    folder.unlink()
    away.rename(folder)
    assert (outcome.result, outcome.file_path) == (Result.ALIAS, str(here.data_dir / "systems" / "a.json"))


def test_two_sources_of_one_file_name_do_not_overwrite_each_other(here: Here, put: Put) -> None:
    here.fetch(put("x/a.json", BODY))
    here.fetch(put("y/a.json", OTHER), source_id="b")
    assert (here.body("a"), here.body("b")) == (BODY, OTHER)
    assert here.files == [f"systems/a-{sha256(OTHER)[:12]}.json", "systems/a.json"]


def test_any_number_of_sources_share_a_file_name(here: Here, put: Put) -> None:
    bodies = {str(number): pattern(1000, number) for number in range(10)}
    here.run(*(source(put(f"{name}/a.json", body), source_id=name) for name, body in bodies.items()))
    assert {name: here.body(name, "star_systems") for name in bodies} == bodies


def test_two_datasets_of_one_source_are_two_sources(here: Here, put: Put) -> None:
    url = put("a.json", BODY)
    here.fetch(url, dataset="systems")
    assert here.fetch(url, dataset="bodies").result is Result.ALIAS


def test_a_source_given_twice_is_fetched_once(here: Here, put: Put, real: Nginx) -> None:
    one = source(put("a.json", BODY))
    here.run(one, one)
    assert real.bodies() == {"/a.json": 1}


# -- many --------------------------------------------------------------------------------------------------------------


def test_a_report_counts_every_source_once(here: Here, put: Put) -> None:
    urls = [put("a.json", BODY), put("b.json", BODY), put("c.json", OTHER), f"{put.real.url}/none"]
    report = here.run(*(source(url, source_id=str(number)) for number, url in enumerate(urls)))
    assert {result: count for result, count in report.counts.items() if count} == {
        Result.NEW: 2, Result.ALIAS: 1, Result.FAILED: 1,
    }  # fmt: skip


def test_a_report_sums_up_bytes_fetched_and_saved(here: Here, put: Put) -> None:
    here.fetch(put("a.json", BODY))
    sources = (source(put.real.url + "/a.json", source_id="a", dataset="systems"), source(put("b.json", OTHER)))
    report = here.run(*sources)
    assert (report.bytes_fetched, report.bytes_saved) == (len(OTHER), len(BODY))


def test_a_source_that_fails_stops_no_other(here: Here, put: Put) -> None:
    report = here.run(source(f"{put.real.url}/none", source_id="b"), source(put("a.json", BODY)))
    assert sorted(outcome.result for outcome in report.outcomes) == [Result.FAILED, Result.NEW]


def test_unknown_sizes_come_first_then_the_largest(here: Here, put: Put) -> None:
    small, large = (source(put(f"{n}.json", pattern(n)), source_id=str(n)) for n in (10, 1000))
    here.run(small, large)
    new = source(put("new.json", pattern(5)), source_id="new")
    assert [outcome.source_id for outcome in here.run(small, large, new).outcomes] == ["new", "1000", "10"]


def test_a_run_of_nothing_is_fine(here: Here) -> None:
    assert here.run().outcomes == []
