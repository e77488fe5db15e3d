"""`diff`: two manifests or two times on the command line, with the exit codes of diff."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest, unread
from support.records import checksum, make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

NAME = "files_extractor"


@pytest.fixture
def path(home: Path) -> Path:
    return home / "manifests" / f"{NAME}.manifest.json"


@pytest.fixture
def moment(path: Path) -> str:
    """A time at which there were records 1 and 2. Then 3 came, 1 was forgotten and 2 got another ETag."""
    with open_manifest(path, compact_on_close=False) as manifest:
        manifest.add_many([make_record(1), make_record(2)])
        time.sleep(0.001)
        found = datetime.now(UTC).isoformat()
        time.sleep(0.001)
        manifest.add(make_record(3))
        manifest.forget(checksum(1))
        manifest.add(make_record(2).model_copy(update={"etag": '"new"'}))
    return found


def test_one_argument_compares_that_time_with_now(run: Program, path: Path, moment: str) -> None:
    result = run("diff", f"{NAME}@{moment}")
    *lines, last = result.out.splitlines()
    rows = sorted(line.split("\t") for line in lines)
    assert [row[:3] for row in rows] == [
        ["added", "systems", "source-3"],
        ["changed", "systems", "source-2"],
        ["gone", "systems", "source-1"],
    ]
    assert rows[1][3] == 'etag: "2" -> "new"'
    assert last.endswith("differ; sources: 1 added, 1 changed, 1 gone; contents: 1 added, 1 changed, 1 gone")
    assert (result.code, result.err) == (1, "")


def test_two_times_are_compared(run: Program, moment: str) -> None:
    assert run.here("diff", f"{NAME}@{moment}", f"{NAME}@{moment}").code == 0


def test_the_same_is_0_and_says_so(run: Program, path: Path, moment: str) -> None:
    result = run.here("diff", NAME, NAME)
    assert (result.code, result.out) == (0, f"{path} and {path} are the same\n")


def test_quiet_says_only_what_differs(run: Program, moment: str) -> None:
    assert run.here("diff", NAME, NAME, "--quiet").out == ""
    assert len(run.here("diff", f"{NAME}@{moment}", "--quiet").out.splitlines()) == 3


def test_json_has_sources_contents_and_counts(run: Program, path: Path, moment: str) -> None:
    found = run.here("diff", f"{NAME}@{moment}", "--json").json
    assert (found["schema_version"], found["different"], found["after"]) == (1, True, str(path))
    assert {one["change"]: one["checksum"] for one in found["contents"]} == {
        "added": checksum(3),
        "changed": checksum(2),
        "gone": checksum(1),
    }
    (changed,) = [one for one in found["sources"] if one["change"] == "changed"]
    assert (changed["members"], changed["before"]["etag"], changed["after"]["etag"]) == (["etag"], '"2"', '"new"')
    assert found["counts"]["sources"] == {"added": 1, "changed": 1, "gone": 1}


def test_json_of_the_same_is_whole(run: Program, moment: str) -> None:
    found = run.here("diff", NAME, NAME, "--json").json
    assert (found["sources"], found["contents"], found["metadata"], found["different"]) == ([], [], [], False)


def test_jsonl_says_what_each_line_is_of(run: Program, moment: str) -> None:
    result = run.here("diff", f"{NAME}@{moment}", "--jsonl")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, sorted(line["of"] for line in lines)) == (1, ["content"] * 3 + ["source"] * 3)


def test_metadata_are_compared(run: Program, path: Path) -> None:
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
        time.sleep(0.001)
        moment = datetime.now(UTC).isoformat()
        time.sleep(0.001)
        manifest.relocate(path.parent, "/elsewhere")
    result = run.here("diff", f"{NAME}@{moment}")
    assert (result.code, result.out.splitlines()[0]) == (1, f"changed\t-\t-\troot_dir: {path.parent} -> /elsewhere")


def test_a_path_may_contain_an_at(run: Program, home: Path) -> None:
    path = home / "me@home" / "a_b.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add(make_record(1))
    assert run.here("diff", path, f"{path}@0s").code == 0


def test_a_name_cannot_break_a_row(run: Program, path: Path) -> None:
    with open_manifest(path) as manifest:
        moment = datetime.now(UTC).isoformat()
        time.sleep(0.001)
        manifest.add(make_record(1, source="two\nlines\t\x1b[31m"))
    assert "added\tsystems\ttwo\\nlines\\t\\x1b[31m\t" in run.here("diff", f"{NAME}@{moment}").out


WRONG = [
    [NAME],
    [f"{NAME}@"],
    [f"{NAME}@soon"],
    [f"{NAME}@2999-01-01"],
    ["Bad@1h"],
    [NAME, "x"],
    [NAME, f"{NAME}@7"],
    ["@"],
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_a_usage_error(run: Program, moment: str, wrong: list[str]) -> None:
    result = run.here("diff", *wrong)
    assert (result.code, result.out, one_line(result.err)) == (2, "", True)


def test_a_time_before_the_history_is_trouble(run: Program, moment: str) -> None:
    result = run.here("diff", f"{NAME}@2001-01-01")
    assert (result.code, "reaches back to" in result.err, one_line(result.err)) == (2, True, True)


def test_trouble_is_one_json_object_with_json(run: Program, moment: str) -> None:
    error = run.here("diff", f"{NAME}@2001-01-01", "--json").error
    assert (error["error"], error["exit_code"]) == ("HistoryReachError", 2)


def test_a_missing_manifest_ends_with_10(run: Program, moment: str) -> None:
    assert run.here("diff", NAME, "none_extractor").code == 10


def test_a_damaged_manifest_ends_with_12(run: Program, path: Path, moment: str) -> None:
    other = path.with_name("other_extractor.manifest.json")
    other.write_text("{}", encoding="ascii")
    assert run.here("diff", NAME, "other_extractor").code == 12


def test_nobody_reading_is_no_error(run: Program, moment: str) -> None:
    assert unread(run, "diff", f"{NAME}@{moment}") == (1, "")
