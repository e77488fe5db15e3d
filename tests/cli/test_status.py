"""`status`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest, records_of

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


def test_one_row_per_manifest(run: Program, filled: Path) -> None:
    run.here("init", "other_loader", "--process", "loader")
    result = run.here("status")
    head, *rows = [line.split() for line in result.out.splitlines()]
    assert head == ["manifest", "records", "canonical", "log", "segments", "history", "updated", "failed", "state"]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("files_extractor", "3", "ok"), ("other_loader", "0", "ok")]
    assert [row["name"] for row in run.here("status", "other_loader", "--json").json] == ["other_loader"]
    row = run.here("--json", "status", filled).json[0]
    assert row["total_records"] == 3
    assert row["canonical_bytes"] == filled.stat().st_size
    assert row["log_bytes"] == sum(p.stat().st_size for p in filled.parent.glob("files*.wal-*"))
    assert row["reason"] is None


def test_records_in_the_log_are_reported(run: Program, filled: Path, tree: Path) -> None:
    (tree / "new.txt").write_bytes(b"new")
    with open_manifest(filled, compact_on_close=False) as manifest:
        manifest.add_many(records_of(tree))
        # Read beside a writer that is alive.
        row = run("status", "--json").json[0]
    assert (row["state"], row["total_records"]) == ("to merge", 4)


def test_a_damaged_manifest_among_sound_ones(run: Program, filled: Path) -> None:
    run("init", "good_loader", "--process", "loader")
    filled.write_bytes(filled.read_bytes()[:-20])
    result = run("status")
    assert result.code == 12
    assert "files_extractor" in result.out
    assert "damaged: " in result.out
    assert "good_loader" in result.out
    assert one_line(result.err)
    rows = {row["name"]: row for row in run("status", "--json").json}
    assert rows["files_extractor"]["state"] == "damaged"
    assert "byte" in rows["files_extractor"]["reason"]
    assert rows["good_loader"]["state"] == "ok"


def test_a_lost_canonical_beside_its_log_is_shown(run: Program, filled: Path) -> None:
    filled.unlink()
    result = run("status", "--json")
    assert result.code == 12
    assert [row["state"] for row in result.json] == ["damaged"]
    assert result.json[0]["log_bytes"] > 0


def test_an_empty_directory_is_reported_and_ends_with_0(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    result = run("status")
    assert (result.code, result.out) == (0, "")
    assert "no manifests" in result.err
    assert run("status", "--json").json == []
    (home / "manifests").rmdir()
    assert run("status").code == 0


def test_a_named_manifest_must_exist(run: Program, filled: Path) -> None:
    result = run.here("status", "nope_extractor", filled)
    assert result.code == 10
    assert one_line(result.err)
    assert "files_extractor" in result.out
    assert run.here("--dir", "nowhere", "status").code == 10
    assert run("status", MANIFESTLOG_DIR="nowhere").code == 10


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_is_reported_and_skipped(run: Program) -> None:
    result = run("status", "--json")
    assert ([row["name"] for row in result.json], result.code) == (["files_extractor"], 0)
    assert one_line(result.err)
    assert "backup-2024.json" in result.err


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_cannot_be_named(run: Program) -> None:
    result = run("status", "a_latest")
    assert (result.code, one_line(result.err)) == (2, True)


def test_failing_sources_are_counted(run: Program, filled: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.fail(SimpleNamespace(source_id="bad", dataset="data"), "gone")
    (row,) = run.here("status", "--json").json
    assert (row["failed_sources"], row["state"]) == (1, "ok")
