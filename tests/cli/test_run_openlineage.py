"""`run --openlineage`: each stage of a run is a job whose runs are sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cli.program import one_line
from cli.test_run import CONFIG, configure, stage
from support.openlineage_rules import violations

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


def _configured(run: Program) -> None:
    (run.home / "a.txt").write_text("first", encoding="ascii")
    assert run.here("add", "files_raw", "a.txt", "--quiet").code == 0
    configure(run.home, stage("upper", "files_raw"), stage("count", "upper"))


def _events(path: Path) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [violations(event) for event in events] == [[]] * len(events)
    return [(event["job"]["name"], event["eventType"]) for event in events]


def test_each_stage_that_does_something_is_sent(run: Program) -> None:
    _configured(run)
    assert run("run", CONFIG, "--openlineage", "lineage.jsonl", "--quiet").code == 0
    expected = [(name, state) for name in ("upper", "count") for state in ("START", "COMPLETE")]
    assert _events(run.home / "lineage.jsonl") == expected


def test_a_run_with_nothing_to_do_sends_nothing(run: Program) -> None:
    _configured(run)
    assert run.here("run", CONFIG, "--quiet").code == 0
    assert run.here("run", CONFIG, "--openlineage", "lineage.jsonl", "--quiet").code == 0
    assert _events(run.home / "lineage.jsonl") == []


def test_a_file_that_cannot_be_written_is_told_before_anything_is_done(run: Program) -> None:
    _configured(run)
    result = run.here("run", CONFIG, "--openlineage", "missing/lineage.jsonl", "--quiet")
    assert (result.code, one_line(result.err)) == (1, True)
    assert not (run.home / "data").exists()
