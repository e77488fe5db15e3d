"""`runs` and `failures`: what came of each run, and what still fails."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest, records_of
from cli.test_widths import WIDTHS, terminal

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

BAD = SimpleNamespace(source_id="bad\x1b[31m", dataset="data")
both = pytest.mark.parametrize("verb", ["runs", "failures"])


@pytest.fixture
def told(filled: Path, tree: Path) -> Path:
    """The manifest of the three files, after a run that failed for one source, and recovered for another."""
    known = records_of(tree)[0]
    with open_manifest(filled) as manifest, manifest.run("nightly", "1.2") as run:
        manifest.fail(BAD, "GET https://u:p@h/?k=v refused", status=503)
        manifest.fail(SimpleNamespace(source_id="well", dataset="data"), "late")
        manifest.add(known.model_copy(update={"source_id": "well"}))
        run.count("unchanged", 2)
    return filled


@pytest.mark.usefixtures("told")
def test_runs_shows_what_came_of_each(run: Program) -> None:
    head, row = run.here("runs").out.splitlines()
    assert (head.split()[:2], "1 alias, 2 unchanged" in row, row.split()[1], row.split()[-1]) == (
        ["begun", "name"],
        True,
        "nightly",
        "ok",
    )


@pytest.mark.usefixtures("told")
def test_runs_as_json_have_every_member(run: Program) -> None:
    found = run.here("runs", "--json").json
    assert (found["schema_version"], found["runs"][0]["counts"], found["runs"][0]["failed"]) == (
        1,
        {"alias": 1, "unchanged": 2},
        2,
    )


@pytest.mark.usefixtures("told")
def test_failures_shows_what_still_fails(run: Program) -> None:
    _, row = run.here("failures").out.splitlines()
    assert row.endswith("HTTP 503: GET https://***@h/?k=*** refused")


@pytest.mark.usefixtures("told")
def test_failures_of_everybody_include_those_that_recovered(run: Program) -> None:
    found = run.here("failures", "--all", "--json").json["failures"]
    assert [(one["source_id"], one["succeeded"] is None) for one in found] == [("well", False), ("bad\x1b[31m", True)]


@pytest.mark.usefixtures("told")
def test_a_failing_source_is_no_error_unless_asked_for(run: Program) -> None:
    assert (run.here("failures").code, run.here("failures", "--exit-code").code) == (0, 1)


def test_no_failing_source_ends_with_0(run: Program, filled: Path) -> None:
    result = run.here("failures", filled, "--exit-code")
    assert (result.code, result.out) == (0, "")


@both
@pytest.mark.usefixtures("told")
def test_jsonl_is_one_line_for_each_of_the_document(run: Program, verb: str) -> None:
    lines = [json.loads(line) for line in run.here(verb, "--jsonl").out.splitlines()]
    assert lines == run.here(verb, "--json").json[verb]


@both
@pytest.mark.usefixtures("told")
def test_what_was_long_ago_is_left_out(run: Program, verb: str) -> None:
    assert run.here(verb, "--since", "0s", "--json").json == {"schema_version": 1, verb: []}


@both
def test_limit_shows_the_latest(run: Program, told: Path, verb: str) -> None:
    with open_manifest(told) as manifest, manifest.run("later"):
        manifest.fail(SimpleNamespace(source_id="later", dataset="data"), "gone")
    found = run.here(verb, "--limit", 1, "--json").json[verb]
    assert [one.get("name") or one["source_id"] for one in found] == ["later"]


@both
@pytest.mark.usefixtures("told")
def test_a_limit_below_0_is_a_usage_error(run: Program, verb: str) -> None:
    assert run.here(verb, "--limit", -1).code == 2


@pytest.mark.usefixtures("told")
def test_a_limit_does_not_hide_that_a_source_is_failing(run: Program) -> None:
    assert run.here("failures", "--limit", 0, "--exit-code").code == 1


@both
@pytest.mark.usefixtures("told")
def test_what_was_of_late_is_shown(run: Program, verb: str) -> None:
    assert len(run.here(verb, "--since", "1h", "--json").json[verb]) == 1


@both
@pytest.mark.usefixtures("filled")
def test_a_wrong_time_is_a_usage_error(run: Program, verb: str) -> None:
    result = run.here(verb, "--since", "yesterday")
    assert (result.code, one_line(result.err)) == (2, True)


@both
def test_a_damaged_manifest_does_not_hide_the_others(run: Program, told: Path, verb: str) -> None:
    broken = told.with_name("broken_loader.manifest.json")
    run.here("init", "broken_loader", "--process", "loader")
    broken.write_bytes(broken.read_bytes()[:-20])
    result = run.here(verb, "--json")
    assert (result.code, len(result.json[verb])) == (12, 1)


@both
@pytest.mark.usefixtures("filled")
def test_a_missing_manifest_ends_with_10(run: Program, verb: str) -> None:
    assert run.here(verb, "nope_extractor").code == 10


@both
@pytest.mark.usefixtures("told")
def test_a_text_cannot_control_the_terminal(run: Program, verb: str) -> None:
    assert "\x1b" not in run.here(verb).out


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_shows_who_and_how(run: Program, width: int) -> None:
    rows = terminal(run, width, "runs") + terminal(run, width, "failures")
    assert [word in rows for word in ("begun", "nightly", "outcome", "source", "first", "error", "HTTP 503")] == [
        True
    ] * 7


@pytest.mark.parametrize("width", WIDTHS)
def test_a_path_in_an_error_is_whole_at_every_width(run: Program, told: Path, width: int) -> None:
    log = f"/srv/etl/{'a' * 60}/stdout.log"
    with open_manifest(told) as manifest:
        manifest.fail(SimpleNamespace(source_id="bad", dataset="data"), f"exited with 1 (its output: {log}): why")
    assert log in terminal(run, width, "failures")


@both
@pytest.mark.usefixtures("told")
def test_the_real_program_says_the_same(run: Program, verb: str) -> None:
    assert run(verb) == run.here(verb)


@both
def test_a_manifest_that_is_named_twice_counts_once(run: Program, told: Path, verb: str) -> None:
    (one,) = run.here(verb, told, "files_extractor", "--json").json[verb]
    assert (one.get("attempts", 1), one.get("failed", 2)) == (1, 2)
