"""`log`: what happened, streamed, the latest first."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest, records_of
from cli.test_widths import terminal
from support.records import make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

BAD = SimpleNamespace(source_id="bad", dataset="data")


@pytest.fixture
def told(filled: Path, tree: Path) -> Path:
    """The manifest of the three files, with a run in which one source failed, and a record that was forgotten."""
    with open_manifest(filled) as manifest:
        with manifest.run("nightly", "1.2") as run:
            manifest.fail(BAD, "GET https://u:p@h/?k=v\n\x1b[31mfailed", status=500)
            run.count("unchanged", 2)
        manifest.forget(records_of(tree)[0].checksum)
    return filled


def words(run: Program, *arguments: object) -> list[str]:
    """The second column: what happened."""
    return [line.split("\t")[1] for line in run.here("log", "files_extractor", *arguments).out.splitlines()]


@pytest.mark.usefixtures("told")
def test_the_latest_event_comes_first(run: Program) -> None:
    assert words(run) == ["forget", "ended", "failed", "begun", "new", "new", "new"]


@pytest.mark.usefixtures("told")
def test_reverse_shows_the_earliest_event_first(run: Program) -> None:
    assert words(run, "--reverse") == ["new", "new", "new", "begun", "failed", "ended", "forget"]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--source", "bad", ["failed"]),
        ("--source", "nobody", []),
        ("--dataset", "data", ["forget", "failed", "new", "new", "new"]),
        ("--kind", "failed", ["failed"]),
        ("--kind", "new", ["new", "new", "new"]),
        ("--kind", "changed", []),
        ("--limit", 2, ["forget", "ended"]),
        ("--since", "1h", ["forget", "ended", "failed", "begun", "new", "new", "new"]),
        ("--until", "2024-01-01", []),
    ],
)
def test_a_filter_leaves_only_what_it_names(run: Program, option: str, value: object, expected: list[str]) -> None:
    assert words(run, option, value) == expected


@pytest.mark.usefixtures("told")
def test_kinds_may_be_repeated(run: Program) -> None:
    assert words(run, "--kind", "begun", "--kind", "ended") == ["ended", "begun"]


@pytest.mark.usefixtures("told")
def test_the_id_of_a_run_finds_its_events(run: Program) -> None:
    found = json.loads(run.here("log", "files_extractor", "--kind", "begun", "--jsonl").out)
    assert words(run, "--run", found["run"]) == ["ended", "failed", "begun"]


@pytest.mark.usefixtures("told")
def test_a_whole_checksum_finds_a_forgotten_content(run: Program, tree: Path) -> None:
    assert words(run, "--checksum", records_of(tree)[0].checksum) == ["forget", "new"]


@pytest.mark.usefixtures("told")
def test_six_digits_stand_for_a_recorded_content(run: Program, tree: Path) -> None:
    assert words(run, "--checksum", records_of(tree)[1].checksum[:6].upper()) == ["new"]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--checksum", "abc"), "64 hexadecimal digits"),
        (("--checksum", "no digits"), "64 hexadecimal digits"),
        (("--checksum", "0000000"), "no record begins with 0000000"),
        (("--kind", "snapshot"), "expected put"),
        (("--kind", "lost"), "derived, new, duplicate, refreshed, alias, changed, reverted"),
        (("--since", "yesterday"), "ISO date"),
        (("--until", "tomorrow"), "--until"),
        (("--source", ""), "must not be empty"),
        (("--source", "\udc80"), "UTF-8"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_a_wrong_value_is_a_usage_error(run: Program, options: tuple[str, ...], named: str) -> None:
    result = run.here("log", "files_extractor", *options)
    assert (result.code, named in result.err, one_line(result.err)) == (2, True, True)


@pytest.mark.usefixtures("told")
def test_json_is_one_document_of_all_events(run: Program) -> None:
    found = run.here("log", "--json", "--kind", "failed").json
    assert (found["schema_version"], [event["error"] for event in found["events"]]) == (
        1,
        ["GET https://***@h/?k=*** [31mfailed"],
    )


@pytest.mark.usefixtures("told")
def test_json_of_no_events_is_a_document(run: Program) -> None:
    assert run.here("log", "--json", "--source", "nobody").json == {"schema_version": 1, "events": []}


@pytest.mark.usefixtures("told")
def test_jsonl_is_one_line_for_each_event_of_the_document(run: Program) -> None:
    lines = run.here("log", "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == run.here("log", "--json").json["events"]


@pytest.mark.usefixtures("told")
def test_verbose_adds_the_run_and_the_cursor(run: Program) -> None:
    event = run.here("log", "files_extractor", "--jsonl", "--kind", "failed").out
    line = run.here("log", "files_extractor", "--verbose", "--kind", "failed").out
    assert line.split()[-2:] == [json.loads(event)["run"], json.loads(event)["cursor"]]


def test_several_manifests_are_merged_by_time(run: Program, told: Path, tree: Path) -> None:
    with open_manifest(told.with_name("other_extractor.manifest.json")) as other:
        other.add(records_of(tree)[0])
    with open_manifest(told) as manifest:
        manifest.fail(BAD, "again")
    lines = [line.split("\t") for line in run.here("log").out.splitlines()]
    assert [(line[1], line[-1]) for line in lines[:3]] == [
        ("failed", "files_extractor"),
        ("new", "other_extractor"),
        ("forget", "files_extractor"),
    ]


def test_a_change_of_a_path_shows_both(run: Program, filled: Path, tree: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.relocate(tree, "/srv/new")
    assert f"{tree}/a.txt → /srv/new/a.txt\n" in run.here("log", "files_extractor", "--kind", "relocate").out


def test_an_alias_shows_the_path_of_its_own_source(run: Program, filled: Path, tree: Path) -> None:
    with open_manifest(filled) as manifest:
        (known, *_) = records_of(tree)
        manifest.add(known.model_copy(update={"source_id": "copy", "file_path": tree / "copy"}))
    assert run.here("log", "files_extractor", "--limit", 1).out.endswith(f"copy\t{tree}/copy\n")


def test_a_name_cannot_break_a_line(run: Program, filled: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.fail(SimpleNamespace(source_id="two\nlines\x1b[31m\t", dataset="\x9b"), "why")
    out = run.here("log", "files_extractor", "--limit", 1).out
    assert (out.count("\n"), out.count("\t"), "\x1b" in out, "\x9b" in out) == (1, 4, False, False)


@pytest.mark.parametrize("option", ["--no-progress", "--json", "--jsonl"])
def test_a_closed_pipe_ends_it_quietly(run: Program, option: str) -> None:
    path = run.home / "manifests" / "many_extractor.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add_many(make_record(number) for number in range(5000))
    command = f"{sys.executable} -m manifestlog log {path} {option} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "0")


def test_a_damaged_manifest_does_not_hide_the_others(run: Program, told: Path) -> None:
    run.here("init", "good_loader", "--process", "loader")
    told.write_bytes(told.read_bytes()[:-20])
    result = run.here("log", "--json")
    assert (result.code, one_line(result.err), result.json["schema_version"]) == (12, True, 1)


def test_a_missing_manifest_ends_with_10(run: Program, filled: Path) -> None:
    assert (run.here("log", "nope_extractor").code, run.here("log", "nope_extractor", filled).code) == (10, 10)


def test_an_empty_directory_says_so(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    result = run.here("log")
    assert (result.code, result.out, "no manifests" in result.err) == (0, "", True)


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("width", [60, 200])
def test_a_terminal_of_any_width_shows_every_word(run: Program, width: int) -> None:
    shown = terminal(run, width, "log", "files_extractor", "--kind", "failed").replace("\r\n", " ")
    assert "failed     data      bad           HTTP 500: GET https://***@h/?k=*** [31mfailed" in shown


def test_reading_leaves_no_trace(run: Program, told: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in told.parent.iterdir()}
    run.here("log")
    assert {p.name: p.stat().st_mtime_ns for p in told.parent.iterdir()} == before
