"""`list` and `cat`: everything at once, streamed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest, records_of
from support.records import make_record

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


def test_list_prints_one_row_per_record_sorted_by_checksum(run: Program, filled: Path, tree: Path) -> None:
    rows = [line.split("\t") for line in run("list", filled).out.splitlines()]
    expected = sorted(records_of(tree), key=lambda record: record.checksum)
    assert [row[0] for row in rows] == [record.checksum for record in expected]
    assert [row[3:] for row in rows] == [[r.dataset, r.source_id, str(r.file_path)] for r in expected]
    assert [int(row[2]) for row in rows] == [record.file_size for record in expected]


def test_list_json_is_an_array_and_jsonl_lines_of_the_same(run: Program, filled: Path, tree: Path) -> None:
    array = run.here("list", filled, "--json").json
    lines = run.here("list", filled, "--jsonl").out.splitlines()
    assert array == [json.loads(line) for line in lines]
    assert sorted(r["checksum"] for r in array) == sorted(r.checksum for r in records_of(tree))
    assert run.here("list", filled, "--json", "--source", "nope").json == []
    assert run.here("list", filled, "--jsonl", "--limit", 0).out == ""


def test_filters_match_other_observations_too(run: Program, filled: Path, tree: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.add_many(records_of(tree, source_id="late", dataset="copies", ts_downloaded="2024-06-01T00:00:00Z"))
    assert len(run.here("list", filled, "--source", "a.txt").out.splitlines()) == 1
    assert "\tdata\ta.txt\t" in run.here("list", filled, "--source", "a.txt").out
    assert len(run.here("list", filled, "--dataset", "data", "--jsonl").out.splitlines()) == 3
    assert run.here("list", filled, "--dataset", "data", "--since", "2024-05-02", "--json").json == []
    assert len(run.here("list", filled, "--dataset", "copies", "--since", "2024-05-02T00:00:00Z", "--json").json) == 3


def test_since_takes_durations_and_times(run: Program, filled: Path) -> None:
    for since, count in (("2024-05-01", 3), ("2024-05-01T12:00:00+00:00", 3), ("2024-05-01T12:00:01", 0), ("2h", 0)):
        assert len(run.here("list", filled, "--since", since, "--json").json) == count, since
    result = run.here("list", filled, "--since", "yesterday")
    assert result.code == 2
    assert "ISO" in result.err
    assert one_line(result.err)


def test_a_name_cannot_break_a_row(run: Program, tree: Path) -> None:
    (tree / "two\nlines\x1b[31m").write_bytes(b"odd")
    assert run("add", "files_extractor", tree).code == 0
    out = run("list", "files_extractor").out
    assert len(out.splitlines()) == 4
    assert "\x1b" not in out
    assert "two\nlines\x1b[31m" in [r["source_id"] for r in run("list", "files_extractor", "--json").json]


@pytest.mark.parametrize("verb", [("list",), ("cat",), ("list", "--json")])
def test_a_closed_pipe_ends_it_quietly(run: Program, verb: tuple[str, ...]) -> None:
    path = run.home / "manifests" / "many_extractor.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add_many(make_record(number) for number in range(5000))
    command = f"{sys.executable} -m manifestlog {' '.join(verb)} {path} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_cat_prints_what_a_compaction_would_write(run: Program, filled: Path, tree: Path) -> None:
    (tree / "new.txt").write_bytes(b"new")
    with open_manifest(filled, compact_on_close=False) as manifest:
        manifest.add_many(records_of(tree))
        manifest.forget(records_of(tree)[0].checksum)
    live = run.here("cat", "files_extractor").out
    assert live != filled.read_text()
    assert run.here("compact", "files_extractor").code == 0
    assert live == filled.read_text()
    assert run.here("cat", "files_extractor").out == live


def test_cat_of_an_empty_manifest(run: Program) -> None:
    run.here("init", "a_b")
    assert run.here("cat", "a_b").out == (run.home / "manifests" / "a_b.manifest.json").read_text()


def test_reading_leaves_no_trace(run: Program, filled: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in filled.parent.iterdir()}
    for verb in ("list", "cat", "status"):
        assert run.here(verb, filled).code == 0
    assert {p.name: p.stat().st_mtime_ns for p in filled.parent.iterdir()} == before
