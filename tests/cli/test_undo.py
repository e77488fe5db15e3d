"""`undo` on the command line: to a time, one change, a run; and what it says."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cli.program import one_line, open_manifest, unread
from support.records import checksum, make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

NAME = "files_extractor"


class Bad(NamedTuple):
    """Records 1 and 2 were there; then a run forgot 1, changed 2 and added 3."""

    moment: str
    run: str
    change: str
    """The cursor of the forget."""
    path: Path


@pytest.fixture
def bad(home: Path) -> Bad:
    path = home / "manifests" / f"{NAME}.manifest.json"
    with open_manifest(path, compact_on_close=False) as manifest:
        manifest.add_many([make_record(1), make_record(2)])
        time.sleep(0.001)
        moment = datetime.now(UTC).isoformat()
        time.sleep(0.001)
        with manifest.run("nightly") as run:
            manifest.forget(checksum(1))
            (forgotten,) = manifest.history(kinds=["forget"])
            manifest.add(make_record(2).model_copy(update={"etag": '"new"'}))
            manifest.add(make_record(3))
    return Bad(moment, run.id, forgotten.cursor, path)


def listed(run: Program) -> dict[str, str]:
    return {record["checksum"]: record["etag"] for record in run.here("list", NAME, "--json").json}


BEFORE = {checksum(1): '"1"', checksum(2): '"2"'}


def test_everything_after_a_time_is_undone(run: Program, bad: Bad) -> None:
    assert run("undo", NAME, "--to", bad.moment).code == 0
    assert listed(run) == BEFORE


def test_a_run_is_undone(run: Program, bad: Bad) -> None:
    assert run.here("undo", NAME, "--run", bad.run).code == 0
    assert listed(run) == BEFORE


def test_one_change_is_undone(run: Program, bad: Bad) -> None:
    assert run.here("undo", NAME, "--change", bad.change).code == 0
    assert sorted(listed(run)) == sorted([checksum(1), checksum(2), checksum(3)])


def test_it_says_what_it_did_and_how_to_undo_it(run: Program, bad: Bad) -> None:
    *lines, end = run.here("undo", NAME, "--run", bad.run).out.splitlines()
    assert sorted(lines) == [
        f"changed back  systems/source-2: {checksum(2)[:12]} /srv/etl/raw/2.json.gz",
        f"put back      systems/source-1: {checksum(1)[:12]} /srv/etl/raw/1.json.gz",
        f"removed       systems/source-3: {checksum(3)[:12]} /srv/etl/raw/3.json.gz",
    ]
    assert (
        f"{bad.path}: contents that were changed: 1 put back, 1 changed back, 1 removed; undo this with --run " in end
    )


def test_the_undo_is_undone_as_it_says(run: Program, bad: Bad) -> None:
    before = listed(run)
    again = run.here("undo", NAME, "--run", bad.run, "--json").json["undo_run"]
    run.here("undo", NAME, "--run", again)
    assert listed(run) == before


def test_a_dry_run_writes_nothing(run: Program, bad: Bad) -> None:
    before = {path.name: path.read_bytes() for path in bad.path.parent.iterdir() if path.is_file()}
    result = run.here("undo", NAME, "--run", bad.run, "--dry-run")
    assert (result.code, "contents that would be changed: 1 put back, 1 changed back, 1 removed\n" in result.out) == (
        0,
        True,
    )
    assert {path.name: path.read_bytes() for path in bad.path.parent.iterdir() if path.is_file()} == before


def test_json_has_each_content_before_and_after(run: Program, bad: Bad) -> None:
    found = run.here("undo", NAME, "--to", bad.moment, "--json").json
    assert (found["schema_version"], found["manifest"], found["run"], found["dry_run"]) == (
        1,
        str(bad.path),
        None,
        False,
    )
    contents = {one["change"]: one for one in found["contents"]}
    assert contents["changed"]["after"]["etag"] == '"2"'
    assert (contents["added"]["before"], contents["gone"]["after"]) == (None, None)


def test_log_shows_the_undo(run: Program, bad: Bad) -> None:
    run.here("undo", NAME, "--change", bad.change)
    (event,) = run.here("log", NAME, "--kind", "undo", "--json").json["events"]
    assert (event["checksum"], event["undoes"]) == (checksum(1), f"change {bad.change}")


def test_quiet_says_nothing(run: Program, bad: Bad) -> None:
    assert run.here("undo", NAME, "--run", bad.run, "--quiet") == (0, "", "")


def test_nothing_to_undo_is_said(run: Program, bad: Bad) -> None:
    assert run.here("undo", NAME, "--to", "0s").out == f"{bad.path}: nothing to undo\n"


def test_a_later_change_is_named_and_refused(run: Program, bad: Bad) -> None:
    run.here("forget", NAME, checksum(3))
    with open_manifest(bad.path) as manifest:
        manifest.add(make_record(3))
    result = run.here("undo", NAME, "--run", bad.run)
    assert (result.code, f"{checksum(3)} was changed again at" in result.err, one_line(result.err)) == (1, True, True)


def test_force_undoes_it_all_the_same(run: Program, bad: Bad) -> None:
    with open_manifest(bad.path) as manifest:
        manifest.add(make_record(3, source="later"))
    assert run.here("undo", NAME, "--run", bad.run, "--force").code == 0
    assert listed(run) == BEFORE


def test_many_contents_are_shown_in_short(run: Program, bad: Bad) -> None:
    with open_manifest(bad.path) as manifest, manifest.run("many") as many:
        manifest.add_many(make_record(number) for number in range(10, 40))
    lines = run.here("undo", NAME, "--run", many.id).out.splitlines()
    assert (len(lines), lines[20]) == (22, "… and 10 more; --json lists all")


WRONG = [
    [],
    ["--to", "2h", "--run", "r"],
    ["--to", "soon"],
    ["--to", "2999-01-01"],
    ["--change", "x"],
    ["--change", ""],
    ["--change", "00000000.1.0"],
    ["--run", "\udcff"],
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_option_is_a_usage_error(run: Program, bad: Bad, wrong: list[str]) -> None:
    result = run.here("undo", NAME, *wrong)
    assert (result.code, result.out, one_line(result.err)) == (2, "", True)


@pytest.mark.parametrize(("option", "value"), [("--run", "none"), ("--to", "2001-01-01")])
def test_what_is_not_there_ends_with_1(run: Program, bad: Bad, option: str, value: str) -> None:
    result = run.here("undo", NAME, option, value)
    assert (result.code, one_line(result.err)) == (1, True)


def test_a_missing_manifest_ends_with_10(run: Program) -> None:
    assert run.here("undo", "none_extractor", "--to", "2h").code == 10


def test_nobody_reading_does_not_stop_it(run: Program, bad: Bad) -> None:
    assert unread(run, "undo", NAME, "--run", bad.run) == (0, "")
    assert listed(run) == BEFORE
