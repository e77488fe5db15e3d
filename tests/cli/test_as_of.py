"""`--as-of` of `get`, `list`, `cat` and `status`: the answers of an earlier time."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import one_line, open_manifest
from support.records import checksum, make_record

if TYPE_CHECKING:
    from cli.program import Program

NAME = "files_extractor"


@pytest.fixture
def moment(run: Program) -> str:
    """A time at which there was one record; a second one came later, and then the first was forgotten."""
    with open_manifest(run.home / "manifests" / f"{NAME}.manifest.json", compact_on_close=False) as manifest:
        manifest.add(make_record(1))
        time.sleep(0.001)
        found = datetime.now(UTC).isoformat()
        time.sleep(0.001)
        manifest.add(make_record(2))
        manifest.forget(checksum(1))
    return found


def test_list_shows_the_records_of_that_time(run: Program, moment: str) -> None:
    assert [r["checksum"] for r in run("list", NAME, "--as-of", moment, "--json").json] == [checksum(1)]


def test_list_streams_the_records_of_that_time(run: Program, moment: str) -> None:
    lines = run.here("list", NAME, "--as-of", moment, "--jsonl").out.splitlines()
    assert [json.loads(line)["checksum"] for line in lines] == [checksum(1)]


def test_get_finds_a_record_of_that_time(run: Program, moment: str) -> None:
    found = run.here("get", NAME, "--checksum", checksum(1), "--as-of", moment, "--json")
    assert found.json["checksum"] == checksum(1)


def test_get_finds_a_source_of_that_time(run: Program, moment: str) -> None:
    found = run.here("get", NAME, "--source", "source-1", "--as-of", moment, "--json")
    assert found.json["checksum"] == checksum(1)


def test_get_says_at_which_time_there_was_no_record(run: Program, moment: str) -> None:
    result = run.here("get", NAME, "--source", "source-2", "--as-of", moment)
    assert (result.code, f"@{moment[:19]}" in result.err) == (1, True)


def test_cat_prints_the_document_of_that_time(run: Program, moment: str) -> None:
    found: Any = run.here("cat", NAME, "--as-of", moment).json
    assert (list(found["records"]), found["metadata"]["total_records"]) == ([checksum(1)], 1)


def test_cat_of_now_is_cat(run: Program, moment: str) -> None:
    assert run.here("cat", NAME, "--as-of", "0s").out == run.here("cat", NAME).out


def test_status_counts_the_records_of_that_time(run: Program, moment: str) -> None:
    (row,) = run.here("status", "--as-of", moment, "--json").json
    assert (row["total_records"], row["as_of"][:19], row["log_bytes"]) == (1, moment[:19], None)


def test_status_of_that_time_has_no_sizes(run: Program, moment: str) -> None:
    head, row = run.here("status", "--as-of", moment).out.splitlines()
    assert (head.split(), row.split()[:2]) == (
        ["manifest", "records", "updated", "newest", "failed", "state"],
        [NAME, "1"],
    )


VERBS = {
    "get": ["get", NAME, "--source", "source-1"],
    "list": ["list", NAME],
    "cat": ["cat", NAME],
    "status": ["status"],
}


@pytest.mark.parametrize("verb", ["get", "list", "cat"])
def test_a_time_before_the_history_ends_with_1_and_says_its_reach(run: Program, moment: str, verb: str) -> None:
    result = run.here(*VERBS[verb], "--as-of", "2001-01-01")
    assert (result.code, result.out, f"reaches back to {moment[:10]}" in result.err) == (1, "", True)
    assert one_line(result.err)


def test_status_shows_a_time_before_the_history_in_the_manifests_row(run: Program, moment: str) -> None:
    result = run.here("status", "--as-of", "2001-01-01")
    assert (result.code, f"reaches back to {moment[:10]}" in result.out) == (1, True)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wrong", ["2999-01-01", "yesterday", "", "7", "2024-13-01"])
def test_no_time_and_a_time_in_the_future_are_usage_errors(run: Program, moment: str, verb: str, wrong: str) -> None:
    result = run.here(*VERBS[verb], "--as-of", wrong)
    assert (result.code, result.out, "--as-of" in result.err) == (2, "", True)


@pytest.mark.parametrize("verb", ["get", "list", "cat"])
def test_a_missing_manifest_ends_with_10(run: Program, verb: str) -> None:
    assert run.here(*VERBS[verb], "--as-of", "1h").code == 10


def test_the_error_is_one_json_object_with_json(run: Program, moment: str) -> None:
    error = run.here("list", NAME, "--as-of", "2001-01-01", "--json").error
    assert (error["error"], error["exit_code"]) == ("HistoryReachError", 1)


def test_it_works_where_nothing_can_be_written(run: Program, moment: str) -> None:
    folder = run.home / "manifests"
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    run.here("cat", NAME, "--as-of", moment)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
